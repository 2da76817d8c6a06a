"""A worker with a real model whose forward passes go wrong: `python -m tests.engine.faulty FAULT FOLDER`.

It goes wrong as long as the folder has a file of the fault's name.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving.engine import worker
from serving.engine.oga import OgaRuntime
from serving.engine.runtime import Slot
from serving.types import TokenIds


class Panic(BaseException):
    """What a library written in Rust raises, for one."""


def compute(seconds: float) -> None:
    """A pass of a large model: it computes, and lets nobody else have the interpreter."""
    sys.setswitchinterval(1000)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    sys.setswitchinterval(0.005)


def raising(error: type[BaseException]) -> Callable[[], None]:
    """A pass that fails."""

    def fail() -> None:
        raise error("on purpose")

    return fail


FAULTS: dict[str, Callable[[], Any]] = {
    "waits": lambda: time.sleep(1000),
    "waits with the lock": lambda: ctypes.PyDLL(None).sleep(1000),
    "slow": lambda: compute(3),
    "computes for ever": lambda: compute(1000),
    "no memory": raising(MemoryError),
    "panic": raising(Panic),
    "crash": os.abort,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as where memory runs out
}


def main() -> None:
    """Be the worker, with the fault in every pass; "start": it ends before it has loaded."""
    fault, switch = sys.argv[1], Path(sys.argv[2]) / sys.argv[1]
    if fault == "start" and switch.exists():
        sys.exit(3)
    forward = OgaRuntime.forward

    def faulty(runtime: OgaRuntime, batch: Sequence[tuple[Slot, TokenIds]]) -> None:
        if fault in FAULTS and switch.exists():
            FAULTS[fault]()
        while fault == "held" and switch.exists():
            time.sleep(0.01)
        forward(runtime, batch)

    OgaRuntime.forward = faulty  # type: ignore[method-assign]
    worker.main()


if __name__ == "__main__":
    main()
