"""What the text of an answer must be, in the fields that vLLM and llama.cpp have for it."""

import json
from typing import Annotated

from pydantic import Field
from pydantic_core import to_json

from serving.http.problems import Problem
from serving.http.requests.wire import Off, Schema, Wire
from serving.types import Grammar

Written = Schema | Annotated[str, Field(min_length=1)]
Rule = Annotated[str, Field(min_length=1)]
Choices = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000, fail_fast=True)]


class StructuredOutputs(Wire):
    """What the answer must be: one of these."""

    json_: Written | None = Field(None, alias="json")
    json_object: bool | None = None
    regex: Rule | None = None
    choice: Choices | None = None
    grammar: Rule | None = None
    disable_any_whitespace: bool | None = Field(None, description="JSON has few blanks, whatever it says")
    disable_fallback: bool | None = Field(None, description="there is none, whatever it says")
    disable_additional_properties: Off | None = None
    whitespace_pattern: None = None
    structural_tag: None = None

    def grammars(self) -> dict[str, Grammar | None]:
        """What each of them says, by the field's whole name."""
        return {
            "structured_outputs.json": _schema(self.json_),
            "structured_outputs.json_object": Grammar("json_object") if self.json_object else None,
            "structured_outputs.regex": _regex(self.regex),
            "structured_outputs.choice": _choice(self.choice),
            "structured_outputs.grammar": _rules(self.grammar),
        }


class Guided(Wire):
    """What both completion endpoints take."""

    guided_json: Written | None = Field(None, description="a JSON schema that the answer follows")
    guided_regex: Rule | None = Field(
        None, description="a regular expression that the whole answer matches, in Rust's syntax"
    )
    guided_choice: Choices | None = Field(None, description="texts of which the answer is one")
    guided_grammar: Rule | None = Field(
        None, description="a grammar that the answer follows: llama.cpp's GBNF, or llguidance's Lark"
    )
    structured_outputs: StructuredOutputs | None = Field(
        None, description="the same as `json`, `regex`, `choice` or `grammar`, or `json_object`: true"
    )
    json_schema: Written | None = Field(None, description="another name of `guided_json`")
    grammar: Rule | None = Field(None, description="another name of `guided_grammar`")

    def wanted(self, **formats: Grammar | None) -> Grammar | None:
        """What the answer must be; formats: what other fields say of that, by their names. Raises Problem for two."""
        given = {
            **formats,
            "guided_json": _schema(self.guided_json),
            "guided_regex": _regex(self.guided_regex),
            "guided_choice": _choice(self.guided_choice),
            "guided_grammar": _rules(self.guided_grammar),
            "json_schema": _schema(self.json_schema),
            "grammar": _rules(self.grammar),
            **(self.structured_outputs.grammars() if self.structured_outputs else {}),
        }
        names = [name for name, grammar in given.items() if grammar]
        if len(names) > 1:
            raise Problem.invalid(f"{names[0]} and {names[1]} both say what the answer must be: send one.", names[1])
        return given[names[0]] if names else None


def _schema(schema: Schema | str | None) -> Grammar | None:
    if schema is None:
        return None
    return Grammar("json_schema", schema if isinstance(schema, str) else to_json(schema).decode())


def _regex(regex: str | None) -> Grammar | None:
    return Grammar("regex", regex) if regex else None


def _choice(choices: list[str] | None) -> Grammar | None:
    if not choices:
        return None
    texts = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    return Grammar("lark", f"start: CHOICE\nCHOICE: {texts}")


def _rules(rules: str | None) -> Grammar | None:
    if not rules:
        return None
    return Grammar("gbnf" if "::=" in rules else "lark", rules)
