"""Calls whose arguments stand between marks, without a type: Qwen3-Coder, Qwen 3.5, Seed-OSS, GLM 4.5, Hunyuan.

What a value is, the function's schema tells.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any

from serving.text.calls.found import Call, Found, Functions, Unfinished, loaded, parameters_of, past_blanks, written
from serving.text.calls.literals import whole
from serving.text.calls.objects import arguments_of, end_of

_FUNCTION = re.compile(r"<function\s*(?:=|name=)\s*\"?([\w.:-]+)\"?\s*>")
_PARAMETER = re.compile(r"\s*<parameter\s*(?:=|name=)\s*\"?([^>\"]+?)\"?\s*>\n?")
# A value ends where its mark is followed by another argument or by the call's end: it may hold such a mark itself.
_VALUE_END = re.compile(r"\n?</parameter>\s*(?=<parameter|</function>|</[\w:]*tool_call>|\Z)")
_UNMARKED_END = re.compile(r"\n?(?=<parameter\s*(?:=|name=)\s*\"?([^>\"]+?)\"?\s*>|</function>\s*</[\w:]*tool_call>)")
_LAST = "</tool_call>"
_FUNCTION_END = re.compile(r"\s*(</function>|(?=</[\w:]*tool_call>)|\Z)")
_ARGUMENT = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>", re.DOTALL)
_ARGUMENT_END = re.compile(r"</arg_value>\s*(?=<arg_key>|</tool_call>|\Z)")
_CONTAINERS = ("[", "(", "{")
_CALL_END = re.compile(r"\s*(?=</tool_call>|\Z)")


def read_function(text: str, at: int, functions: Functions, last: bool) -> Found | None:
    """The call that `<function=` begins at `at`; None if it is something else.

    last: the text is whole. Raises Unfinished where it is not.
    """
    head = _FUNCTION.match(text, at)
    if head is None:
        if ">" in text[at:]:
            return None
        raise Unfinished
    if head[1] not in functions:
        return None
    begin = head.end()
    try:
        if text[past_blanks(text, begin)] == "{":  # Functionary: the arguments are JSON
            end = end_of(text, past_blanks(text, begin))
            closed = _FUNCTION_END.match(text, end)
            if not last and not (closed and closed[1]):
                raise Unfinished
            arguments = arguments_of(loaded(text[begin:end]))
            return Found((Call(head[1], written(arguments)),), closed.end() if closed else end)
    except ValueError:
        return None
    if not last and "</function>" not in text[begin:]:
        raise Unfinished
    return _tagged(text, begin, head[1], functions, last)


def _tagged(text: str, at: int, name: str, functions: Functions, last: bool) -> Found | None:
    values: dict[str, str] = {}
    known = parameters_of(functions, name).get("properties") or {}
    for key, value, end_of_value in _parameters(text, at, last, known):
        values[key], at = value, end_of_value
    end = _FUNCTION_END.match(text, at)
    if end and (last or end[1]):
        return _found(name, values, functions, end.end())
    if last:
        return None
    raise Unfinished  # the end that was found may stand in a value


def _parameters(text: str, at: int, last: bool, known: Collection[str]) -> Iterator[tuple[str, str, int]]:
    while head := _PARAMETER.match(text, at):
        end = _VALUE_END.search(text, head.end())
        ends = _UNMARKED_END.finditer(text + _LAST if last else text, head.end())
        unmarked = next((each for each in ends if not (each[1] and known) or each[1] in known), None)
        if end is None or (unmarked and "</parameter>" not in text[head.end() : unmarked.start()]):
            end = unmarked  # a model that forgets the mark
        if end is None:
            return
        yield head[1], text[head.end() : end.start()], end.end()
        at = end.end()


def read_arguments(text: str, at: int, name: str, functions: Functions, last: bool) -> Found | None:
    """The call of `name` whose <arg_key>s begin at `at`; None if it is something else. Raises as `read_function`."""
    if not last and "</tool_call>" not in text[at:]:
        raise Unfinished
    values: dict[str, str] = {}
    while head := _ARGUMENT.match(text, at):
        end = _ARGUMENT_END.search(text, head.end())
        if end is None:
            break
        values[head[1].strip()] = text[head.end() : end.start()]
        at = end.end()
    end = _CALL_END.match(text, at)
    if end:
        return _found(name, values, functions, end.end())
    if last:
        return None
    raise Unfinished


def _found(name: str, values: dict[str, str], functions: Functions, end: int) -> Found | None:
    schemas = parameters_of(functions, name).get("properties") or {}
    try:
        return Found(
            (Call(name, written({key: typed(value, schemas.get(key)) for key, value in values.items()})),), end
        )
    except ValueError:
        return None


def typed(text: str, schema: Any) -> Any:
    """What a text is for a schema: itself where that wants a text, or where it is nothing else that it wants."""
    wanted = set(_types(schema))
    if wanted == {"string"}:
        return text
    if wanted == {"boolean"}:
        text = text.strip().capitalize() if text.strip().lower() in ("true", "false") else text
    try:
        value = _value(text.strip())
    except ValueError:
        return text
    kinds = {_type(value), "number"} if type(value) is int else {_type(value)}
    if "string" in wanted and (isinstance(value, str) or not kinds & wanted):
        return text
    if isinstance(value, float) and value.is_integer() and "integer" in wanted and "number" not in wanted:
        return int(value)
    return value


def _value(text: str) -> Any:
    try:
        return loaded(text)
    except ValueError:
        if text[:1] not in _CONTAINERS and text not in ("True", "False", "None"):
            raise
        return whole(text)


def _types(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    named = schema.get("type")
    yield from named if isinstance(named, list) else [named] if isinstance(named, str) else []
    for values in (schema.get("enum"), [schema["const"]] if "const" in schema else None):
        if named is None and isinstance(values, list):
            yield from map(_type, values)
    for key in ("anyOf", "oneOf"):
        for each in schema.get(key) or ():
            yield from _types(each)


def _type(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")
