"""Tool calls: how a model writes them, how they are found in its text, and how it is held to write them right."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tokenizers import Tokenizer

from serving.errors import InvalidRequest
from serving.text.schemas import MOST_CHARACTERS, text_of, to_generate
from serving.text.stops import overlap
from serving.types import Grammar

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the model wrote it. arguments: JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How a model writes calls: as JSON objects with "name" and `arguments`, between `opening` and `closing`.

    Without an opening, the answer is a call and nothing else. Without a closing, the answer ends with its calls.
    listed: one JSON list of all calls instead of one object after each opening.
    between: where name and arguments are not one object, what stands between them.
    tokens: ids of those of these texts that are special tokens, which no other tokens can spell.
    """

    opening: str = ""
    closing: str = ""
    arguments: str = "arguments"
    listed: bool = False
    between: str = ""
    tokens: Mapping[str, int] = field(default_factory=dict)


# By what the chat template says of them; the first that fits.
_FORMATS = (
    CallFormat("<tool_call>", "</tool_call>"),  # Qwen, Hermes, SmolLM3, Granite 4, EXAONE
    CallFormat("<|tool_call|>", listed=True),  # Granite 3
    CallFormat("<TOOLCALL>", "</TOOLCALL>", listed=True),  # Nemotron
    CallFormat("[TOOL_CALLS]", between="[ARGS]"),  # Ministral 3
    CallFormat("[TOOL_CALLS]", listed=True),  # Mistral
)
_BARE = CallFormat(arguments="parameters")  # Llama 3
# Calls in other ways: Qwen3-Coder, GLM 4.5, Hunyuan, Mistral Small 3.2.
_OTHERWISE = ("<function=", "<arg_key>", "<tool_sep>", "```json", "[CALL_ID]")


def format_of(template: str, tokenizer: Tokenizer) -> CallFormat | None:
    """How a model with this chat template writes calls; None for no calls, or a way that cannot be read here."""
    if any(mark in template for mark in _OTHERWISE):
        return None
    special = {token.content: id for id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    for form in _FORMATS:
        if form.opening in template and form.between in template:
            texts = (form.opening, form.between, form.closing)
            return replace(form, tokens={text: special[text] for text in texts if text in special})
    return _BARE if re.search(r"""\{\\?"name\\?":.*\\?"parameters\\?":""", template) else None


class CallReader:
    """Splits the text of one answer into what is said and what is called.

    names: the functions that there are; JSON that calls none of them is text.

    >>> reader = CallReader(CallFormat("<tool_call>", "</tool_call>"), {"add"})
    >>> reader.feed("Well. <tool_"), reader.feed('call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    (['Well. '], [Call(name='add', arguments='{"a": 1}')])
    """

    def __init__(self, form: CallFormat, names: set[str]) -> None:
        self._form, self._names = form, names
        self._held = ""
        self._after_call = False
        self._said = False  # a bare call is the whole answer

    def feed(self, text: str) -> list[str | Call]:
        """What is known by now."""
        self._held += text
        opening, closing = self._form.opening, self._form.closing
        if not opening:
            start = self._held.lstrip()
            if not self._said and (not start or start.startswith("{")):
                return []
            self._said = True
            said, self._held = self._held, ""
            return [said]
        found: list[str | Call] = []
        self._held = self._held.lstrip("\n") if self._after_call else self._held
        while closing and opening in self._held and closing in self._held.partition(opening)[2]:
            before, _, rest = self._held.partition(opening)
            inside, _, self._held = rest.partition(closing)
            calls = self._read(inside)
            # Line breaks around a call belong to neither.
            found += [before.rstrip("\n"), *calls] if calls else [before + opening + inside + closing]
            self._held = self._held.lstrip("\n") if calls else self._held
            self._after_call = bool(calls)
        if opening not in self._held:
            said = self._held[: len(self._held) - overlap(self._held, opening)].rstrip("\n")
            found.append(said)
            self._after_call = self._after_call and not said
            self._held = self._held[len(said) :]
        return [part for part in found if part]

    def flush(self) -> list[str | Call]:
        """What was held back, when the answer ends."""
        held, self._held = self._held, ""
        if self._form.closing:  # what was opened has not ended
            return [held] if held else []
        before, _, inside = held.partition(self._form.opening) if self._form.opening else ("", "", held)
        calls = self._read(inside)
        parts: list[str | Call] = [before.rstrip("\n"), *calls] if calls else [held]
        return [part for part in parts if part]

    def _read(self, text: str) -> list[Call]:
        """The calls in this text; none where any of it is something else."""
        form = self._form
        try:
            if form.between:
                pairs = [each.partition(form.between) for each in text.split(form.opening)]
                content: Any = [{"name": name, "arguments": json.loads(arguments)} for name, _, arguments in pairs]
            else:
                content = json.loads(text)
        except ValueError:
            return []
        calls = [self._call(each) for each in (content if isinstance(content, list) else [content])]
        found = [call for call in calls if call]
        return found if len(found) == len(calls) else []

    def _call(self, content: Any) -> Call | None:
        if not isinstance(content, dict) or content.get("name") not in self._names:
            return None
        arguments = content.get("arguments", content.get("parameters", {}))
        if not isinstance(arguments, dict):
            return None
        return Call(str(content["name"]), json.dumps(arguments, ensure_ascii=False))


def read_calls(form: CallFormat, names: set[str], text: str) -> tuple[str, list[Call]]:
    """A whole answer's text, and its calls."""
    reader = CallReader(form, names)
    parts = [*reader.feed(text), *reader.flush()]
    return "".join(part for part in parts if isinstance(part, str)), [part for part in parts if isinstance(part, Call)]


def calling(
    form: CallFormat, functions: Sequence[Json], must: bool = False, several: bool = True, schema: Json | None = None
) -> Grammar:
    """What holds an answer to valid calls of these functions, each {"name": …, "parameters": schema or None}.

    must: the answer is one call, and nothing else. Otherwise it is calls (one, unless `several`), or text with calls
    in it; or, with a schema, JSON that follows it. Raises InvalidRequest for schemas that are too much.
    """
    more = several and not must
    size = sum(len(text_of(function.get("parameters") or {})) for function in functions)
    if size > MOST_CHARACTERS:
        raise InvalidRequest(
            f"the tools' parameters have {size:,} characters, and may have {MOST_CHARACTERS:,}: leave some out."
        )

    def literal(text: str) -> str:
        return f"<[{form.tokens[text]}]>" if text in form.tokens else json.dumps(text) if text else ""

    opening = literal(form.opening)
    if form.listed:
        inside = '"[" call (", " call)* "]"' if more else '"[" call "]"'
    elif form.between:
        inside = f"call ({opening} call)*" if more else "call"
    else:
        inside = '"\\n" call "\\n"' if form.opening else "call"
    rules = [f"rest: {inside} {literal(form.closing)}"]
    rules.append("call: " + " | ".join(f"call{n}" for n, _ in enumerate(functions)))
    for n, function in enumerate(functions):
        # Part by part, as %json reads it: a lexer takes the longest literal, and "other" begins with "{" too.
        before: tuple[str, ...] = ("{", '"name"', ": ", _plain(function["name"]), ", ", _plain(form.arguments), ": ")
        after = '"}"'
        if form.between:
            before, after = (function["name"], form.between), ""
        # Each schema by itself: what it refers to, it refers to from its own root.
        parameters = {"type": "object", **(function.get("parameters") or {})}
        rules += [
            f"call{n}: {' '.join(map(literal, before))} arguments{n} {after}",
            f"arguments{n}: {_json(parameters)}",
        ]
    again = more and form.closing and not form.listed
    if must:
        rules.append(f"start: {opening} rest")
    elif schema is not None:
        following = f'("\\n" {opening} rest)*' if again else ""
        rules += [f"start: {opening} rest {following} | other", f"other: {_json(schema)}"]
    elif not form.opening:
        rules += ["start: rest | TEXT", r"TEXT: /([ \t\r\n]*[^{ \t\r\n](.|\n)*)?/"]
    else:
        # Text ends where an opening is spelled out; a special token is no text anyway.
        lazy = "" if form.opening in form.tokens else "[lazy]"
        start = "(called rest)* end" if again else "called rest | end"
        rules += [f"start: {start}", f"called{lazy}: TEXT {opening}", "end: TEXT", r"TEXT: /(.|\n)*/"]
    return Grammar("lark", "\n".join(["%llguidance {}", *rules]))


def _json(schema: Json) -> str:
    return f"%json {json.dumps(to_generate(schema))}"


def _plain(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
