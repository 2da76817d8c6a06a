"""Whose turn it is at what one at a time may use: clients take turns, however many of one's requests wait."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

asking: ContextVar[str] = ContextVar("asking", default="")  # the client whose request this thread or task works on
_OFTEN_SECONDS = 0.02
_SHARE = 0.75  # of the places, for one client: the others are for others


class Turns:
    """So many may wait or have their turn, one of them at a time. Safe to use from any number of threads."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()  # never held over anything that waits
        self._queues: dict[str, deque[threading.Event]] = {}  # by client, who is next first
        self._counts: dict[str, int] = {}  # those that wait or have their turn, by client
        self._taken = False

    @property
    def taken(self) -> int:
        """How many wait or have their turn."""
        return sum(self._counts.values())

    def acquire(self, seconds: float) -> bool:
        """Wait for a turn, no longer than this; False where there is no place to wait, or it did not come."""
        client, mine = asking.get(), threading.Event()
        with self._lock:
            count = self._counts.get(client, 0)
            most = max(1, self._places * _SHARE) if client else self._places
            if self.taken >= self._places or count >= most:
                return False
            self._counts[client] = count + 1
            if not self._taken:
                self._taken = True
                return True
            self._queues.setdefault(client, deque()).append(mine)
        if mine.wait(seconds):
            return True
        with self._lock:
            if mine.is_set():  # meanwhile
                return True
            self._queues[client].remove(mine)
            self._leave(client)
        return False

    @contextmanager
    def always(self) -> Iterator[None]:
        """A turn, whoever waits and for however long."""
        while not self.acquire(_OFTEN_SECONDS):
            time.sleep(_OFTEN_SECONDS)  # there was no place
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """The turn is over, on the thread that had it; it goes to a request of the next client."""
        with self._lock:
            self._leave(asking.get())
            self._queues = {client: queue for client, queue in self._queues.items() if queue}
            if not self._queues:
                self._taken = False
                return
            client = next(iter(self._queues))
            queue = self._queues.pop(client)
            queue.popleft().set()
            self._queues[client] = queue  # behind the others

    def _leave(self, client: str) -> None:
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]
