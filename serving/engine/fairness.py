"""Whose request gets a slot next: nobody is kept waiting by how much somebody else asks for."""

from collections import Counter
from collections.abc import Sequence

LATELY_SECONDS = 60.0  # after its last request, in which a client still counts as somebody who may ask


class Turns:
    """The order of those who wait for one of `parallel` slots. Clients are names; `now` is in seconds, of any clock."""

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._seen: dict[str, float] = {}

    def came(self, client: str, now: float) -> None:
        """A client has asked for an answer."""
        self._seen = {name: then for name, then in self._seen.items() if now - then < LATELY_SECONDS}
        self._seen[client] = now

    def next(self, waiting: Sequence[str], active: Sequence[str], now: float) -> int | None:
        """Which of those that wait gets a slot: the first of the client that has fewest; None where nobody does.

        waiting, active: the client of each request. Where there are several clients, the last slot is for one that has
        none yet: it need not wait until an answer of another's ends.
        """
        if not waiting or len(active) >= self._parallel:
            return None
        held = Counter(active)
        first = min(range(len(waiting)), key=lambda index: held[waiting[index]])
        lately = {name for name, then in self._seen.items() if now - then < LATELY_SECONDS}
        several = len(lately.union(waiting, active)) > 1
        kept = several and held[waiting[first]] > 0 and len(active) == self._parallel - 1
        return None if kept else first
