"""One process of the engine, from its start to its end: its pipes, and those who wait for what it says.

Only its own two threads ever wait for a pipe. The writer takes lines from a queue, and the reader does nothing but hand
over what comes; so neither can wait for the other, however full the pipes are.
"""

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from queue import SimpleQueue

from serving.engine.watch import Patience, Watch
from serving.engine.wire import OUT_OF_MEMORY, Batch, Line, Sink, batch_of, encoded, error_of, is_last
from serving.errors import EngineStopped
from serving.hardware import effort_of
from serving.processes import started
from serving.types import EngineStatus

WORKER = (sys.executable, "-m", "serving.engine.worker")
KILL_SECONDS = 2.0  # what a killed process has to be gone; one that waits for a disk may take longer


class Child:
    """A process that was told what to load. Safe to use from any number of threads; nothing but `close` waits.

    hello: its first line, once `heard` is set: what it has loaded, or why it has not; empty if it ended without one.
    answered: whether it has brought any answer to its end. status: what it last said.
    ended: is called once, on whichever thread finds out, with why, and gives what those who still wait are told.
    """

    def __init__(
        self, command: Sequence[str], setup: Line, patience: Patience, ended: Callable[["Child", str], str]
    ) -> None:
        self.hello: Line = {}
        self.heard = threading.Event()
        self.answered = False
        self.status: EngineStatus | None = None
        self._ended = ended
        self._watch = Watch(patience)
        self._why: str | None = None
        self._over = False
        self._moved = self._ponged = False  # since the last look
        self._pong: threading.Event | None = None  # of the ping that is under way
        self._pings = itertools.count(-1, -1)  # their own ids
        self._sinks: dict[int, Sink] = {}
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._lock = threading.Lock()  # never held over anything that waits
        self._process = started(command)
        self.pid = self._process.pid
        self.tell(setup)
        self._used = time.monotonic()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._write, "engine requests"), (self._read, "engine replies"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def loaded(self) -> bool:
        """Whether it has said that it is ready."""
        return "context_length" in self.hello

    @property
    def idle(self) -> bool:
        """Whether it has nothing to answer."""
        return not self._sinks

    @property
    def used(self) -> float:
        """When it last had something to answer, on the monotonic clock."""
        return self._used

    def tell(self, line: Line) -> None:
        """Have a line written that is not replied to."""
        self._lines.put(encoded(line))

    def ask(self, number: int, line: bytes, sink: Sink) -> None:
        """Have a request written; `sink` gets the answer. A process that has ended takes none: see `ended`."""
        with self._lock:
            self._sinks[number] = sink
            self._used = time.monotonic()
        self._lines.put(line)

    def cancel(self, numbers: Iterable[int]) -> None:
        """Say that nobody waits for these answers any more. Each still has a last chunk, and its place until then."""
        for number in numbers:
            if number in self._sinks:
                self.tell({"cancel": number})

    def ping(self) -> threading.Event:
        """Ask for `status`, unless that was done and the reply is still to come; what is returned is set by it."""
        with self._lock:
            if self._pong is None:
                self._pong = threading.Event()
                self._lines.put(encoded({"status": next(self._pings)}))
            return self._pong

    def idle_seconds(self) -> float:
        """How long it has had nothing to answer; 0 where it has, or is not ready."""
        with self._lock:
            return 0.0 if self._sinks or not self.loaded else time.monotonic() - self._used

    def look(self, seconds: float) -> str | None:
        """What it has done for too long, or None; `seconds` since the last look. See Watch."""
        with self._lock:
            replied = self._ponged and (self._moved or not self._sinks)
            if replied:
                self._moved = self._ponged = False
        if self.loaded:
            self.ping()
        return self._watch.look(seconds, replied, effort_of(self.pid), loading=not self.loaded)

    def end(self, why: str) -> None:
        """Kill it, and tell those who wait."""
        self._why = self._why or why
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # its memory is to be free before another one is started
            self._process.wait(KILL_SECONDS)
        self._tell_the_end(self._why)

    def close(self, seconds: float = 0.0) -> None:
        """End it, and its threads with it. seconds: for it to end by itself, once those who wait have been told."""
        if seconds and self.loaded:
            self._tell_the_end(self._why or "was closed")
            self._lines.put(None)  # closes its stdin
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.end("was closed")
        for thread in self._threads:
            thread.join(KILL_SECONDS)

    def _write(self) -> None:
        assert self._process.stdin
        with suppress(OSError), self._process.stdin as pipe:  # it did not live to read this
            while (line := self._lines.get()) is not None:
                pipe.write(line)
                pipe.flush()

    def _read(self) -> None:
        assert self._process.stdout
        try:
            with self._process.stdout as pipe:
                for line in pipe:
                    if line.endswith(b"\n"):  # one that was killed may leave half a line
                        self._hear(json.loads(line))
        finally:
            self._lines.put(None)
            self._tell_the_end(self._obituary())

    def _hear(self, reply: Line) -> None:
        if "id" not in reply:
            self.hello, self._used = reply, time.monotonic()
            self.heard.set()
        elif "status" in reply:
            self.status = EngineStatus(**reply["status"])
            with self._lock:
                self._ponged, pong, self._pong = True, self._pong, None
            if pong:
                pong.set()
        else:
            self._hand_over(reply["id"], batch_of(reply))

    def _hand_over(self, number: int, batch: Batch) -> None:
        with self._lock:
            self._moved = True
            last = is_last(batch)
            sink = self._sinks.pop(number, None) if last else self._sinks.get(number)
            self._used = time.monotonic()
        self.answered = self.answered or (last and isinstance(batch, list) and batch[-1].finish_reason != "cancelled")
        if sink is not None:
            sink(batch)

    def _obituary(self) -> str:
        try:
            code = self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:  # it has closed its output and lives on
            self._process.kill()
            code = self._process.wait()
        if self._why:
            return self._why
        if "error" in self.hello:
            return f"could not load the model ({error_of(self.hello)})"
        if code == OUT_OF_MEMORY:
            return "ran out of memory"
        killed = code == -getattr(signal, "SIGKILL", 9)
        return "was killed, most likely because memory ran out" if killed else f"ended with exit code {code}"

    def _tell_the_end(self, why: str) -> None:
        with self._lock:
            if self._over:
                return
            self._over, self._why = True, why
        told = self._ended(self, why)
        with self._lock:
            left = list(self._sinks.values())
            self._sinks.clear()
        with ExitStack() as telling:  # each of them, whatever another one does
            telling.callback(self.heard.set)
            for sink in left:
                telling.callback(sink, EngineStopped(told))
