"""A call that is still being written: its name, and its arguments as they come, where they are one JSON object."""

import json
import re

from serving.text.calls import named
from serving.text.calls.form import CallFormat
from serving.text.calls.found import CallPiece, Functions, loaded

_OBJECT = re.compile(
    r'\s*\[?\s*\{\s*"(?:name|tool_name)"\s*:\s*"([^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
_BARE_ENDS = ' \t\r\n,:{}[]"'
_SPACED = {",": ", ", ":": ": "}


class WrittenCall:
    """One such call. begin: where its arguments begin in the text that is held."""

    def __init__(self, name: str, begin: int) -> None:
        self._name: str | None = name
        self._read, self._arguments = begin, _Arguments()

    def more(self, held: str, end: int | None = None) -> list[CallPiece]:
        """What is new of it. end: where it ends, once that is known; it is whole then."""
        text = self._arguments.feed(held[self._read : end])
        self._read = len(held) if end is None else end
        if not text and end is None:
            return []
        piece, self._name = CallPiece(text, self._name, whole=end is not None), None
        return [piece]


def begun(held: str, form: CallFormat, functions: Functions) -> WrittenCall | None:
    """The call that the text begins with, marks before it, as soon as it is known whom it calls."""
    at = 0
    while mark := next((mark.strip() for mark in form.openings if held[at:].lstrip().startswith(mark.strip())), None):
        at = held.index(mark, at) + len(mark)
    found = _OBJECT.match(held, at)
    name = found[1] if found else None
    begin = found.end() if found else 0
    if found is None and form.syntax == "named" and at:
        name, begin = named.head(held, at)
    return WrittenCall(name, begin) if name in functions and name is not None else None


class _Arguments:
    """Writes a JSON object as `json.dumps` does while it comes; nothing more once it has ended, or is no JSON."""

    def __init__(self) -> None:
        self._depth, self._over = 0, False
        self._quoted = self._escaped = False
        self._bare = ""  # a number, or one of JSON's three words

    def feed(self, text: str) -> str:
        """What is new."""
        return "".join(map(self._next, text))

    def _next(self, character: str) -> str:
        if self._over:
            return ""
        return self._in_text(character) if self._quoted else self._outside(character)

    def _in_text(self, character: str) -> str:
        if self._escaped:
            self._escaped = False
        else:
            self._escaped, self._quoted = character == "\\", character != '"'
        return json.dumps(character)[1:-1] if character < " " else character

    def _outside(self, character: str) -> str:
        if character not in _BARE_ENDS:
            self._bare += character
            return ""
        bare, self._bare = self._bare, ""
        if bare and not _is_json(bare):
            self._over = True
            return ""
        if character.isspace():
            return bare
        self._quoted = character == '"'
        self._depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(character, 0)
        self._over = self._depth == 0
        return bare + _SPACED.get(character, character)


def _is_json(bare: str) -> bool:
    try:
        loaded(bare)
    except ValueError:
        return False
    return True
