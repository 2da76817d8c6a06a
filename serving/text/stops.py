"""What may be shown now and what must wait: stop strings that arrive in pieces."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class StopStrings:
    """Holds back text that may turn out to be the beginning of a stop string. met: the one that ended the text.

    shown: whether the stop string itself may be shown.

    >>> stops = StopStrings(("END",))
    >>> stops.feed("so far E"), stops.feed("Nough"), stops.feed(" EN"), stops.feed("D after")
    (('so far ', False), ('ENough', False), (' ', False), ('', True))
    """

    stop: tuple[str, ...]
    shown: bool = False
    met: str | None = field(default=None, init=False)
    _held: str = field(default="", init=False)

    def feed(self, text: str, too_soon: bool = False) -> tuple[str, bool]:
        """The text that may be shown, and whether a stop string was met (then the rest is dropped).

        too_soon: one that ends in this text is no stop string yet.
        """
        text = self._held + text
        found = [] if too_soon else [(at, stop) for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            at, self.met = min(found)
            return text[: at + len(self.met) if self.shown else at], True
        held = max((overlap(text, stop) for stop in self.stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held], False

    def flush(self) -> str:
        """What was held back, when the answer ends without a stop string."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    start = max(0, len(text) - len(stop) + 1)
    while (start := text.find(stop[0], start)) >= 0:  # few places of a text can be the beginning
        if stop.startswith(text[start:]):
            return len(text) - start
        start += 1
    return 0
