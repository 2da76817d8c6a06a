"""Values as Python or JSON writes them, read from the middle of a text."""

import math
import re
from typing import Any

from serving.text.calls.found import Unfinished, past_blanks

_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_WORD = re.compile(r"[A-Za-z_]+")
_NUMBER = re.compile(r"[+-]?(?:\d[\d_]*)?\.?\d*(?:[eE][+-]?\d+)?")
_QUOTES = ('"""', "'''", '"', "'")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|(\n|.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0", "\n": "", "/": "/"}
_DEEPEST = 100
Read = tuple[Any, int]


def read(text: str, at: int, depth: int = 0) -> Read:
    """The value that begins at `at`, and where it ends. Raises Unfinished; ValueError for no value."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    at = past_blanks(text, at)
    character = text[at]
    if character in "\"'":
        return _string(text, at)
    if character in "[(":
        return _listed(text, at, depth)
    if character == "{":
        return _dict(text, at, depth)
    if word := _WORD.match(text, at):
        if word.end() == len(text):
            raise Unfinished
        if word[0] not in _WORDS:
            raise ValueError(f"{word[0]} is no value")
        return _WORDS[word[0]], word.end()
    return _number(text, at)


def whole(text: str) -> Any:
    """The value that a text is. Raises ValueError."""
    try:
        value, end = read(f"{text} ", 0)
    except Unfinished:
        end = -1
    if end < 0 or text[end:].strip():
        raise ValueError("no value")
    return value


def _number(text: str, at: int) -> Read:
    found = _NUMBER.match(text, at)
    if not found or not found[0]:
        raise ValueError("no value")
    if found.end() == len(text):
        raise Unfinished
    try:
        return int(found[0]), found.end()
    except ValueError:
        value = float(found[0])
    if not math.isfinite(value):
        raise ValueError(f"{found[0]} is no number in JSON")
    return value, found.end()


def _string(text: str, at: int) -> Read:
    quote = next(quote for quote in _QUOTES if text.startswith(quote, at))
    if quote * 2 == text[at:] and len(quote) == 1:  # empty, or the beginning of three
        raise Unfinished
    end = begin = at + len(quote)
    while not text.startswith(quote, end):
        end += 2 if text.startswith("\\", end) else 1
        if end >= len(text):
            raise Unfinished
    plain = _ESCAPE.sub(_unescaped, text[begin:end])
    # Two escapes may be one character.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), end + len(quote)


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3]
    if code:
        return chr(int(code, 16)) if int(code, 16) <= 0x10FFFF else "\ufffd"
    return _ESCAPED.get(escape[4], escape[4] if escape[4] in "\\'\"" else escape[0])


def _listed(text: str, at: int, depth: int) -> Read:
    values: list[Any] = []
    closing = "]" if text[at] == "[" else ")"
    at = past_blanks(text, at + 1)
    while text[at] != closing:
        value, at = read(text, at, depth + 1)
        values.append(value)
        at = past_comma(text, at, closing)
    return values, at + 1


def _dict(text: str, at: int, depth: int) -> Read:
    values: dict[str, Any] = {}
    at = past_blanks(text, at + 1)
    while text[at] != "}":
        name, at = read(text, at, depth + 1)
        at = past_blanks(text, at)
        if text[at] != ":" or isinstance(name, list | dict):
            raise ValueError("no dictionary")
        values[str(name)], at = read(text, at + 1, depth + 1)
        at = past_comma(text, at, "}")
    return values, at + 1


def past_comma(text: str, at: int, closing: str) -> int:
    """Where what follows a value stands: the next one, or the closing. Raises Unfinished, ValueError."""
    at = past_blanks(text, at)
    if text[at] == ",":
        return past_blanks(text, at + 1)
    if text[at] != closing:
        raise ValueError(f"neither , nor {closing}")
    return at
