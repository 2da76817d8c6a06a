"""Answers in channels, as gpt-oss writes them: messages, each with a header that says what it is.

    <|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>…

Messages of the channel `analysis` are reasoning. All others are the answer: `final`, and `commentary`, which is what a
model tells a user before it goes on, or a call. Headers and marks are never shown.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

from serving.text.reasoning import Markers, ReasoningSplitter
from serving.text.stops import overlap
from serving.types import Kind

_MARKS = tuple(f"<|{name}|>" for name in ("start", "channel", "message", "constrain", "end", "return", "call"))
_NEEDED = frozenset(("<|start|>", "<|channel|>", "<|message|>", "<|end|>"))
_MARK = re.compile("|".join(map(re.escape, _MARKS)))
# The end of a prompt is the beginning of a header, which may name a recipient before the channel.
_RECIPIENT = re.compile(r"\s*(?:t(?:o(?:=[^\s<]*\s*)?)?)?")
# begun: nothing but what may be the rest of that header. ended: after a message, before what follows it.
_State = Literal["begun", "header", "message", "ended"]


class Splitter(Protocol):
    """Tells the reasoning in the text of one answer from the rest of it. inside: whether it is in its reasoning."""

    inside: bool

    def feed(self, text: str, token_id: int | None = None) -> list[tuple[Kind, str]]:
        """The text that may be shown now, by kind. `text` is what the detokenizer gave for this token."""

    def flush(self) -> list[tuple[Kind, str]]:
        """What was held back, when the answer ends."""


def splitter_of(markers: Markers | None, inside: bool = False) -> Splitter:
    """What reads the answers of a model with such markers. inside: the prompt has opened the reasoning already."""
    if markers is not None and markers.channels:
        return ChannelSplitter(markers.parts, inside)
    return ReasoningSplitter(markers, inside)


class ChannelSplitter:
    """Splits the text of one answer. Between two messages of one kind stands an empty line.

    tokens: ids of the marks. Where the tokenizer has them, only those tokens count, and the same text spelled in other
    tokens is text; elsewhere the text counts, and what may turn out to be a mark is held back.
    inside: it stays true in the headers after a reasoning, until it is known that no more of it follows.

    >>> splitter = ChannelSplitter({})
    >>> splitter.feed("<|channel|>analysis<|message|>Well.<|en"), splitter.feed("d|><|start|>assistant<|channel|>final")
    ([('reasoning', 'Well.')], [])
    >>> splitter.feed(" <|constrain|>json<|message|>{}")
    [('answer', '{}')]
    """

    def __init__(self, tokens: Mapping[str, int], inside: bool = False) -> None:
        self._names = {id: text for text, id in tokens.items()} if tokens.keys() >= _NEEDED else {}
        self.inside = inside
        self._state: _State = "message" if inside else "begun"
        self._kind: Kind = "reasoning" if inside else "answer"
        self._header = self._held = ""
        self._first = inside  # nothing of this message was shown
        self._last: dict[Kind, str] = {}  # how what was shown of each kind ends

    def feed(self, text: str, token_id: int | None = None) -> list[tuple[Kind, str]]:
        """The text that may be shown now, by kind. `text` is what the detokenizer gave for this token."""
        if not self._names:
            return _joined(self._cut(text))
        mark = self._names.get(token_id) if token_id is not None else None
        shown = self._said(text.removesuffix(mark or ""))
        if mark:
            self._met(mark)
        return shown

    def flush(self) -> list[tuple[Kind, str]]:
        """What was held back, when the answer ends; half a header is nothing."""
        held, self._held = self._held, ""
        if self._state == "begun":
            self._state = "message"
        return self._said(held)

    def _cut(self, text: str) -> Iterator[tuple[Kind, str]]:
        """The same where marks are text."""
        text, self._held = self._held + text, ""
        at = 0
        for mark in _MARK.finditer(text):
            yield from self._said(text[at : mark.start()])
            self._met(mark[0])
            at = mark.end()
        rest = text[at:]
        kept = len(rest) - max(overlap(rest, mark) for mark in _MARKS)
        yield from self._said(rest[:kept])
        self._held += rest[kept:]

    def _met(self, mark: str) -> None:
        """What a mark makes of what follows it."""
        self._held = ""
        match mark:
            case "<|start|>" | "<|channel|>":
                self._state, self._header = "header", ""
            case "<|constrain|>":
                self._header += " "
            case "<|message|>" if self._state != "message":
                analysis = self._state == "header" and self._header.split()[:1] == ["analysis"]
                self._begin("reasoning" if analysis else "answer")
            case "<|message|>":
                pass
            case _:
                self._state = "ended"

    def _begin(self, kind: Kind) -> None:
        self._state, self._kind, self.inside, self._first = "message", kind, kind == "reasoning", True

    def _said(self, text: str) -> list[tuple[Kind, str]]:
        """What is shown of text without marks."""
        if self._state == "header":
            self._header += text
            return []
        if self._state == "begun":
            text, self._held = self._held + text, ""
            if _RECIPIENT.fullmatch(text):
                self._held = text
                return []
            self._state = "message"
        if self._state == "ended" and (text := text.lstrip()):
            self._begin("answer")
        if self._first:
            text = text.lstrip("\n")
        if not text:
            return []
        last = self._last.get(self._kind, "\n")
        if self._first and not last.endswith("\n"):
            text = f"\n\n{text}"
        self._first, self._last[self._kind] = False, text[-1]
        return [(self._kind, text)]


def _joined(pieces: Iterator[tuple[Kind, str]]) -> list[tuple[Kind, str]]:
    """Pieces of one kind that follow each other as one."""
    joined: list[tuple[Kind, str]] = []
    for kind, text in pieces:
        if joined and joined[-1][0] == kind:
            joined[-1] = kind, joined[-1][1] + text
        else:
            joined.append((kind, text))
    return joined
