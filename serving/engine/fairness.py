"""Nobody is kept waiting by how much somebody else asks for. Clients are names; `now` is in seconds, of any clock."""

from collections import Counter
from collections.abc import Iterable, Sequence

LATELY_SECONDS = 60.0  # after its last request, in which a client still counts as somebody who may ask


class Clients:
    """Who has asked lately."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def came(self, client: str, now: float) -> None:
        """A client asks for an answer."""
        self._seen = {name: then for name, then in self._seen.items() if now - then < LATELY_SECONDS}
        self._seen[client] = now

    def several(self, now: float, also: Iterable[str] = ()) -> bool:
        """Whether there is more than one, those counted who have something now."""
        return len({name for name, then in self._seen.items() if now - then < LATELY_SECONDS}.union(also)) > 1


def next_of(waiting: Sequence[str], active: Sequence[str], slots: int, several: bool) -> int | None:
    """Which of those that wait gets a slot: the first of the client that has fewest; None where nobody does.

    waiting, active: the client of each request. several: whether there are several clients. The last slot is then for
    one that has none yet: it need not wait until an answer of another's ends.
    """
    if not waiting or len(active) >= slots:
        return None
    held = Counter(active)
    first = min(range(len(waiting)), key=lambda index: held[waiting[index]])
    kept = several and held[waiting[first]] > 0 and len(active) == slots - 1
    return None if kept else first
