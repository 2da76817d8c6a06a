"""Calls of a conversation's history, for templates that do not write them, or not as they come."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serving.errors import InvalidRequest
from serving.text.calls.form import CallFormat

Json = dict[str, Any]
_NAME, _RESULT = "called_by_nobody", "given_by_nobody"
PROBE_TOOLS = [{"type": "function", "function": {"name": _NAME, "description": "", "parameters": {"type": "object"}}}]
_ID = "abcdefgh1"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a template writes: calls, results of calls; and whether it wants a call's arguments as a text."""

    calls: bool = True
    results: bool = True
    as_text: bool = False


def probe(as_text: bool) -> list[Json]:
    """A conversation with a call and its result, to see what a template makes of them."""
    function = {"name": _NAME, "arguments": "{}" if as_text else {}}
    return [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": _ID, "type": "function", "function": function}]},
        {"role": "tool", "content": _RESULT, "tool_call_id": _ID, "name": _NAME},
    ]


def shown(rendered: str, without_tools: bool, as_text: bool) -> Shown:
    """What the probe's rendering tells. without_tools: no tool of that name was shown beside it."""
    return Shown(rendered.count(_NAME) > (0 if without_tools else 1), _RESULT in rendered, as_text)


def as_the_template_reads(conversation: list[Json], what: Shown, form: CallFormat | None) -> list[Json]:
    """The conversation with its calls in the assistant's text, or their arguments as texts, where that is needed.

    Raises InvalidRequest for what the template would leave out and nobody knows how to write.
    """
    if not what.results and any(message["role"] == "tool" for message in conversation):
        raise InvalidRequest("this model's chat template leaves out what tools give: leave such messages out.")
    return [_message(message, what, form) if message.get("tool_calls") else message for message in conversation]


def _message(message: Json, what: Shown, form: CallFormat | None) -> Json:
    calls = message["tool_calls"]
    if what.calls:
        if not what.as_text:
            return message
        texts = [json.dumps(call["function"]["arguments"], ensure_ascii=False) for call in calls]
        functions = [{**call["function"], "arguments": text} for call, text in zip(calls, texts, strict=True)]
        return {**message, "tool_calls": [{**c, "function": f} for c, f in zip(calls, functions, strict=True)]}
    if form is None:
        raise InvalidRequest("this model's chat template leaves out what the assistant called: leave tool_calls out.")
    content = message["content"]
    text = f"{content}\n" * bool(content) + spelled(form, [call["function"] for call in calls])
    return {name: value for name, value in message.items() if name != "tool_calls"} | {"content": text}


def spelled(form: CallFormat, functions: Sequence[Json]) -> str:
    """Calls as the model writes them. functions: each {"name": …, "arguments": {…}}."""
    calls = [_call(form, function["name"], function["arguments"]) for function in functions]
    begin, end = form.section
    if form.listed:
        return f"{form.opening}{form.padding}[{', '.join(calls)}]{form.padding}{form.closing}"
    if form.syntax == "python":
        return f"{form.opening}{form.padding}{chr(10).join(calls)}{form.padding}{form.closing}"
    joint = "\n" if form.padding else ""
    marked = (f"{form.opening}{form.padding}{call}{form.padding}{form.closing}" for call in calls)
    return begin + joint.join(marked) + end


def _call(form: CallFormat, name: str, arguments: Json) -> str:
    match form.syntax:
        case "json":
            return f'{{"name": {json.dumps(name)}, "{form.arguments}": {_json(form, arguments)}}}'
        case "named":
            return f"{form.before}{name}{form.between.replace('{id}', _ID)}{_json(form, arguments)}{form.after}"
        case "python":
            values = ", ".join(f"{key}={_python(value)}" for key, value in arguments.items())
            return f"{name}({values})"
        case "tags":
            before, between, after = form.argument
            values = "".join(f"{before}{key}{between}{_text(form, v)}{after}" for key, v in arguments.items())
            return f"{form.before}{name}{form.between}{values}{form.after}"


def _json(form: CallFormat, value: Any) -> str:
    """JSON in which no mark of the format stands: what was said is not what the model called."""
    text = json.dumps(value, ensure_ascii=False)
    for mark in form.tokens:
        text = text.replace(mark, f"\\u{ord(mark[0]):04x}{mark[1:]}")
    return text


def _text(form: CallFormat, value: Any) -> str:
    return value if isinstance(value, str) else _json(form, value)


def _python(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_python(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
