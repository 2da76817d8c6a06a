"""What a process holds of what it has freed."""

import subprocess
import sys

from serving.heap import SMALL_HEAP, resident_memory

# Blocks of 2 MiB, freed below one that stays. A larger one, freed before, is what makes glibc keep them.
FREED_BELOW = """
import os, sys
from serving.heap import keep_small, resident_memory
if sys.argv[1] == "small":
    keep_small()
large = b"x" * (24 << 20)
del large
before = resident_memory()
blocks = [b"x" * (2 << 20) for _ in range(16)]
stays = [b"x" * 1000 for _ in range(1000)]
blocks.clear()
print(resident_memory() - before)
"""


def held(environment: dict[str, str], how: str = "usual") -> int:
    """Bytes that such a process holds then."""
    ran = subprocess.run(
        [sys.executable, "-c", FREED_BELOW, how], env=environment, capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def test_what_was_freed_goes_back() -> None:
    usual = held({})
    assert held(dict(SMALL_HEAP)) < usual / 4
    assert held({}, "small") < usual / 4


def test_resident_memory_is_in_bytes() -> None:
    before = resident_memory()
    taken = bytearray(b"x") * (64 << 20)
    assert resident_memory() - before > len(taken) // 2
