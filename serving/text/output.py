"""Token ids -> what may be shown of an answer: whole characters, reasoning apart from the answer, no stop string."""

from serving.text.channels import Splitter
from serving.text.detokenizer import Detokenizer
from serving.text.stops import StopStrings
from serving.types import Kind

Pieces = list[tuple[Kind, str]]


class Output:
    """The text of one answer as its tokens come. Stop strings are looked for in the answer, not in the reasoning."""

    def __init__(self, detokenizer: Detokenizer, splitter: Splitter, stops: StopStrings) -> None:
        self._detokenizer, self._splitter, self._stops = detokenizer, splitter, stops

    @property
    def reasoning(self) -> bool:
        """Whether the answer is in its reasoning."""
        return self._splitter.inside

    @property
    def whole(self) -> bool:
        """Whether no character is half written."""
        return self._detokenizer.whole

    @property
    def stop(self) -> str | None:
        """The stop string that was met."""
        return self._stops.met

    def feed(self, token_id: int, too_soon: bool = False) -> tuple[Pieces, bool]:
        """The text that this token completes, and whether a stop string was met: then the rest is dropped.

        too_soon: the answer may not end yet.
        """
        return self._stopped(self._splitter.feed(self._detokenizer.feed(token_id), token_id), too_soon)

    def flush(self) -> Pieces:
        """What was held back, when the answer ends without a stop string."""
        left = [*self._splitter.feed(self._detokenizer.flush()), *self._splitter.flush()]
        pieces, stopped = self._stopped(left)
        return pieces if stopped else [*pieces, *_some("answer", self._stops.flush())]

    def _stopped(self, pieces: Pieces, too_soon: bool = False) -> tuple[Pieces, bool]:
        shown: Pieces = []
        for kind, text in pieces:
            met = False
            if kind == "answer":
                text, met = self._stops.feed(text, too_soon)
            shown += _some(kind, text)
            if met:
                return shown, True
        return shown, False


def _some(kind: Kind, text: str) -> Pieces:
    return [(kind, text)] if text else []
