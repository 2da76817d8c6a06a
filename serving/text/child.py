"""One text process, from its start to its end. Whoever uses it is the only one; but anybody may kill it."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from serving.processes import started

MOST_REPLY = 1 << 26  # bytes; a window of a million tokens has 8 million
Line = dict[str, Any]


class Late(Exception):
    """The process has not replied in time, and was killed."""


class Ended(Exception):
    """The process has ended without a reply, or said what makes no sense and was killed."""


class Child:
    """A process that replies to each line with one. setup: its first line, which has no reply of its own."""

    def __init__(self, command: Sequence[str], setup: Line) -> None:
        self._process = started(command)
        self.pid = self._process.pid
        with suppress(OSError):  # it has ended, as will be seen
            self._write(json.dumps(setup).encode() + b"\n")

    @property
    def ended(self) -> bool:
        """Whether it has ended, by itself or killed."""
        return self._process.poll() is not None

    def reply(self, seconds: float, line: bytes = b"") -> Line:
        """The next thing it says, within so many seconds; to a line, if there is one. Raises Late, Ended."""
        assert self._process.stdout
        said = b""
        with self._killed_after(seconds) as late, suppress(OSError, ValueError):
            self._write(line)
            said = self._process.stdout.readline(MOST_REPLY)
        if late.is_set():
            raise Late
        try:
            reply = json.loads(said)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            self.kill()
            raise Ended
        return reply

    def kill(self) -> None:
        """End it, from any thread, at once."""
        self._process.kill()

    def close(self) -> None:
        """End it, and wait for that."""
        self.kill()
        self._process.wait()
        assert self._process.stdin and self._process.stdout
        self._process.stdout.close()
        with suppress(OSError):  # what it did not live to read
            self._process.stdin.close()

    def _write(self, line: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(line)
        self._process.stdin.flush()

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[threading.Event]:
        """Its pipes end with the process, so nobody waits for them longer. The event is set if it was late."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()
