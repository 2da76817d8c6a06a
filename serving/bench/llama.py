"""llama.cpp in a process of its own, to be measured beside ours: `python -m serving.bench.llama` is that process.

It has what llama-cpp-python gives one user: a prompt's beginning that is cached is used, users wait for each other.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from serving.bench.runners import Answer, Memory, memory_of
from serving.errors import EngineStopped, ModelFolderError, ServingError
from serving.processes import started
from serving.types import TokenIds

CHILD = (sys.executable, "-m", "serving.bench.llama")
END_SECONDS = 2.0


class LlamaRunner:
    """A GGUF file. length: of prompt and answer together, in tokens. Raises ModelFolderError."""

    most_users = 1

    def __init__(self, file: Path, length: int, threads: int, command: Sequence[str] = CHILD) -> None:
        if not file.is_file():
            raise ModelFolderError(f"{file} is not there: --against takes a GGUF file.")
        self.name, self.threads, self.size = "llama.cpp", threads, file.stat().st_size
        self._process = started(command)
        try:
            self.vocab_size = int(self._asked({"path": str(file), "length": length, "threads": threads})["vocab_size"])
        except BaseException:
            self.close()
            raise

    def answers(self, prompts: Sequence[TokenIds], count: int) -> list[Answer]:
        """See Runner."""
        found = []
        for prompt in prompts:
            begun = time.perf_counter()
            said = self._asked({"tokens": prompt.tolist(), "count": count})
            whole = time.perf_counter() - begun
            reading = said["prefill_seconds"]
            made, decoding = tuple(said["token_ids"]), said["decode_seconds"]
            found.append(Answer(prompt.size, said["cached_tokens"], made, reading, whole, reading, decoding))
        return found

    def memory(self) -> Memory:
        """See Runner."""
        return memory_of(self._process.pid)

    def close(self) -> None:
        """See Runner."""
        self._process.kill()
        self._process.wait(END_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _asked(self, line: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except OSError:
            reply = b""
        if not reply.endswith(b"\n"):
            raise EngineStopped(f"llama.cpp's process ended (exit code {self._process.wait(END_SECONDS)}).")
        said: dict[str, Any] = json.loads(reply)
        if "error" in said:
            raise ModelFolderError(said["error"])
        return said


def main() -> None:
    """The child: load, then answer line by line, until there are none."""
    from serving.gguf import GgufChat

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    setup = json.loads(sys.stdin.readline())
    try:
        model = GgufChat(Path(setup["path"]), setup["length"], setup["threads"])
    except ServingError as error:
        say({"error": str(error)})
        return
    say({"vocab_size": model.vocab_size})
    for line in sys.stdin:
        asked = json.loads(line)
        say(asdict(model.answer(np.asarray(asked["tokens"], np.int32), asked["count"])))


if __name__ == "__main__":
    main()
