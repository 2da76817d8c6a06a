"""What an answer holds before the answer: sections of reasoning, between markers that are never shown."""

from collections.abc import Mapping
from dataclasses import dataclass

from serving.text.stops import overlap
from serving.types import Kind

# As Qwen, DeepSeek and most others write them; Mistral; Cohere; Seed-OSS; Kimi; EXAONE.
_PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("\N{WHITE LEFT-POINTING TRIANGLE}think\N{WHITE RIGHT-POINTING TRIANGLE}",
     "\N{WHITE LEFT-POINTING TRIANGLE}/think\N{WHITE RIGHT-POINTING TRIANGLE}"),
    ("<thought>", "</thought>"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Markers:
    """What a model writes around its reasoning; ids: the tokens of the two, where the tokenizer has such tokens."""

    opening: str
    closing: str
    ids: tuple[int, int] | None = None


def find_markers(added_tokens: Mapping[str, int], template: str) -> Markers | None:
    """The markers of a model: a known pair that its tokenizer has as added tokens, or that its template names.

    Any other model has none, and "<think>" in its answers is text.
    """
    for opening, closing in _PAIRS:
        if opening in added_tokens and closing in added_tokens:
            return Markers(opening, closing, (added_tokens[opening], added_tokens[closing]))
    return next((Markers(*pair) for pair in _PAIRS if pair[0] in template or pair[1] in template), None)


class ReasoningSplitter:
    """Splits the text of one answer. Markers, and the line breaks right after one, belong to neither part.

    Where markers are tokens, only those tokens count: the same text spelled in other tokens is text. Elsewhere the
    text counts, and what may turn out to be a marker is held back.

    inside: whether the answer is in its reasoning; at its beginning, whether the prompt has opened it already.

    >>> splitter = ReasoningSplitter(Markers("<think>", "</think>"))
    >>> splitter.feed("<thi"), splitter.feed("nk>\\nWell. <"), splitter.feed("/think>\\n\\nYes")
    ([], [('reasoning', 'Well. ')], [('answer', 'Yes')])
    """

    def __init__(self, markers: Markers | None, inside: bool = False) -> None:
        self._markers, self.inside = markers, inside
        self._after_marker = inside
        self._held = ""

    def feed(self, text: str, token_id: int | None = None) -> list[tuple[Kind, str]]:
        """The text that may be shown now, by kind. `text` is what the detokenizer gave for this token."""
        if self._markers is None:
            return self._shown(text)
        if self._markers.ids is None:
            return self._split(text, self._markers)
        if token_id not in self._markers.ids:
            return self._shown(text)
        opens = token_id == self._markers.ids[0]
        shown = self._shown(text.removesuffix(self._markers.opening if opens else self._markers.closing))
        self.inside, self._after_marker = opens, True
        return shown

    def flush(self) -> list[tuple[Kind, str]]:
        """What was held back, when the answer ends."""
        held, self._held = self._held, ""
        return self._shown(held)

    def _split(self, text: str, markers: Markers) -> list[tuple[Kind, str]]:
        text, shown = self._held + text, []
        pair = (markers.opening, markers.closing)
        while found := [(text.find(marker), marker) for marker in pair if marker in text]:
            start, marker = min(found)
            shown += self._shown(text[:start])
            text = text[start + len(marker) :]
            self.inside, self._after_marker = marker == markers.opening, True
        held = max(overlap(text, marker) for marker in pair)
        self._held = text[len(text) - held :]
        return shown + self._shown(text[: len(text) - held])

    def _shown(self, text: str) -> list[tuple[Kind, str]]:
        if self._after_marker:
            text = text.lstrip("\n")
        if not text:
            return []
        self._after_marker = False
        return [("reasoning" if self.inside else "answer", text)]
