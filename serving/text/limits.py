"""What one piece of work may take of this process: time, and memory where the system can bound it."""

import faulthandler
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.hardware import available_memory

LEAST_MEMORY = 1 << 28  # bytes that any work may take, even where less is free
_STATM = Path("/proc/self/statm")


@contextmanager
def limited(seconds: float, memory: int) -> Iterator[None]:
    """End this process where the work takes longer; fail what takes more than so many bytes, or half of what is free.

    In Python that is a MemoryError, and libraries end the process.
    """
    # A thread that needs no lock of the interpreter's, which a single call may hold for ever.
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            # To find out how much is free takes longer than to write a short conversation out.
            most = memory if memory <= LEAST_MEMORY else max(LEAST_MEMORY, available_memory() // 2)
            with _bounded(min(memory, most)):
                yield
        finally:
            faulthandler.cancel_dump_traceback_later()


@contextmanager
def _bounded(more: int) -> Iterator[None]:
    """So many bytes beyond those that this process has; no bound where the system has none that counts all of them."""
    if not _STATM.is_file():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    bound = int(_STATM.read_text().split()[5]) * mmap.PAGESIZE + more
    bound = min(bound, *(limit for limit in before if limit != resource.RLIM_INFINITY), bound)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
