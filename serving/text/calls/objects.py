"""Calls that are JSON objects, or a list of them: Qwen 2.5 and 3, Granite, Mistral, Llama 3, Phi-4-mini, Nemotron."""

import re
from collections.abc import Sequence
from typing import Any

from serving.text.calls.found import Call, Found, Functions, Unfinished, loaded, parameters_of, past_blanks, written

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\]"]', re.DOTALL)
_FIRST = re.compile(r'\s*(?:\[\s*)?\{\s*(?:"(\w*)("?)|[^"\s])')
_NAME = re.compile(r'"(?:name|function|tool_name)"\s*:\s*"([^"\\]*)"')
# What may stand first in a call; any other object is told from one before it ends.
_DEEPEST = 200
_CLOSING = {"{": "}", "[": "]"}
_KEYS = ("name", "arguments", "parameters", "type", "function", "id", "tool_name", "tool_call_id", "index")


def read(
    text: str, at: int, functions: Functions, told: bool, last: bool = False, closings: Sequence[str] = ()
) -> Found | None:
    """The calls in the JSON value that begins at `at`; None if it is something else.

    told: a mark has said that a call comes; without one, an object without arguments is no call.
    last: the text is whole; then the last brackets may be missing, before one of the closings too.
    Raises Unfinished.
    """
    first = _FIRST.match(text, at)
    if first and not _may_be_first(first[1], whole=bool(first[2])):
        return None
    try:
        end, missing = _bounds(text, at, last, closings)
        value = loaded(text[at:end] + missing)
        listed = value if isinstance(value, list) else [value]
        calls = tuple(_call(each, functions, told) for each in listed)
    except ValueError:
        return None
    return Found(calls, end) if calls else None


def names(text: str, functions: Functions) -> bool:
    """Whether an object that may not have ended names one of the functions."""
    return any(name in functions for name in _NAME.findall(text))


def _may_be_first(key: str | None, whole: bool) -> bool:
    return key is not None and any(each == key if whole else each.startswith(key) for each in _KEYS)


def _bounds(text: str, at: int, last: bool, closings: Sequence[str]) -> tuple[int, str]:
    """Where the value at `at` ends, and the brackets that are missing there, none of which belongs to arguments."""
    try:
        return end_of(text, at), ""
    except Unfinished:
        if not last:
            raise
    end, missing, ends = at, "", False
    pieces = re.compile("|".join([_PIECE.pattern, *map(re.escape, closings)]), re.DOTALL)
    for piece in pieces.finditer(text, at):
        if piece[0] in closings:
            break
        end, ends = piece.end(), piece[0] in "}]"
        missing = _CLOSING[piece[0]] + missing if piece[0] in _CLOSING else missing[ends:]
    if not ends or missing not in ("}", "]", "}]"):
        raise Unfinished
    return end, missing


def end_of(text: str, at: int) -> int:
    """Where the object or list that begins at `at` ends. Raises Unfinished; ValueError for one that is too deep."""
    depth = 0
    for piece in _PIECE.finditer(text, at):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(piece[0], 0)
        if depth == 0:
            return piece.end()
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        if piece[0] == '"':  # of a string that has not ended
            break
    raise Unfinished


def _call(content: Any, functions: Functions, told: bool) -> Call:
    """Raises ValueError for what is no call of these functions."""
    if isinstance(content, dict) and isinstance(content.get("function"), dict):  # OpenAI's own shape
        content = content["function"]
    if not isinstance(content, dict):
        raise ValueError("no object")
    name = next((content[key] for key in ("name", "tool_name", "function") if key in content), None)
    key = next((key for key in ("arguments", "parameters") if key in content), None)
    if not isinstance(name, str) or name not in functions or not (key or told):
        raise ValueError("no call")
    if not key and content.keys() - set(_KEYS):
        raise ValueError("arguments under another name, which would be lost")
    declares = key and content[key] and content[key] == parameters_of(functions, name)
    if declares or (not told and "description" in content):
        raise ValueError("a function's declaration")
    return Call(name, written(arguments_of(content[key]) if key else {}))


def arguments_of(value: Any) -> dict[str, Any]:
    """Arguments as an object, which some models write as JSON in a text, or as null. Raises ValueError."""
    if isinstance(value, str):
        value = loaded(value) if value.strip() else {}
    if value is None or value == []:
        return {}
    if not isinstance(value, dict):
        raise ValueError("arguments that are no object")
    return value


def begins(text: str, at: int) -> bool:
    """Whether JSON may begin there. Raises Unfinished."""
    if text[at] == "[":
        return text[past_blanks(text, at + 1)] in "{]"
    return text[at] == "{"
