"""How much memory this process holds, and how little of what it has freed."""

import ctypes
import mmap
import sys
import time
from collections.abc import Mapping
from pathlib import Path

_STATM = Path("/proc/self/statm")
# glibc keeps what is freed, in eight heaps for each core, and the more the larger it was. Few heaps, and blocks of a
# megabyte beside them, go back to the system; other C libraries know nothing of these.
_HEAPS, _LARGE = 2, 1 << 20
LOOK_SECONDS = 10.0
MUCH = 8 << 20  # bytes
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of malloc.h
SMALL_HEAP: Mapping[str, str] = {
    "MALLOC_ARENA_MAX": str(_HEAPS),
    "MALLOC_MMAP_THRESHOLD_": str(_LARGE),
    "MALLOC_TRIM_THRESHOLD_": str(_LARGE),
}


def keep_small() -> None:
    """What SMALL_HEAP in its environment does for a process, for this one: before it starts threads."""
    if libc := _glibc():
        libc.mallopt(_M_ARENA_MAX, _HEAPS)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)


def give_back() -> None:
    """Return what has been freed to the system, where the C library (glibc) keeps it otherwise."""
    if libc := _glibc():
        libc.malloc_trim(0)


class Heap:
    """This process' memory, looked at often: what was freed goes back while there is always something to do."""

    def __init__(self) -> None:
        self._looked = time.monotonic()
        self._least = 0  # bytes in memory after the last return

    def look(self) -> None:
        """Every ten seconds, see whether much was added, and return what of it is free: that takes milliseconds."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if resident_memory() > self._least + MUCH:
            give_back()
            self._least = resident_memory()


def resident_memory() -> int:
    """Bytes of this process that are in memory."""
    if _STATM.is_file():
        return int(_STATM.read_text().split()[1]) * mmap.PAGESIZE
    import psutil

    return int(psutil.Process().memory_info().rss)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if libc and hasattr(libc, "malloc_trim") else None
