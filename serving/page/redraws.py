"""How often what is being answered is drawn: the answers of all pages share it, as each redraw costs the server the
same milliseconds of the one interpreter that serves everybody."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 0.04  # between two of an answer, however fast the model is
FAST = 2  # answers that are drawn so often, at a time
LONGEST_SECONDS = 0.5  # that an answer stands still, however many there are


class Redraws:
    """Counts the answers that are drawn now. For any threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """For as long as an answer is made."""
        with self._lock:
            self._drawn += 1
        try:
            yield
        finally:
            with self._lock:
                self._drawn -= 1

    @property
    def seconds(self) -> float:
        """Between two redraws of one of them."""
        return min(LONGEST_SECONDS, SECONDS * max(1.0, self._drawn / FAST))
