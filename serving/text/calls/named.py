"""Calls with their name before the arguments: Mistral from v11 on, DeepSeek, Hunyuan, GLM, GLM-4-0414."""

import re

from serving.text.calls import objects, tags
from serving.text.calls.found import Call, Found, Functions, Unfinished, loaded, starts, written

_LEADS = ("function<\uff5ctool▁sep\uff5c>", "function<tool_sep>", "functions.")
_NAME = re.compile(r"\s*([\w.-]+)(?::\d+)?")
# What may stand between a name and its arguments.
_BETWEEN = re.compile(r"(?:\s+|\[CALL_ID\]\s*\w*|\[ARGS\]|<tool_sep>|<\uff5ctool▁sep\uff5c>|```json|```)*")
_LONGEST = 100  # characters of it


def read(text: str, at: int, functions: Functions, last: bool, told: bool = True) -> Found | None:
    """The call that begins with its name at `at`; None if it is something else.

    told: a mark has said that a call comes; without one, a name alone is no call.
    last: the text is whole. Raises Unfinished where it is not.
    """
    at = next((at + len(lead) for lead in _LEADS if _stands(text, at, lead, last)), at)
    name = _NAME.match(text, at)
    if name is None:
        if text[at:].isspace() or at == len(text):
            raise Unfinished
        return None
    if name.end() == len(text) and not last and any(each.startswith(name[1]) for each in functions):
        raise Unfinished
    if name[1] not in functions:
        return None
    between = _BETWEEN.match(text, name.end())
    begin = between.end() if between else name.end()
    rest = text[begin : begin + _LONGEST]
    if rest.startswith("{"):
        return _object(text, begin, name[1])
    # Everything after it, or nothing, as far as can be told.
    if rest.startswith(("<arg_key>", "</tool_call>")) or (not rest and last and told):
        return tags.read_arguments(text, begin, name[1], functions, last)
    if len(text) - name.end() < _LONGEST and not last and _may_go_on(rest):
        raise Unfinished
    return None


def head(text: str, at: int) -> tuple[str | None, int]:
    """The name at `at`, and where the object of its arguments begins; None where that is not there yet."""
    at = next((at + len(lead) for lead in _LEADS if text.startswith(lead, at)), at)
    name = _NAME.match(text, at)
    between = _BETWEEN.match(text, name.end()) if name else None
    if not name or not between or not text.startswith("{", between.end()):
        return None, at
    return name[1], between.end()


def _object(text: str, begin: int, name: str) -> Found | None:
    try:
        end = objects.end_of(text, begin)
        arguments = objects.arguments_of(loaded(text[begin:end]))
        return Found((Call(name, written(arguments)),), end)
    except ValueError:
        return None


def _stands(text: str, at: int, lead: str, last: bool) -> bool:
    return text.startswith(lead, at) if last else starts(text, at, lead)


def _may_go_on(rest: str) -> bool:
    marks = (
        "[CALL_ID]",
        "[ARGS]",
        "<tool_sep>",
        "<\uff5ctool▁sep\uff5c>",
        "```json",
        "json",
        "<arg_key>",
        "</tool_call>",
        "{",
    )
    return any(mark.startswith(rest) for mark in marks)
