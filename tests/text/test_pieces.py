"""Calls that are given as they are written: their pieces make what the whole text makes."""

import json
import random
from typing import Any

import pytest

from serving.text.calls import form as forms
from serving.text.tools import Call, CallFormat, CallPiece, CallReader, Part, read_calls

NAMES = {"add", "weather.of"}
ARGUMENTS = [
    "{}",
    '{"a": 1}',
    '{ "a" :[1, -2.5e3,true , null],"b":{"c": "x, y: {z}]"} }',
    '{"text": "a \\"quote\\", a \\\\ and\ta tab\nand \\u00e9 \u00e9 </tool_call>"}',
    '{\n  "deep": {"er": [{"a": []}, {}]}\n}',
]


def pieces(form: CallFormat, text: str, rng: random.Random | None = None) -> list[Part]:
    """What a stream gives of a text that comes letter by letter, or in parts of any size."""
    reader, parts, at = CallReader(form, NAMES, pieces=True), list[Part](), 0
    while at < len(text):
        size = rng.randint(1, 9) if rng else 1
        parts += reader.feed(text[at : at + size])
        at += size
    return parts + reader.flush()


def put_together(parts: list[Part]) -> tuple[str, list[tuple[str, Any]]]:
    """The text, and the calls with their arguments read."""
    said, calls, name, arguments = "", list[tuple[str, Any]](), "", ""
    for part in parts:
        if isinstance(part, str):
            said += part
        elif isinstance(part, Call):
            calls.append((part.name, json.loads(part.arguments)))
        else:
            name, arguments = part.name or name, part.arguments if part.name else arguments + part.arguments
            if part.whole:
                calls.append((name, json.loads(arguments)))
    return said, calls


def written(form: CallFormat, name: str, arguments: str) -> str:
    if form.syntax == "named":
        return f"{form.opening}{name}{form.between}{arguments}{form.closing}"
    call = f'{{"name": "{name}", "{form.arguments}": {arguments}}}'
    return f"{form.opening}{f'[{call}, {call}]' if form.listed else call}{form.closing}"


@pytest.mark.parametrize(
    "form", [forms.QWEN, forms.MISTRAL, forms.NEMOTRON, forms.LLAMA, forms.MISTRAL_NAMED, forms.DEEPSEEK_31]
)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_pieces_make_the_call(form: CallFormat, arguments: str) -> None:
    one = written(form, "weather.of", arguments)
    texts = [one] if form.bare else [f"Well.\n{one}", f"{one}\n{one}", f"{one} and so on"]
    for text in texts:
        said, calls = read_calls(form, NAMES, text)
        expected = said, [(call.name, json.loads(call.arguments)) for call in calls]
        assert calls
        parts = pieces(form, text)
        assert put_together(parts) == expected
        for seed in range(20):
            assert put_together(pieces(form, text, random.Random(seed))) == expected
        if len(arguments) > 10:
            assert sum(isinstance(part, CallPiece) for part in parts) > 5


def test_the_name_comes_with_the_first_piece_and_nothing_is_held_back() -> None:
    reader = CallReader(forms.QWEN, NAMES, pieces=True)
    assert reader.feed('<tool_call>\n{"name": "add", "argu') == []
    assert reader.feed('ments": {"a": "Ro') == [CallPiece('{"a": "Ro', "add")]
    assert reader.feed("me") == [CallPiece("me")]
    assert reader.feed('", "b": 1') == [CallPiece('", "b": ')]
    assert reader.feed("2}}") == [CallPiece("12}", whole=True)]
    assert [*reader.feed("\n</tool_call>"), *reader.flush()] == []


def test_long_arguments_come_as_they_are_written() -> None:
    reader = CallReader(forms.QWEN, NAMES, pieces=True)
    reader.feed('<tool_call>{"name": "add", "arguments": {"a": "')
    for _ in range(2000):
        assert reader.feed("word ") == [CallPiece("word ")]
    assert reader.feed('"}}') == [CallPiece('"}')]
    assert reader.feed("</tool_call>") == [CallPiece("", whole=True)]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "rm", "arguments": {"a": 1}}</tool_call>',
        '<tool_call>{"name": "add", "arguments": "{}"}</tool_call>',
        '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>',
        '<tool_call>{"name": "add", "note": 1, "arguments": {"a": 1}}</tool_call>',
        "<tool_call>add",
    ],
)
def test_what_is_not_known_to_be_a_call_gives_no_pieces(text: str) -> None:
    parts = pieces(forms.QWEN, text)
    assert not any(isinstance(part, CallPiece) for part in parts)
    said, calls = read_calls(forms.QWEN, NAMES, text)
    assert put_together(parts) == (said, [(call.name, json.loads(call.arguments)) for call in calls])


@pytest.mark.parametrize("bad", ["NaN", "1.", "tru", "1e999", "nothing"])
def test_what_turns_out_to_be_no_json_is_never_whole(bad: str) -> None:
    text = f'<tool_call>{{"name": "add", "arguments": {{"a": {bad}}}}}</tool_call>'
    parts = pieces(forms.QWEN, text)
    given = [part for part in parts if isinstance(part, CallPiece)]
    assert "".join(part.arguments for part in given) == '{"a": ' and not any(part.whole for part in given)
    assert "".join(part for part in parts if isinstance(part, str)) == text
