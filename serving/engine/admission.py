"""How many answers an engine takes on. Beyond that it says no at once, and when it is worth asking again."""

import math
import threading
import time
from collections import Counter

from serving.engine.fairness import Clients
from serving.errors import Busy, InvalidRequest


class Admission:
    """The places of an engine: so many answers are made at a time, and so many more wait. For any number of threads.

    places: all of them. Where several clients ask, none of them gets the last quarter.
    """

    def __init__(self, parallel: int, queue: int) -> None:
        self.places = parallel + queue
        self._parallel = parallel
        self._taken: Counter[str] = Counter()  # by client
        self._clients = Clients()
        self._seconds_per_answer = 1.0
        self._lock = threading.Lock()

    def enter(self, answers: int = 1, client: str = "") -> None:
        """Take a place for each of a client's answers, or none. Raises Busy; InvalidRequest for more than there are."""
        with self._lock:
            if answers > self.places:
                raise InvalidRequest(
                    f"{answers} answers were asked for at once, and there are {self.places} places here, those that "
                    "wait included: ask for fewer, or start with a longer --queue."
                )
            now = time.monotonic()
            self._clients.came(client, now)
            kept = self.places // 4 if self._clients.several(now, self._taken) else 0
            full = self._taken.total() + answers > self.places
            if full or self._taken[client] + answers > self.places - kept:
                running, waiting = self._counts()
                retry_after = self._seconds_per_answer * (1 + waiting / self._parallel)
                why = "" if full else f", and the last {kept} of {self.places} places are for others who ask"
                raise Busy(
                    f"{running} answers are being made and {waiting} wait{why}: try again in about "
                    f"{math.ceil(retry_after)} s, or start with a longer --queue.",
                    retry_after,
                )
            self._taken[client] += answers

    def leave(self, seconds: float, client: str = "") -> None:
        """Give back the place of one answer, which has taken so long."""
        with self._lock:
            self._taken[client] -= 1
            self._taken += Counter()  # drops those who have none
            self._seconds_per_answer += 0.2 * (seconds - self._seconds_per_answer)

    def counts(self) -> tuple[int, int]:
        """How many answers are being made, and how many wait."""
        with self._lock:
            return self._counts()

    def _counts(self) -> tuple[int, int]:
        taken = self._taken.total()
        running = min(taken, self._parallel)
        return running, taken - running
