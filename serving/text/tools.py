"""Tool calls in the text of an answer, as it comes: what is said, and what is called.

The door of the room `calls`: there stands what each syntax is like, and how a model is held to it.
"""

import operator
import re

from serving.text.calls import named, objects, python, tags
from serving.text.calls.form import CallFormat, format_of
from serving.text.calls.found import Call, CallPiece, Found, Functions, Unfinished, past_blanks, starts
from serving.text.calls.grammar import calling
from serving.text.calls.pieces import WrittenCall, begun
from serving.text.stops import overlap

__all__ = ["Call", "CallFormat", "CallPiece", "CallReader", "Functions", "Part", "calling", "format_of", "read_calls"]

Part = str | Call | CallPiece
_ENDS = frozenset("}])>")  # no call ends with anything else
# Characters of a call from which on it is not read again with each of these: a long one would take the square of its
# length.
_LONG = 1024
_SEPARATOR = re.compile(r"\s*[;,]?\s*")
_BRACKETS = "]} \t\r\n"
_FUNCTION, _FENCE = "<function=", "```"


class CallReader:
    """Splits the text of one answer into what is said and what is called.

    functions: those that there are; what calls none of them is text. Their schemas give untyped arguments a type.
    pieces: the JSON arguments of a call come as they are written. One that turns out to be none is never whole.

    >>> reader = CallReader(CallFormat("<tool_call>", "</tool_call>"), {"add"})
    >>> reader.feed("Well. <tool_"), reader.feed('call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    (['Well. '], [Call(name='add', arguments='{"a": 1}')])
    """

    def __init__(self, form: CallFormat, functions: Functions, pieces: bool = False) -> None:
        self._form, self._functions, self._pieces = form, functions, pieces
        self._written: WrittenCall | None = None  # of which pieces were given
        self._openings = [mark.strip() for mark in form.openings]
        self._closings = [mark.strip() for mark in form.closings]
        # Some models forget the mark around it.
        self._looked_for = [*self._openings, *([_FUNCTION] if form.before == _FUNCTION else [])]
        # Small models close one bracket too many.
        marks = "|".join(map(re.escape, self._closings)) or "(?!)"
        self._closed = re.compile(rf"(?:\s*[\]}})]*\s*(?:{marks}))*")
        self._held = ""
        self._said = False  # a call without a mark begins the answer
        self._after_call = False
        self._unfinished = 0  # characters of what may become a call
        self._again = 0  # characters that are held when it is read again
        self._cut = self._halved = False  # the answer, and with it what was read last

    def feed(self, text: str) -> list[Part]:
        """What is known by now."""
        self._held += text
        if self._unfinished > _LONG and len(self._held) < self._again and not self._closing_in(text):
            return self._ahead()
        parts = self._parts(last=False)
        self._again = len(self._held) + self._unfinished // 16
        return parts + self._ahead()

    def _ahead(self) -> list[Part]:
        """What is new of a call that is not whole."""
        if not self._pieces or not self._unfinished or self._after_call:
            self._written = None
            return []
        self._written = self._written or begun(self._held, self._form, self._functions)
        return [*self._written.more(self._held)] if self._written else []

    def flush(self, cut: bool = False) -> list[Part]:
        """What was held back, when the answer ends. cut: it was ended in the middle; half of a call is then nothing."""
        self._cut = cut
        return self._parts(last=True)

    def _parts(self, last: bool) -> list[Part]:
        parts: list[Part] = []
        self._unfinished = 0
        before = None
        while self._held and not self._unfinished and before != (before := self._state):
            parts += self._after(last) if self._after_call else self._next(last)
        return [part for part in parts if part]

    def _closing_in(self, text: str) -> bool:
        """Whether a mark that ends calls has become whole with this text."""
        newest = [self._held[-len(text) - len(mark) :] for mark in self._closings]
        return not _ENDS.isdisjoint(text) and any(map(operator.contains, newest, self._closings))

    @property
    def _state(self) -> tuple[int, bool, bool]:
        return len(self._held), self._after_call, self._said

    def _next(self, last: bool) -> list[Part]:
        """The text before the next mark, and the calls after it."""
        held = self._held
        if not self._said and self._form.bare:
            return self._first(last)
        places = [(held.find(mark), -len(mark), mark) for mark in self._looked_for if mark in held]
        if not places:
            if last and self._cut and self._begun() > 1:
                return self._without_half(len(held) - self._begun())
            return [self._taken(len(held) if last else self._sayable())]
        start, _, mark = min(places)
        begin = start if mark == _FUNCTION else start + len(mark)
        found = self._found(begin, last, marked=True)
        if self._unfinished:
            return [self._taken(len(held[:start].rstrip("\n")))]
        if self._halved:
            return self._without_half(start)
        if found is None:
            return [self._taken(start + len(mark))]
        # Line breaks around a call belong to neither.
        calls = self._calls(found)
        self._taken(found.end)
        self._after_call = True
        return [held[:start].rstrip("\n"), *calls]

    def _first(self, last: bool) -> list[Part]:
        """The calls that the answer begins with, without a mark."""
        found = self._found(0, last)
        if self._unfinished:
            return []
        self._said = True
        if self._halved and self._calls_at(0):
            return self._without_half(0)
        if found is None:
            return []
        calls = self._calls(found)
        self._taken(found.end)
        self._after_call = True
        return calls

    def _calls(self, found: Found) -> list[Part]:
        """Its calls; of one that has begun to be given, the rest."""
        if self._written is None:
            return [*found.calls]
        rest, self._written = self._written.more(self._held, found.end), None
        return [*rest, *found.calls[1:]]

    def _after(self, last: bool) -> list[Part]:
        """What follows a call: the marks of its end, another call, or text."""
        closed = self._closed.match(self._held)
        begin = closed.end() if closed else 0
        rest = self._held[begin:].lstrip()
        closing = rest.lstrip(_BRACKETS)
        if not last and (
            not rest
            or any(mark.startswith(rest) for mark in self._openings)
            or any(mark.startswith(closing) for mark in self._closings)
        ):
            self._unfinished = 1
            return []
        if not rest or rest.startswith(tuple(self._openings)):
            self._held, self._after_call = rest, False
            return []
        separated = _SEPARATOR.match(self._held, begin)
        at = separated.end() if separated else begin
        found = self._found(at, last, run=True)
        if self._unfinished:
            return []
        if self._halved and self._calls_at(at):
            return self._without_half(0)
        if found:
            self._taken(found.end)
            return [*found.calls]
        self._held, self._after_call = self._held[begin:].lstrip("\n"), False
        return []

    def _found(self, begin: int, last: bool, marked: bool = False, run: bool = False) -> Found | None:
        """The calls that begin there, or None. Where that is not known yet, `_unfinished` says so."""
        try:
            return self._read(begin, last and not self._cut, marked, run)
        except Unfinished:
            self._unfinished = 0 if last else max(1, len(self._held) - begin)
            self._halved = last and self._cut
            return None

    def _read(self, at: int, last: bool, marked: bool, run: bool) -> Found | None:
        """marked: a mark stands before it. run: it stands right after another call."""
        text, functions, syntax = self._held, self._functions, self._form.syntax
        at = past_blanks(text, at)
        while mark := next((mark for mark in self._openings if text.startswith(mark, at)), None):
            at, marked = past_blanks(text, at + len(mark)), True
        if any(mark.startswith(text[at:]) for mark in self._openings):
            raise Unfinished
        if objects.begins(text, at):
            return objects.read(text, at, functions, marked or run, last, self._closings)
        if text[at] == "[":
            return python.read(text, at, functions, last)
        if marked and starts(text, at, _FENCE):
            return self._fenced(at + len(_FENCE), last)
        if text[at] == "<":
            return tags.read_function(text, at, functions, last) if starts(text, at, "<function") else None
        found = self._in_python(at, last) if marked or (run and syntax == "python") else None
        if found or not (marked or syntax == "named") or (run and not self._form.bare):
            return found
        return named.read(text, at, functions, last, told=marked)

    def _in_python(self, at: int, last: bool) -> Found | None:
        try:
            return python.read(self._held, at, self._functions)
        except Unfinished:
            if not last:
                raise
            return None  # a name may be all that there is of a call

    def _fenced(self, at: int, last: bool) -> Found | None:
        """The calls in a block of code, which some models put between the marks."""
        text = self._held
        if not last and "json".startswith(text[at:]):
            raise Unfinished
        at = past_blanks(text, at + len("json") * text.startswith("json", at))
        found = objects.read(text, at, self._functions, told=True) if objects.begins(text, at) else None
        if found is None:
            return None
        rest = text[found.end :].lstrip()
        if not last and len(rest) < len(_FENCE) and _FENCE.startswith(rest):
            raise Unfinished
        return Found(found.calls, len(text) - len(rest.removeprefix(_FENCE)))

    def _calls_at(self, at: int) -> bool:
        """Whether what begins there, and has not ended, names one of the functions as a call does."""
        text, functions = self._held, self._functions
        if objects.names(text[at:], functions):
            return True
        is_object = text[at:].lstrip().startswith("{")
        return not is_object and (python.names(text, at, functions) or named.head(text, at)[0] in functions)

    def _sayable(self) -> int:
        """How much of what is held cannot be the beginning of a mark, nor line breaks before one."""
        return len(self._held[: len(self._held) - self._begun()].rstrip("\n"))

    def _begun(self) -> int:
        """How much of what is held may be the beginning of a mark."""
        return max((overlap(self._held, mark) for mark in self._looked_for), default=0)

    def _without_half(self, start: int) -> list[Part]:
        """The text before a call of which the rest never comes."""
        text, self._held = self._held[:start].rstrip("\n"), ""
        return [text]

    def _taken(self, end: int) -> str:
        taken, self._held = self._held[:end], self._held[end:]
        self._said = self._said or bool(taken.strip())
        return taken


def read_calls(form: CallFormat, functions: Functions, text: str, cut: bool = False) -> tuple[str, list[Call]]:
    """A whole answer's text, and its calls. cut: as in `flush`."""
    reader = CallReader(form, functions)
    parts = [*reader.feed(text), *reader.flush(cut)]
    return "".join(part for part in parts if isinstance(part, str)), [part for part in parts if isinstance(part, Call)]
