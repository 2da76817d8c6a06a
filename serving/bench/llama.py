"""llama.cpp in a process of its own, to be measured beside ours: `python -m serving.bench.llama` is that process.

One user has what llama-cpp-python gives: a prompt's beginning that is cached is used. The answers of several are made
in one pass, as llama.cpp's own server does.
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

    def __init__(self, file: Path, length: int, threads: int, users: int = 1, command: Sequence[str] = CHILD) -> None:
        if not file.is_file():
            raise ModelFolderError(f"{file} is not there: --against takes a GGUF file.")
        self.name, self.threads, self.size = "llama.cpp", threads, file.stat().st_size
        self.most_users = users
        self._process = started(command)
        setup = {"path": str(file), "length": length, "threads": threads, "users": users}
        try:
            self.vocab_size = int(self._asked(setup)["vocab_size"])
        except BaseException:
            self.close()
            raise

    def answers(self, prompts: Sequence[TokenIds], count: int) -> list[Answer]:
        """See Runner."""
        begun = time.perf_counter()
        said = self._asked({"prompts": [prompt.tolist() for prompt in prompts], "count": count})["answers"]
        whole = time.perf_counter() - begun
        return [
            Answer(
                prompt.size, each["cached_tokens"], tuple(each["token_ids"]), each["prefill_seconds"], whole,
                each["prefill_seconds"], each["decode_seconds"],
            )
            for prompt, each in zip(prompts, said, strict=True)
        ]  # fmt: skip

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
        model = GgufChat(Path(setup["path"]), setup["length"], setup["threads"], setup["users"])
    except ServingError as error:
        say({"error": str(error)})
        return
    say({"vocab_size": model.vocab_size})
    for line in sys.stdin:
        asked = json.loads(line)
        prompts, count = [np.asarray(prompt, np.int32) for prompt in asked["prompts"]], asked["count"]
        try:
            answers = model.together(prompts, count) if len(prompts) > 1 else [model.answer(prompts[0], count)]
            say({"answers": [*map(asdict, answers)]})
        except ServingError as error:
            say({"error": str(error)})


if __name__ == "__main__":
    main()
