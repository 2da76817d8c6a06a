"""What holds a model to valid calls, in the way in which it writes them: a grammar in llguidance's Lark."""

import json
import re
from collections.abc import Sequence
from typing import Any

from serving.errors import InvalidRequest
from serving.text.calls.form import CallFormat
from serving.text.schemas import MOST_CHARACTERS, text_of, to_generate
from serving.types import Grammar

Json = dict[str, Any]
_ID = "{id}"
_NINE, _FREE = "ID: /[a-zA-Z0-9]{9}/", r"FREE: /(.|\n)*/"
_TRUTH = {"python": '"True" | "False"', "tags": '"true" | "false"'}


def calling(
    form: CallFormat, functions: Sequence[Json], must: bool = False, several: bool = True, schema: Json | None = None
) -> Grammar:
    """What holds an answer to valid calls of these functions, each {"name": …, "parameters": schema or None}.

    must: the answer is one call, and nothing else. Otherwise it is calls (one, unless `several`), or text with calls
    in it; or, with a schema, JSON that follows it. Raises InvalidRequest for schemas that are too much.
    """
    size = sum(len(text_of(function.get("parameters") or {})) for function in functions)
    if size > MOST_CHARACTERS:
        raise InvalidRequest(
            f"the tools' parameters have {size:,} characters, and may have {MOST_CHARACTERS:,}: leave some out."
        )
    return Grammar("lark", "\n".join(["%llguidance {}", *_Writer(form).rules(functions, must, several, schema)]))


class _Writer:
    """Writes the rules for one format."""

    def __init__(self, form: CallFormat) -> None:
        self._form = form
        self._token = re.compile("|".join(map(re.escape, sorted(form.tokens, key=len, reverse=True))) or "(?!)")
        self._more: list[str] = []

    def rules(self, functions: Sequence[Json], must: bool, several: bool, schema: Json | None) -> list[str]:
        form, more = self._form, several and not must
        first, begins = self._begins()
        rules = [f"rest: {self._rest(more, begins)}", "call: " + " | ".join(f"call{n}" for n in range(len(functions)))]
        for n, function in enumerate(functions):
            rules.append(f"call{n}: {self._call(n, function['name'], function.get('parameters') or {})}")
        again = more and form.closing and not form.listed and not form.section[0]
        if must:
            rules.append(f"start: {first} rest")
        elif schema is not None:
            following = f'("\\n" {first} rest)*' if again else ""
            rules += [f"start: {first} rest {following} | other", f"other: {_json(schema)}"]
        elif not first:
            barred = "[" if form.listed else "{"
            free = rf"TEXT: /([ \t\r\n]*[^{re.escape(barred)} \t\r\n](.|\n)*)?/" if form.syntax != "named" else ""
            rules += ["start: rest | TEXT", free or self._unnamed(functions)]
        else:
            # Text ends where an opening is spelled out; a special token is no text anyway.
            lazy = "" if first.startswith("<") else "[lazy]"
            rules += [f"start: {'(called rest)* end' if again else 'called rest | end'}"]
            rules += [f"called{lazy}: TEXT {first}", "end: TEXT", r"TEXT: /(.|\n)*/"]
        return [*rules, *self._more]

    def _begins(self) -> tuple[str, str]:
        """What an answer's first call begins with, up to the end of the first mark; and what of it follows that."""
        form = self._form
        pieces = self._pieces(form.section[0] + form.opening)
        return (pieces[0], " ".join(pieces[1:])) if pieces else ("", "")

    def _rest(self, more: bool, begins: str) -> str:
        """From the first mark to the last."""
        form = self._form
        opening, closing, padding = (self._literal(text) for text in (form.opening, form.closing, form.padding))
        separator = {"python": '", "' if form.listed else '"\\n"', "json": '", "'}.get(form.syntax, "")
        if form.listed:
            inside = f'"[" call ({separator} call)* "]"' if more else '"[" call "]"'
            return f"{begins} {padding} {inside} {padding} {closing}"
        if form.section[0] or (not form.closing and form.opening):
            joint = self._literal("\n") if form.section[0].endswith("\n") else ""
            again = f"({joint} {opening} {padding} call {padding} {closing})*"
            ending = self._literal(form.section[1])
            return f"{begins} {padding} call {padding} {closing} {again if more else ''} {ending}"
        if form.syntax == "python" and more:
            return f"{begins} {padding} call ({separator} call)* {padding} {closing}"
        return f"{begins} {padding} call {padding} {closing}"

    def _call(self, n: int, name: str, parameters: Json) -> str:
        form = self._form
        if form.syntax == "json":
            # Part by part, as %json reads it: a lexer takes the longest literal, and "other" begins with "{" too.
            before = ("{", '"name"', ": ", _plain(name), ", ", _plain(form.arguments), ": ")
            self._more.append(f"arguments{n}: {_json(_object(parameters))}")
            return f"{' '.join(map(json.dumps, before))} arguments{n} {json.dumps('}')}"
        head = f"{self._literal(form.before)} {json.dumps(name)} {self._between()}"
        if form.syntax == "named":
            self._more.append(f"arguments{n}: {_json(_object(parameters))}")
            return f"{head} arguments{n} {self._literal(form.after)}"
        return f"{head} {self._arguments(n, parameters)} {self._literal(form.after)}"

    def _between(self) -> str:
        before, id, after = self._form.between.partition(_ID)
        if not id:
            return self._literal(before)
        self._more += [] if _NINE in self._more else [_NINE]
        return f"{self._literal(before)} ID {self._literal(after)}"

    def _arguments(self, n: int, parameters: Json) -> str:
        """Each argument by itself, in the order in which the schema names them."""
        required = set(parameters.get("required") or ())
        written: list[str] = []
        for k, (name, schema) in enumerate((parameters.get("properties") or {}).items()):
            rule = f"argument{n}_{k}"
            shared: Json = {key: parameters[key] for key in ("$defs", "definitions") if key in parameters}
            value = self._value(rule, {**schema, **shared} if isinstance(schema, dict) else {})
            self._more.append(f"{rule}: {self._named(name, value)}")
            written.append(rule if name in required else f"{rule}?")
        return self._separated(n, written) if self._form.syntax == "python" else " ".join(written)

    def _named(self, name: str, value: str) -> str:
        if self._form.syntax == "python":
            return f"{json.dumps(f'{name}=')} {value}"
        before, between, after = self._form.argument
        ending = "" if value.endswith("_text") else self._literal(after)
        return f"{self._literal(before)} {json.dumps(name)} {self._literal(between)} {value} {ending}"

    def _separated(self, n: int, written: Sequence[str]) -> str:
        """Arguments with commas between them, those that may be left out included."""
        first = after = ""
        for k in reversed(range(len(written))):
            rule, optional = written[k].removesuffix("?"), written[k].endswith("?")
            otherwise = f" | {first}" if first else "?"
            self._more.append(f"first{n}_{k}: ({rule} {after}){otherwise if optional else ''}")
            self._more.append(f"after{n}_{k}: ({json.dumps(', ')} {rule}){'?' if optional else ''} {after}")
            first, after = f"first{n}_{k}", f"after{n}_{k}"
        return first

    def _value(self, rule: str, schema: Json) -> str:
        """The rule of a value; one that ends in _text has the mark after it in it, as a text ends with it."""
        syntax = self._form.syntax
        if schema.get("type") == "boolean":
            self._more.append(f"{rule}_value: {_TRUTH[syntax]}")
        elif syntax == "tags" and _is_text(schema):
            return self._text(rule, schema)
        else:
            self._more.append(f"{rule}_value: {_json(schema)}")
        return f"{rule}_value"

    def _text(self, rule: str, schema: Json) -> str:
        choices = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
        texts = [choice for choice in choices if isinstance(choice, str)]
        if texts:
            self._more.append(f"{rule}_value: {' | '.join(map(json.dumps, texts))}")
            return f"{rule}_value"
        ending = self._pieces(self._form.argument[2])
        lazy = "" if ending[0].startswith("<") else "[lazy]"
        self._more.append(f"{rule}_end{lazy}: FREE {ending[0]}")
        self._more.append(f"{rule}_text: {rule}_end {' '.join(ending[1:])}")
        self._more += [] if _FREE in self._more else [_FREE]
        return f"{rule}_text"

    def _unnamed(self, functions: Sequence[Json]) -> str:
        """Text that does not begin as a call does: with a function's name in a line by itself."""
        return r"TEXT: /[ \t]*([^\n]*[^\w\n][^\n]*(\n(.|\n)*)?)?/"

    def _pieces(self, text: str) -> list[str]:
        """A text as literals, and as tokens where it has tokens of its own."""
        pieces, at = [], 0
        for found in self._token.finditer(text):
            pieces += [json.dumps(text[at : found.start()])] if text[at : found.start()] else []
            pieces.append(f"<[{self._form.tokens[found[0]]}]>")
            at = found.end()
        return pieces + ([json.dumps(text[at:])] if text[at:] else [])

    def _literal(self, text: str) -> str:
        return " ".join(self._pieces(text))


def _is_text(schema: Json) -> bool:
    kinds = schema.get("type")
    if kinds is None:
        return not schema.keys() & {"anyOf", "oneOf", "$ref", "allOf", "enum", "const"} or _has_texts(schema)
    return "string" in ([kinds] if isinstance(kinds, str) else kinds)


def _has_texts(schema: Json) -> bool:
    return any(isinstance(choice, str) for choice in schema.get("enum") or [schema.get("const")])


def _object(parameters: Json) -> Json:
    return {"type": "object", **parameters}


def _json(schema: Json) -> str:
    return f"%json {json.dumps(to_generate(schema))}"


def _plain(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
