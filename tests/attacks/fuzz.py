"""The page's events with every field of their bodies made hostile, from a seed.

    python -m tests.attacks.fuzz FOLDER [--count 20000] [--seed 1]

FOLDER: the exported demo. Nothing may be answered with a 5xx, leave a traceback or a word of what was sent on stderr,
open a file or a connection that a request names, or keep a file.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.attacks.client import CANARY, Target
from tests.attacks.page import config_of, fuzzed, pipe
from tests.attacks.program import Program

AT_ONCE = 4


@contextmanager
def secret_files(folder: Path) -> Iterator[Mapping[str, str]]:
    """Files that no answer may show, by path, with the words that would show them."""
    canary = folder / "canary.txt"
    canary.write_text("the words of a file that nobody may read")
    yield {str(canary): canary.read_text(), "/etc/passwd": Path("/etc/passwd").read_text().splitlines()[0]}


def fuzz(program: Program, files: Mapping[str, str], seed: int, count: int) -> Target:
    """Send so many bodies; what came of them."""
    target = Target(program.port, time.monotonic() + 3600, files=files)

    async def all_of_them() -> None:
        config = await config_of(target)
        parts = (fuzzed(target, random.Random(f"{seed} {n}"), count // AT_ONCE, config) for n in range(AT_ONCE))
        await asyncio.gather(*parts)

    asyncio.run(all_of_them())
    return target


def faults(program: Program, target: Target) -> list[str]:
    """What a fuzzed server should not have done; empty if all is well."""
    errors = program.errors
    named = (*target.files, "/dev/zero", "/proc/self/environ", pipe(), CANARY, "('127.0.0.1', 9)")
    opened = [line for line in program.opened.splitlines() if any(name in line for name in named)]
    checks = {
        "answers": {k: n for k, n in target.answers.items() if k.startswith("5") or k in ("no answer", "closed")},
        "secrets in answers": target.seen,
        "opened": opened[:10],
        "kept": program.written[:10],
        "what was sent on stderr": errors.count(CANARY),
        "tracebacks": errors.count("Traceback"),
        "dead": not program.alive,
    }
    return [f"{name}: {found}" for name, found in checks.items() if found]


def main() -> int:
    """Fuzz, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as work, secret_files(Path(work)) as files:
        program = Program(flags.folder, Path(work), watched=True)
        try:
            began = time.monotonic()
            target = fuzz(program, files, flags.seed, flags.count)
            found = faults(program, target)
        finally:
            program.kill()
    print(f"{flags.count} bodies in {time.monotonic() - began:.0f} s: {dict(target.answers)}")
    print("\n".join(found) or "no fault")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
