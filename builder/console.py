"""How a program of ours ends: by Ctrl+C at any moment, by a mistake of its user, or for want of a library."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from builder.errors import BuildError

_OWN = {"app", "builder", "serving"}


def exit_code(error: BaseException, *mistakes: type[Exception], stopped: str = "stopped.") -> int:
    """Say in one line on stderr what ended the program; the code to exit with. Raises what is a mistake of ours.

    mistakes: errors that the user can mend, besides BuildError.
    """
    if isinstance(error, KeyboardInterrupt):
        print(f"\n{stopped}", file=sys.stderr)
        return 130
    if isinstance(error, ImportError) and str(error.name).partition(".")[0] not in _OWN:
        reason = str(error).strip().partition("\n")[0]
        print(
            f"error: {error.name} cannot be imported ({reason}): 'pip install -e .' in the folder of oga-chat installs "
            "what is missing.",
            file=sys.stderr,
        )
        return 2
    if isinstance(error, (BuildError, *mistakes)):
        print(f"error: {error}", file=sys.stderr)
        return 2
    raise error


@contextmanager
def interrupts_end_it() -> Iterator[None]:
    """Ctrl+C ends the program where it stands while this is open: for imports, which leave nothing behind.

    A KeyboardInterrupt would be lost where it happens to be raised in a callback of the garbage collector, of which
    every import has one, and some libraries turn it into an error of their own.
    """
    with _handled(_end, signal.SIGINT):
        yield


@contextmanager
def interrupts_raise() -> Iterator[None]:
    """Ctrl+C raises KeyboardInterrupt while this is open: for work that has something to clear away."""
    with _handled(signal.default_int_handler, signal.SIGINT):
        yield


@contextmanager
def signals_call(stop: Callable[[], None], seconds: float | None = None) -> Iterator[list[int]]:
    """Ctrl+C and SIGTERM call `stop` while this is open; yields those that came. A second one raises KeyboardInterrupt.

    An exception at the first would be lost in a callback of the garbage collector.
    seconds: from the first to the end of the program; without them, a thread that is blocked would keep it for ever.
    """
    came: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        came.append(number)
        stop()
        if seconds is not None and len(came) == 1:
            end_within(seconds)
        if len(came) > 1:
            raise KeyboardInterrupt

    with _handled(handler, signal.SIGINT, signal.SIGTERM):
        yield came


def end_within(seconds: float) -> None:
    """End the program after so long, in any case."""
    timer = threading.Timer(seconds, _end, [signal.SIGINT, None])
    timer.daemon = True
    timer.start()


def confirmed(question: str, yes: bool) -> bool:
    """Whether the user agrees. Raises BuildError where nobody can be asked.

    yes: they have said so already.
    """
    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty()):
        raise BuildError("nothing was done: this is no terminal to ask on. Say --yes where you agree.")
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _end(_: int, __: FrameType | None) -> None:
    os.write(2, b"\nstopped.\n")
    os._exit(130)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
