"""What an answer holds before the answer: sections of reasoning, between markers that are never shown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from serving.text.stops import overlap
from serving.types import Kind

_ANALYSIS = "<|channel|>analysis<|message|>"
# As Qwen, DeepSeek and most others write them; Mistral; Cohere; Seed-OSS; Kimi; EXAONE; Granite 3.2; Apriel; gpt-oss
# and Gemma 4, which have channels.
_PAIRS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("\N{WHITE LEFT-POINTING TRIANGLE}think\N{WHITE RIGHT-POINTING TRIANGLE}",
     "\N{WHITE LEFT-POINTING TRIANGLE}/think\N{WHITE RIGHT-POINTING TRIANGLE}"),
    ("<thought>", "</thought>"),
    ("Here is my thought process:", "Here is my response:"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    (_ANALYSIS, "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>thought", "<channel|>"),
)  # fmt: skip
# What some put around the answer itself: Granite 3.3, Hunyuan, Cohere, Apriel, gpt-oss.
_ANSWERS = (
    ("<response>", "</response>"),
    ("<answer>", "</answer>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),
    ("<|channel|>final<|message|>", "<|end|>"),
)
_SPECIAL = re.compile(r"<\|\w+\|?>|<\w+\|>")


@dataclass(frozen=True, slots=True)
class Markers:
    """What a model writes around its reasoning; ids: the tokens of the two, where the tokenizer has such tokens.

    answer: what it writes around what comes after it, if anything.
    parts: the special tokens that markers of several tokens are made of.
    """

    opening: str
    closing: str
    ids: tuple[int, int] | None = None
    answer: tuple[str, str] | None = None
    parts: Mapping[str, int] = field(default_factory=dict)

    @property
    def channels(self) -> bool:
        """Whether an answer is made of messages that have channels."""
        return self.opening == _ANALYSIS


def find_markers(added_tokens: Mapping[str, int], template: str) -> Markers | None:
    """The markers of a model: a known pair that its tokenizer has as added tokens, or that its template names.

    Any other model has none, and "<think>" in its answers is text.
    """
    answer = next((pair for pair in _ANSWERS if pair[0] in template and pair[1] in template), None)
    for opening, closing in _PAIRS:
        if opening in added_tokens and closing in added_tokens:
            return Markers(opening, closing, (added_tokens[opening], added_tokens[closing]), answer)
    named = next((pair for pair in _PAIRS if pair[0] in template or pair[1] in template), None)
    if named is None:
        return None
    special = [*_SPECIAL.findall("".join(named)), *(["<|constrain|>"] if named[0] == _ANALYSIS else [])]
    parts = {text: added_tokens[text] for text in special if text in added_tokens}
    return Markers(*named, None, answer, parts)


class ReasoningSplitter:
    """Splits the text of one answer. Markers, and the line breaks right after one, belong to neither part.

    There is one section of reasoning, before the answer: a marker in the answer's own text is text. Where markers are
    tokens, only those tokens count: the same text spelled in other tokens is text. Elsewhere the text counts, and what
    may turn out to be a marker is held back.

    inside: whether the answer is in its reasoning; at its beginning, whether the prompt has opened it already.

    >>> splitter = ReasoningSplitter(Markers("<think>", "</think>"))
    >>> splitter.feed("<thi"), splitter.feed("nk>\\nWell. <"), splitter.feed("/think>\\n\\nYes")
    ([], [('reasoning', 'Well. ')], [('answer', 'Yes')])
    """

    def __init__(self, markers: Markers | None, inside: bool = False) -> None:
        self._markers, self.inside = markers, inside
        self._begun = self._over = False  # the answer; the only section of reasoning
        self._after_marker = inside
        self._held = self._blanks = ""  # what may be a marker; what stands before the reasoning or the answer
        self._wrapped = _Wrapped(markers.answer if markers else None)

    def feed(self, text: str, token_id: int | None = None) -> list[tuple[Kind, str]]:
        """The text that may be shown now, by kind. `text` is what the detokenizer gave for this token."""
        markers = self._markers
        if markers is None:
            return self._shown(text)
        if markers.ids is None:
            return self._split(text, markers)
        if token_id not in markers.ids:
            return self._shown(text)
        marker = markers.opening if token_id == markers.ids[0] else markers.closing
        if marker != self._awaited(markers):
            # A special token that means nothing here is no text, and the detokenizer has given none.
            return [] if self._void(text, marker) else self._shown(text)
        shown = self._shown(text.removesuffix(marker))
        self._met(marker)
        return shown

    def flush(self) -> list[tuple[Kind, str]]:
        """What was held back, when the answer ends."""
        held, self._held = self._held, ""
        shown = self._shown(held)
        left = self._blanks + self._wrapped.flush()
        return [*shown, ("answer", left)] if left else shown

    def _awaited(self, markers: Markers) -> str | None:
        """The marker that would mean something now."""
        if self.inside:
            return markers.closing
        return None if self._begun or self._over else markers.opening

    def _unawaited(self, markers: Markers) -> str | None:
        """The marker that means nothing where a text begins: opened twice, or closed before it was opened."""
        if self.inside:
            return markers.opening if self._after_marker else None
        return markers.closing if not (self._begun or self._over) and markers.closing[0] in "<[" else None

    def _void(self, text: str, marker: str) -> bool:
        """Whether a marker stands where the other one is awaited: opened twice, or closed before it was opened."""
        return text == marker and not self._begun and not self._over

    def _met(self, marker: str) -> None:
        if self.inside:
            self._wrapped.opened_by(marker)
        self._over, self._blanks = self._over or self.inside, ""
        self.inside, self._after_marker = not self.inside, True

    def _split(self, text: str, markers: Markers) -> list[tuple[Kind, str]]:
        text, shown = self._held + text, list[tuple[Kind, str]]()
        while True:
            begun, void = text.lstrip(), self._unawaited(markers)
            if void and begun != void and void.startswith(begun):
                self._held = text
                return shown
            if void and begun.startswith(void):
                text, self._after_marker = begun.removeprefix(void), True
                self._wrapped.opened_by(void)
                continue
            marker = self._awaited(markers)
            before, found, rest = text.partition(marker) if marker else (text, "", "")
            if not found or (not self.inside and before.strip()):
                break
            shown += self._shown(before) if self.inside else []
            text = rest
            self._met(found)
        held = overlap(text, marker) if marker else 0
        self._held = text[len(text) - held :]
        return shown + self._shown(text[: len(text) - held])

    def _shown(self, text: str) -> list[tuple[Kind, str]]:
        if self._after_marker:
            text = text.lstrip("\n")
        if not text:
            return []
        self._after_marker = False
        if self.inside:
            return [("reasoning", text)]
        if self._markers and not self._begun and not self._over:
            text, self._blanks = self._blanks + text, ""
            if not text.strip():
                self._blanks = text
                return []
        self._begun = True
        text = self._wrapped.feed(text)
        return [("answer", text)] if text else []


class Budget:
    """Ends a reasoning that has gone on for `most` tokens: from then on its closing marker is written.

    closing: the tokens of that marker.

    >>> budget = Budget(2, (7,))
    >>> [budget.next(inside=True, whole=True) for _ in range(3)]
    [None, None, 7]
    """

    def __init__(self, most: int | None, closing: Sequence[int]) -> None:
        self._most, self._closing = most, list(closing)
        self._used = 0

    def next(self, inside: bool, whole: bool) -> int | None:
        """The token that must come next; None where the model has its choice.

        inside: whether the answer is in its reasoning. whole: no character is half written.
        """
        if self._most is None or not inside or not self._closing:
            return None
        if self._used < self._most or not whole:
            self._used += 1
            return None
        return self._closing.pop(0)


class _Wrapped:
    """The text of an answer without the markers around it."""

    def __init__(self, pair: tuple[str, str] | None) -> None:
        self._opening, self._closing = pair or ("", "")
        self._begun = self._open = self._shown = False
        self._held = ""

    def opened_by(self, marker: str) -> None:
        """What ends the reasoning may be what begins the answer."""
        self._begun = self._open = bool(self._opening) and marker.endswith(self._opening)

    def feed(self, text: str) -> str:
        """The text that may be shown now."""
        if not self._opening:
            return text
        self._held += text
        if not self._begun:
            begin = self._held.lstrip()
            if self._opening.startswith(begin) and begin != self._opening:
                return ""
            self._begun, self._open = True, begin.startswith(self._opening)
            if self._open:
                self._held = begin.removeprefix(self._opening)
        if not self._open:
            text, self._held = self._held, ""
            return text
        # It ends with the last of these: the same text before it is the answer's own.
        before, found, after = self._held.rpartition(self._closing)
        kept = len(before.rstrip("\n")) if found and not after.strip() else self._plain()
        text, self._held = self._held[:kept], self._held[kept:]
        if not self._shown:
            text = text.lstrip("\n")
        self._shown = self._shown or bool(text)
        return text

    def flush(self) -> str:
        """What was held back, when the answer ends."""
        held, self._held = self._held, ""
        return held.rstrip().removesuffix(self._closing).rstrip("\n") if self._open else held

    def _plain(self) -> int:
        """How much cannot be the closing marker, nor line breaks before it."""
        held = self._held
        return len(held[: len(held) - overlap(held, self._closing)].rstrip("\n"))
