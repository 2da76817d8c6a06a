"""An answer part by part: reasoning, text, and calls where they are read."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from serving.http.shapes.shape import Event, Gathered, is_cut
from serving.text.tools import CallReader, Part
from serving.types import Chunk, Kind


class InParts(ABC):
    """What shapes have in common whose events belong to parts."""

    _reader: CallReader | None

    @abstractmethod
    def _part(self, kind: Kind, part: Part) -> list[Event]:
        """The events of a part, or of more of it."""

    def _said(self, kind: Kind, text: str) -> list[Event]:
        if kind == "reasoning" or not self._reader:
            return self._part(kind, text)
        return [event for part in self._reader.feed(text) for event in self._part(kind, part)]

    def _flushed(self, last: Chunk | None) -> list[Event]:
        parts = self._reader.flush(is_cut(last)) if self._reader else []
        return [event for part in parts for event in self._part("answer", part)]

    def _taken(self, answers: Sequence[Gathered]) -> None:
        """All of the first answer, at once."""
        kinds: tuple[Kind, ...] = ("reasoning", "answer")
        for kind in kinds:
            self._said(kind, answers[0].texts[kind])
        self._flushed(answers[0].last)
