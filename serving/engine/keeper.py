"""The engine's process kept alive: one that hangs is ended, and one that has ended is started again."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from serving.engine.child import Child
from serving.engine.watch import Patience, pause_before_start
from serving.engine.wire import Line, error_of
from serving.errors import EngineStopped
from serving.heap import Heap


class Keeper:
    """Starts a process and waits until it has loaded; from then on there is one, or it is known when.

    hello: what the first one said that it had loaded. Raises what it could not load for, EngineStopped if it ended.
    idle_seconds: without a request, after which the process ends until there is one again. on_demand: the first one is
    started by a request too, and one that cannot load is not tried again before the next. closing_seconds: for it to
    end by itself when it is no longer needed.
    """

    def __init__(
        self,
        command: Sequence[str],
        setup: Line,
        patience: Patience,
        idle_seconds: float | None = None,
        on_demand: bool = False,
        closing_seconds: float = 0.0,
    ) -> None:
        self._command, self._setup, self._patience = command, setup, patience
        self._idle_seconds, self._on_demand, self._unloaded = idle_seconds, on_demand, on_demand
        self._closing_seconds = closing_seconds
        self._lock = threading.Lock()  # never held over anything that waits
        self._closing = threading.Event()
        self._loaded = on_demand
        self._failures = 0  # processes in a row that ended without a whole answer
        self._why, self._again_at = "", 0.0  # while there is no child: why, and when there will be one
        self._child: Child | None = None
        self.hello: Line = {}
        if not on_demand:
            self._child = self._started()
            self.hello = self._first_words(self._child)
            with self._lock:
                self._loaded = True
        self._thread = threading.Thread(target=self._keep, name="engine watch", daemon=True)
        self._thread.start()

    @contextmanager
    def child(self) -> Iterator[Child]:
        """The process, which is not replaced while this is open: for nothing that waits.

        One that was unloaded is started. Raises EngineStopped while there is none.
        """
        with self._lock:
            if self._closing.is_set():
                raise EngineStopped("the engine is closed.")
            if self._unloaded:
                self._unloaded = False
                self._start_again()
            if self._child is None:
                raise EngineStopped(f"the engine process {self._why}; {self._next()}.")
            yield self._child

    @property
    def unloaded(self) -> bool:
        """Whether there is no process because nobody has asked for anything."""
        return self._unloaded

    @property
    def loading(self) -> bool:
        """Whether there is a process that has not said yet that it is ready."""
        child = self._child
        return child is not None and not child.loaded

    @property
    def pid(self) -> int | None:
        """Its id; None while there is no process."""
        child = self._child
        return child.pid if child else None

    def use(self) -> tuple[bool, float] | None:
        """Whether the process has nothing to answer, and when it last had; None while it is unloaded.

        The time is that of the monotonic clock.
        """
        with self._lock:
            if self._unloaded:
                return None
            return (True, 0.0) if self._child is None else (self._child.idle, self._child.used)

    def unload(self) -> bool:
        """End the process until there is a request; False, and nothing is done, while it has something to answer."""
        with self._lock:
            child = self._child
            if child and not child.idle:
                return False
            self._child, self._unloaded = None, True
        if child:
            child.close(self._closing_seconds)
        return True

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self._closing.set()
            child, self._child = self._child, None
        if child:
            child.close(self._closing_seconds)
        self._thread.join()

    def _started(self) -> Child:
        return Child(self._command, self._setup, self._patience, self._ended)

    def _first_words(self, child: Child) -> Line:
        try:
            child.heard.wait()
        except BaseException:  # Ctrl+C
            self._closing.set()
            child.close()
            raise
        if not child.loaded:
            self._closing.set()
            child.close()
            raise error_of(child.hello) if child.hello else EngineStopped(f"the engine process {self._why}.")
        return child.hello

    def _ended(self, child: Child, why: str) -> str:
        """Start another process, or say when; gives what those are told who waited for this one."""
        with self._lock:
            told = f"the engine process {why}."
            if self._loaded and child is not self._child:  # it was unloaded, and there may be another by now
                return told
            self._child, self._why = None, why
            if self._closing.is_set() or not self._loaded:
                return told
            if self._on_demand and not child.loaded:
                self._unloaded = True
            else:
                self._failures = 0 if child.answered else self._failures + 1
                pause = pause_before_start(self._failures)
                self._again_at = time.monotonic() + pause
                if not pause:
                    self._start_again()
                told = f"the engine process {why}; {self._next()}."
        print(f"note: {told}", file=sys.stderr, flush=True)
        return told

    def _next(self) -> str:
        if self._child:
            return "it is being started again"
        return f"it is started again in {max(0.0, self._again_at - time.monotonic()):.0f} s"

    def _start_again(self) -> None:
        try:
            self._child = self._started()
        except (OSError, RuntimeError) as error:  # no memory for another process, or for its threads
            self._failures += 1
            self._why = f"cannot be started ({error})"
            self._again_at = time.monotonic() + max(1.0, pause_before_start(self._failures))

    def _keep(self) -> None:
        """Once a tick: end a process that hangs, start one that is due."""
        looked, heap = time.monotonic(), Heap()
        while not self._closing.wait(self._patience.tick):
            now = time.monotonic()
            with self._lock:
                due = self._child is None and not self._unloaded and now >= self._again_at
                if due and not self._closing.is_set():
                    self._start_again()
                child, limit = self._child, self._idle_seconds
                is_idle = child is not None and limit is not None and child.idle_seconds() >= limit
                if is_idle:
                    self._child, self._unloaded = None, True
            if child and is_idle:  # by now somebody may have had another one started
                print("note: nobody asks for anything: the model is unloaded.", file=sys.stderr, flush=True)
                child.close(self._closing_seconds)
            elif child and (why := child.look(now - looked)):
                child.end(why)
            looked = now
            heap.look()  # of the server's process: nothing else of it wakes up as regularly
