"""What may be shown now and what must wait: stop strings that arrive in pieces."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class StopStrings:
    """Holds back text that may turn out to be the beginning of a stop string.

    >>> stops = StopStrings(("END",))
    >>> stops.feed("so far E"), stops.feed("Nough"), stops.feed(" EN"), stops.feed("D after")
    (('so far ', False), ('ENough', False), (' ', False), ('', True))
    """

    stop: tuple[str, ...]
    _held: str = field(default="", init=False)

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that may be shown, and whether a stop string was met (then the rest is dropped)."""
        text = self._held + text
        found = [position for position in map(text.find, self.stop) if position >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
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
