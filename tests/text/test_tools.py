"""Tool calls: found in text, and made by force."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from serving.text.calls import form as forms
from serving.text.control_tokens import ControlTokens
from serving.text.grammar import GrammarCompiler
from serving.text.prompt import Prompt
from serving.text.tools import Call, CallFormat, CallReader, calling, format_of, read_calls
from serving.types import Grammar

ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é <b>"}}\n</tool_call>'
CALL = Call("add", '{"a": 1, "b": "é <b>"}')
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"], "additionalProperties": False,
}  # fmt: skip
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "time"}},
]


TAGGED = CallFormat("<tool_call>", "</tool_call>", padding="\n")
LISTED = CallFormat("<TOOLCALL>", "</TOOLCALL>", listed=True)
TO_THE_END = CallFormat("[TOOL_CALLS]", listed=True)
NAMED = CallFormat("[TOOL_CALLS]", syntax="named", between="[ARGS]")
BARE = CallFormat(arguments="parameters")
ONE = CALL.arguments
TWO = f'[{{"name": "add", "arguments": {ONE}}}, {{"name": "add", "arguments": {ONE}}}]'


@pytest.mark.parametrize(
    ("form", "text", "said", "calls"),
    [
        (TAGGED, "hello", "hello", []),
        (TAGGED, ADD, "", [CALL]),
        (TAGGED, f"Well.\n\n{ADD}\n{ADD}\n", "Well.", [CALL, CALL]),
        (TAGGED, f"<tool_call>{TWO}</tool_call>", "", [CALL, CALL]),
        (TAGGED, "a < b <tool", "a < b <tool", []),
        (TAGGED, '<tool_call>{"name": "add"', '<tool_call>{"name": "add"', []),
        (TAGGED, "<tool_call>nonsense</tool_call> x", "<tool_call>nonsense</tool_call> x", []),
        (TAGGED, '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
         '<tool_call>{"name": "rm", "arguments": {}}</tool_call>', []),
        (TAGGED, '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
         '<tool_call>{"name": "add", "arguments": [1]}</tool_call>', []),
        (TAGGED, '{"name": "add", "arguments": {}}', '{"name": "add", "arguments": {}}', []),
        (TAGGED, "line\n\nline\n", "line\n\nline\n", []),
        (LISTED, f"So: <TOOLCALL>{TWO}</TOOLCALL>", "So: ", [CALL, CALL]),
        (LISTED, "<TOOLCALL>[]</TOOLCALL>", "<TOOLCALL>[]</TOOLCALL>", []),
        (LISTED, '<TOOLCALL>[{"name": "add"}, 1]</TOOLCALL>', '<TOOLCALL>[{"name": "add"}, 1]</TOOLCALL>', []),
        (TO_THE_END, f"[TOOL_CALLS]{TWO}", "", [CALL, CALL]),
        (TO_THE_END, f"Well.\n[TOOL_CALLS] {TWO}\n", "Well.", [CALL, CALL]),
        (TO_THE_END, f"[TOOL_CALLS]{TWO} and so on", " and so on", [CALL, CALL]),
        (TO_THE_END, f"[TOOL_CALLS] {TWO}\nI will see.", "I will see.", [CALL, CALL]),
        (TO_THE_END, "see [TOOL_", "see [TOOL_", []),
        (NAMED, f"Well.[TOOL_CALLS]add[ARGS]{ONE}[TOOL_CALLS]add[ARGS]{ONE}", "Well.", [CALL, CALL]),
        (NAMED, f"[TOOL_CALLS]rm[ARGS]{ONE}", f"[TOOL_CALLS]rm[ARGS]{ONE}", []),
        (NAMED, f"[TOOL_CALLS]add{ONE}", "", [CALL]),
        (BARE, ' {"name": "add", "parameters": {"a": 1}}', "", [Call("add", '{"a": 1}')]),
        (BARE, "hello {", "hello {", []),
        (BARE, '{"name": "rm", "parameters": {}}', '{"name": "rm", "parameters": {}}', []),
        (BARE, "", "", []),
    ],
)  # fmt: skip
def test_calls_are_found_however_the_text_is_cut(form: CallFormat, text: str, said: str, calls: list[Call]) -> None:
    names = {"add"}
    whole, found = read_calls(form, names, text)
    assert (whole, found) == (said, calls)
    for size in (1, 2, 7):
        reader = CallReader(form, names)
        parts = [part for at in range(0, len(text), size) for part in reader.feed(text[at : at + size])]
        parts += reader.flush()
        assert "".join(part for part in parts if isinstance(part, str)) == whole
        assert [part for part in parts if isinstance(part, Call)] == found


@pytest.mark.parametrize(
    ("form", "text", "said", "calls"),
    [
        (TAGGED, f"Well.\n{TAGGED.opening}", "Well.", []),
        (TAGGED, 'Well.\n<tool_call>{"name": "add", "argu', "Well.", []),
        (TAGGED, 'Well.\n<tool_call>{"name": "rm", "argu', "Well.", []),
        (TAGGED, ADD.removesuffix("</tool_call>"), "", [CALL]),
        (TAGGED, f"{ADD}\n<tool_c", "", [CALL]),
        (TAGGED, "Well.\n<tool_c", "Well.", []),
        (TAGGED, "a <", "a <", []),
        (TAGGED, "a <tool_call> is a mark", "a <tool_call> is a mark", []),
        (TO_THE_END, f"[TOOL_CALLS]{TWO[:-4]}", "", []),
        (NAMED, "[TOOL_CALLS]add[ARGS]{", "", []),
        (BARE, '{"name": "add", "para', "", []),
        (BARE, '{"name": "Anna", "ag', '{"name": "Anna", "ag', []),
        (forms.QWEN_CODER, "So.\n<tool_call>\n<function=add>\n<parameter=a>\n1", "So.", []),
        (forms.OLMO, "So.\n<function_calls>\nadd(a=1, b=", "So.", []),
    ],
)
def test_half_of_a_call_is_nothing_where_the_answer_was_cut(
    form: CallFormat, text: str, said: str, calls: list[Call]
) -> None:
    assert read_calls(form, {"add"}, text, cut=True) == (said, calls)
    reader = CallReader(form, {"add"})
    parts = [part for letter in text for part in reader.feed(letter)] + reader.flush(cut=True)
    assert "".join(part for part in parts if isinstance(part, str)) == said
    assert [part for part in parts if isinstance(part, Call)] == calls


def follows(tokenizer: Tokenizer, grammar: Grammar, text: str) -> str:
    """What a model held to the grammar may write of a text, and a mark where the answer may end, or has to."""
    matcher = GrammarCompiler(tokenizer, tokenizer.get_vocab_size(), frozenset({2})).matcher(grammar)
    written: list[int] = []
    for token in tokenizer.encode(text, add_special_tokens=False).ids:
        if token not in matcher.allowed():
            break
        matcher.accept(token)
        written.append(token)
    end = "." if matcher.stopped else "?" if 2 in matcher.allowed() else ""
    return str(tokenizer.decode(written, skip_special_tokens=False)) + end


@pytest.fixture(scope="module")
def tokenizer(demo_model: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(demo_model / "tokenizer.json"))
    tokenizer.add_special_tokens(["[TOOL_CALLS]", "[ARGS]"])
    return tokenizer


FUNCTIONS = [
    {
        "name": "weather",
        "parameters": {
            "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"], "additionalProperties": False, "$defs": {"city": {"enum": ["Rome", "Oslo"]}},
        },
    },
    {"name": "größe"},
]  # fmt: skip


def special(form: CallFormat, tokenizer: Tokenizer) -> CallFormat:
    """The format where its marks in square brackets are special tokens, as they are for Mistral."""
    marks = [text for text in (form.opening, form.between) if text.startswith("[")]
    return replace(form, tokens={text: tokenizer.token_to_id(text) for text in marks})


def written(form: CallFormat, name: str, arguments: str, count: int = 1) -> str:
    call = f'{{"name": "{name}", "{form.arguments}": {arguments}}}'
    if form.listed:
        return f"{form.opening}[{', '.join([call] * count)}]{form.closing}"
    if form.between:
        return f"{form.opening}{name}{form.between}{arguments}" * count
    return "\n".join([f"{form.opening}\n{call}\n{form.closing}" if form.opening else call] * count)


@pytest.mark.parametrize("form", [TAGGED, LISTED, TO_THE_END, NAMED, BARE])
def test_an_answer_is_held_to_valid_calls_or_text(form: CallFormat, tokenizer: Tokenizer) -> None:
    form = special(form, tokenizer)
    right = written(form, "weather", '{"city": "Rome", "days": 2}')
    plain = calling(form, FUNCTIONS)
    for text in ("", "Hello <b> {", "{" if form.opening else "Well."):
        assert follows(tokenizer, plain, text) == text + "?"
    assert follows(tokenizer, plain, right).startswith(right)
    assert follows(tokenizer, plain, written(form, "größe", "{}")).startswith(written(form, "größe", "{}"))
    wrong = written(form, "weather", '{"city": "Rome", "days": 10}')
    assert len(right) - 20 < len(follows(tokenizer, plain, wrong)) < len(right)
    unknown = written(form, "rm", "{}")
    assert unknown.startswith(said := follows(tokenizer, plain, unknown)) and "rm" not in said

    once = calling(form, FUNCTIONS, several=False)
    assert follows(tokenizer, once, right) == follows(tokenizer, once, right + right) == right + "."
    must = calling(form, FUNCTIONS, must=True)
    assert (follows(tokenizer, must, "Hello"), follows(tokenizer, must, right)) == ("", right + ".")

    constant = {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"], "additionalProperties": False}
    held = calling(form, FUNCTIONS, schema=constant)
    assert (follows(tokenizer, held, "Hello"), follows(tokenizer, held, '{"a": 1}')) == ("", '{"a": 1}.')
    assert follows(tokenizer, held, right).startswith(right)


@pytest.mark.parametrize("form", [TAGGED, LISTED, TO_THE_END, NAMED])
def test_several_calls_follow_each_other_where_they_may(form: CallFormat, tokenizer: Tokenizer) -> None:
    form = special(form, tokenizer)
    text = written(form, "weather", '{"city": "Rome", "days": 2}', count=2)
    names = {function["name"] for function in FUNCTIONS}
    assert len(read_calls(form, names, text)[1]) == 2
    for schema in (None, {"type": "object"}):
        assert follows(tokenizer, calling(form, FUNCTIONS, schema=schema), text).startswith(text)
        assert not follows(tokenizer, calling(form, FUNCTIONS, several=False, schema=schema), text).startswith(text)


def test_text_before_a_call_does_not_wait_for_it() -> None:
    reader = CallReader(TAGGED, {"add"})
    assert reader.feed("Let me see.") == ["Let me see."]
    assert reader.feed("<tool") == []


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("a chat", None),
        ("<tool_call><invoke name={{ name }}></invoke></tool_call>", None),
        ("{{ content.split('<tool_sep>') }}<function name={{ name }}>", None),
        ('{"name": {{ name }}, "description": {{ description }}, "parameters": {{ parameters }}}', None),
        ("<tool_call>{{ call }}</tool_call>", forms.QWEN),
        ("<TOOLCALL>[{{ call }}]</TOOLCALL>", LISTED),
        ("[TOOL_CALLS][{{ call }}]", TO_THE_END),
        ('{"name": function name, "parameters": dictionary}', forms.LLAMA),
        (r"{\"name\": \"f\", \"parameters\": {}}", forms.LLAMA),
        ("<tool_call><function=f>", forms.QWEN_CODER),
        ("[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}", NAMED),
        ("[TOOL_CALLS]{{ name }}[CALL_ID]{{ id }}[ARGS]{{ arguments }}", forms.MISTRAL_ID),
        ("<|tool_call|> and a list", forms.GRANITE),
        ("<tool_call></tool_call> tags: <tool_calls>[{{ calls }}]</tool_calls>", forms.LISTED),
        ("<tool_call>{{ name }}<arg_key>", forms.GLM),
        ("<seed:tool_call><function=f>", forms.SEED),
        ("{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}", forms.PHI),
        ("<function_calls>{{ calls }}</function_calls>", forms.OLMO),
        ("List of tools: <|tool_list_start|>[{{ tools }}]<|tool_list_end|>", forms.LFM),
        ("{% set keep_past_thinking = false %}List of tools: [{{ tools }}]", forms.LFM),
        ("<extra_id_1>Tool {{ '<tool> ' + tool + ' </tool>' }}", forms.NEMOTRON_MINI),
    ],
)
def test_the_template_says_how_calls_are_written(template: str, form: CallFormat | None, tokenizer: Tokenizer) -> None:
    found = format_of(template, tokenizer)
    assert found == (form and form.with_tokens(tokenizer))
    assert found is None or found == CallFormat.of(json.loads(json.dumps(asdict(found))))


def test_marks_that_are_special_tokens_are_shown(demo_model: Path, tokenizer: Tokenizer) -> None:
    prompt = Prompt.load(demo_model)
    prompt = replace(
        prompt, tokenizer=tokenizer, template=prompt.template + "[TOOL_CALLS][ARGS]",
        controls=ControlTokens(tokenizer, prompt.template, None),
    )  # fmt: skip
    stream = prompt.detokenizer()
    ids = tokenizer.encode("<|im_start|>[TOOL_CALLS]f[ARGS]{}").ids
    assert "".join(map(stream.feed, ids)) == "[TOOL_CALLS]f[ARGS]{}"
