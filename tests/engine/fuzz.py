"""Lines that no parent would write, for the engine's process: it answers or passes over each, and reads on.

    python -m tests.engine.fuzz FOLDER [--lines 20000] [--seed 0]

Each line is a good one that was spoilt: cut short, other bytes, other types, numbers beyond all bounds, a hundred
thousand brackets. Every request among them that has an id is replied to, and between them a good one is answered.
"""

import argparse
import json
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from serving.engine.wire import encoded
from serving.types import EngineSettings, Grammar, SamplingOptions

SECONDS = 60.0  # for what does not hang
ODD: Sequence[Any] = (
    None, True, False, 0, -1, 1.5, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, float("nan"), float("inf"),
    "", "x", "\ud800", "\0", "9" * 30, "long " * 20_000,
    [], [None], [[1, 2], [3]], [1.5], [-1], [10**6], [2**40], list(range(5000)),
    {}, {"id": 1}, {"kind": "regex", "text": "("}, {"kind": "json_schema", "text": '{"maximum": ' + "9" * 40 + "}"},
)  # fmt: skip
WHOLE = (
    b"", b" ", b"\0", b"null", b"[]", b"1", b'"x"', b"{", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000,
    b"[" * 50_000 + b"]" * 50_000, b"1" * 10_000, b'{"id": 1e999}', b"x" * (8 << 20), b'{"id": ' + b"9" * 5000 + b"}",
)  # fmt: skip


def good(number: int, tokens: int = 3) -> dict[str, Any]:
    """A request that is answered."""
    options = SamplingOptions(temperature=0.0, max_tokens=tokens)
    return {"id": number, "tokens": [1, 5, 6, 7, 8], "options": asdict(options)}


def rich(number: int) -> dict[str, Any]:
    """A request with everything that can be spoilt."""
    options = SamplingOptions(
        temperature=1.0, top_k=5, top_p=0.9, seed=1, max_tokens=4, stop=("so",), logit_bias=((5, 1.0),), logprobs=2,
        grammar=Grammar("regex", "[0-9]{3}"),
    )  # fmt: skip
    return {"id": number, "tokens": [1, 5, 6, 7, 8], "options": asdict(options)}


def spoilt(rng: random.Random, number: int) -> bytes:
    """One line, without its end."""
    if rng.random() < 0.05:
        return rng.choice(WHOLE)
    line: Any = rng.choice([rich, rich, rich, good, *({"cancel": number}, {"status": number}, {"end_ids": [2]})])
    line = line(number) if callable(line) else dict(line)
    if rng.random() < 0.8:
        for _ in range(rng.randint(1, 2)):
            _change(rng, line)
    text = json.dumps(line).encode()
    if rng.random() < 0.3:
        at = rng.randrange(len(text))
        text = rng.choice([text[:at], text[at:], text[:at] + bytes(rng.choices(range(256), k=4)) + text[at:], text * 2])
    return text


def _change(rng: random.Random, line: dict[str, Any]) -> None:
    """Change one value, of the line or of one deep in it; or take it away."""
    holder: Any = line
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        if not keys:
            return
        key = rng.choice(keys)
        if not (isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.7):
            break
        holder = holder[key]
    if rng.random() < 0.1:
        del holder[key]
    else:
        holder[key] = deepcopy(rng.choice(ODD))


def asks(line: bytes) -> int | None:
    """The id of a line that must be replied to."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or request.keys() & {"end_ids", "status", "cancel"}:
        return None
    return request["id"] if type(request.get("id")) is int else None


class Worker:
    """The engine's process, and what it has replied."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.engine.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._ends: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._first = threading.Event()
        self.kinds: Counter[str] = Counter()
        threading.Thread(target=self._read, daemon=True).start()
        self.write(encoded({"path": str(folder), "settings": asdict(EngineSettings())}))
        assert self._first.wait(SECONDS)

    def write(self, line: bytes) -> None:
        """Write a line, with its end."""
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def ended(self, wanted: set[int]) -> None:
        """Wait until each of these requests has had its last reply."""
        left = set(wanted)
        while left:
            try:
                number, kind = self._ends.get(timeout=SECONDS)
            except Empty:
                raise AssertionError(f"no end of {left}") from None
            left.discard(number)
            self.kinds[kind] += 1

    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def close(self) -> int:
        """Close its input; its exit code."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        code = self._process.wait(SECONDS)
        self._process.stdout.close()
        return code

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            reply = json.loads(line)
            self._first.set()
            if "error" in reply:
                self._ends.put((reply["id"], reply["error"]))
            elif "chunks" in reply and (finish := reply["chunks"][-1][8]):
                self._ends.put((reply["id"], finish))


def fuzz(folder: Path, lines: int, seed: int, every: int = 25) -> Counter[str]:
    """Write spoilt lines; how the requests among them ended. AssertionError where one has no end."""
    rng, worker = random.Random(seed), Worker(folder)
    for begin in range(1000, 1000 + lines, every):
        due: set[int] = set()
        for number in range(begin, begin + every):
            line = spoilt(rng, number)
            due |= {asked for part in line.split(b"\n") if (asked := asks(part)) is not None}
            worker.write(line + b"\n")
        for number in due:
            worker.write(encoded({"cancel": number}))  # it may have become endless
        worker.ended(due)
        worker.write(encoded(good(begin - 1)) + encoded({"status": 0}))
        worker.ended({begin - 1})
        assert worker.alive()
    assert worker.close() == 0
    return worker.kinds


def main() -> None:
    """Fuzz, and print how the requests ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    for kind, times in fuzz(flags.folder, flags.lines, flags.seed).most_common():
        print(f"{times:7,} {kind}")


if __name__ == "__main__":
    main()
