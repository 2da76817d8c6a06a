"""Calls as Python writes them: Llama 4, OLMo 3, LFM2, and after Llama 3's python tag."""

import re
from typing import Any

from serving.text.calls.found import Call, Found, Functions, Unfinished, parameters_of, past_blanks, written
from serving.text.calls.literals import past_comma
from serving.text.calls.literals import read as literal

_NAME = re.compile(r"[\w.-]+")
_BEGUN = re.compile(r"\s*\[?\s*([\w.-]+)\s*\(")
_KEY = re.compile(r"(\w+)\s*(=?)")
_BUILT_IN = ".call"  # Llama 3's own tools: brave_search.call(query="...")


def read(text: str, at: int, functions: Functions, last: bool = False) -> Found | None:
    """The list of calls, or the one call, that begins at `at`; None if it is something else. Raises Unfinished.

    last: the text is whole; then the end of the list may be missing.
    """
    try:
        if text[at] != "[":
            call, end = _call(text, at, functions)
            return Found((call,), end)
        calls: list[Call] = []
        at = past_blanks(text, at + 1)
        while text[at] != "]":
            call, at = _call(text, at, functions)
            calls.append(call)
            if last and not text[at:].strip():
                return Found(tuple(calls), len(text))
            at = past_comma(text, at, "]")
        return Found(tuple(calls), at + 1) if calls else None
    except ValueError:
        return None


def names(text: str, at: int, functions: Functions) -> bool:
    """Whether a call of one of the functions begins at `at`."""
    begun = _BEGUN.match(text, at)
    return begun is not None and begun[1].removesuffix(_BUILT_IN) in functions


def _call(text: str, at: int, functions: Functions) -> tuple[Call, int]:
    name = _NAME.match(text, at)
    called = name[0].removesuffix(_BUILT_IN) if name else ""
    if name and name.end() == len(text) and any(each.startswith(called.partition(".")[0]) for each in functions):
        raise Unfinished
    if not name or called not in functions:
        raise ValueError("no function")
    at = past_blanks(text, name.end())
    if text[at] != "(":
        raise ValueError("no call")
    arguments: dict[str, Any] = {}
    places = iter(parameters_of(functions, called).get("properties") or ())
    at = past_blanks(text, at + 1)
    while text[at] != ")":
        key = _KEY.match(text, at)
        if key and key[2]:
            argument, at = key[1], key.end()
        elif key and key.end() == len(text):
            raise Unfinished
        else:
            argument = next(places, "")
            if not argument:
                raise ValueError("an argument without a name")
        arguments[argument], at = literal(text, at)
        at = past_comma(text, at, ")")
    return Call(called, written(arguments)), at + 1


def begins(text: str, at: int) -> bool:
    """Whether a list of calls may begin there. Raises Unfinished."""
    if text[at] != "[":
        return False
    following = text[past_blanks(text, at + 1)]
    return following.isalpha() or following == "_"
