"""Tool calls: how a model writes them, how they are found in its text, and how it is made to write one."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.prompt import Prompt
from serving.stops import overlap
from serving.types import Grammar

OPENING, CLOSING = "<tool_call>", "</tool_call>"
Style = Literal["tagged", "bare"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the model wrote it. arguments: JSON."""

    name: str
    arguments: str


def style_of(prompt: Prompt) -> Style | None:
    """How a model writes calls, from its chat template; None for a way that cannot be read here.

    tagged: JSON between <tool_call> and </tool_call>, as Qwen, Hermes and many others. bare: the answer is nothing
    but JSON with "name" and "parameters", as Llama 3.
    """
    template = prompt.template
    if OPENING in template:
        token = prompt.tokenizer.token_to_id(OPENING)
        return "tagged" if "<function=" not in template and token not in prompt.controls.special_ids else None
    return "bare" if re.search(r"""\{\\?"name\\?":.*\\?"parameters\\?":""", template) else None


class CallReader:
    """Splits the text of one answer into what is said and what is called.

    names: the functions that there are; JSON that calls none of them is text.

    >>> reader = CallReader("tagged", {"add"})
    >>> reader.feed("Well. <tool_"), reader.feed('call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    (['Well. '], [Call(name='add', arguments='{"a": 1}')])
    """

    def __init__(self, style: Style, names: set[str]) -> None:
        self._style, self._names = style, names
        self._held = ""
        self._after_call = False
        self._said = False  # a bare call is the whole answer

    def feed(self, text: str) -> list[str | Call]:
        """What is known by now."""
        self._held += text
        if self._style == "bare":
            start = self._held.lstrip()
            if not self._said and (not start or start.startswith("{")):
                return []
            self._said = True
            said, self._held = self._held, ""
            return [said]
        found: list[str | Call] = []
        self._held = self._held.lstrip("\n") if self._after_call else self._held
        while OPENING in self._held and CLOSING in self._held.partition(OPENING)[2]:
            before, _, rest = self._held.partition(OPENING)
            inside, _, self._held = rest.partition(CLOSING)
            call = self._call(inside)
            # Line breaks around a call belong to neither.
            found += [before.rstrip("\n")] if call else [before + OPENING + inside + CLOSING]
            found += [call] if call else []
            self._held = self._held.lstrip("\n") if call else self._held
            self._after_call = call is not None
        if OPENING not in self._held:
            said = self._held[: len(self._held) - overlap(self._held, OPENING)].rstrip("\n")
            found.append(said)
            self._after_call = self._after_call and not said
            self._held = self._held[len(said) :]
        return [part for part in found if part]

    def flush(self) -> list[str | Call]:
        """What was held back, when the answer ends."""
        held, self._held = self._held, ""
        call = self._call(held) if self._style == "bare" else None
        return [call] if call else [held] if held else []

    def _call(self, text: str) -> Call | None:
        try:
            content = json.loads(text)
        except ValueError:
            return None
        if not isinstance(content, dict) or content.get("name") not in self._names:
            return None
        arguments = content.get("arguments", content.get("parameters", {}))
        if not isinstance(arguments, dict):
            return None
        return Call(str(content["name"]), json.dumps(arguments, ensure_ascii=False))


def read_calls(style: Style, names: set[str], text: str) -> tuple[str, list[Call]]:
    """A whole answer's text, and its calls."""
    reader = CallReader(style, names)
    parts = [*reader.feed(text), *reader.flush()]
    return "".join(part for part in parts if isinstance(part, str)), [part for part in parts if isinstance(part, Call)]


def calling(style: Style, functions: Sequence[Json]) -> Grammar:
    """What makes an answer one call of one of these functions, each {"name": …, "parameters": schema or None}."""
    arguments = "arguments" if style == "tagged" else "parameters"
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                arguments: function.get("parameters") or {"type": "object"},
            },
            "required": ["name", arguments],
            "additionalProperties": False,
        }
        for function in functions
    ]
    # A call is read by a program: a weak model would fill it with line breaks up to its token limit.
    compact = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    schema = json.dumps({**(calls[0] if len(calls) == 1 else {"anyOf": calls}), "x-guidance": compact})
    if style == "bare":
        return Grammar("json_schema", schema)
    return Grammar("lark", f'start: "{OPENING}\\n" call "\\n{CLOSING}"\ncall: %json {schema}\n')
