"""The syntaxes of tool calls: what is read of each however it is cut, and what a grammar lets a model write of it."""

import json
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from builder.demo import CHECKPOINT
from serving.text.calls import form as forms
from serving.text.calls.tags import typed
from serving.text.grammar import GrammarCompiler
from serving.text.tools import Call, CallFormat, CallReader, calling, read_calls

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "exact": {"type": "boolean"},
        "near": {"type": "array", "items": {"type": "string"}},
        "unit": {"enum": ["C", "F"]},
    },
    "required": ["city", "days"],
}
FUNCTIONS = {"weather": PARAMETERS, "now": None, "brave_search": None}
ROME: Any = {"city": "Rome", "days": 2}
TAGGED = '<tool_call>\n{"name": "weather", "arguments": %s}\n</tool_call>'
CODER = "<tool_call>\n<function=weather>\n<parameter=city>\n%s\n</parameter>\n</function>\n</tool_call>"
GLM = "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>%s</arg_value>\n</tool_call>"


def weather(**arguments: Any) -> tuple[str, Any]:
    return "weather", arguments


NOW = ("now", {})
CASES: list[tuple[CallFormat, str, str, list[tuple[str, Any]]]] = [
    # JSON, as it goes wrong
    (forms.QWEN, TAGGED % '"{\\"city\\": \\"Rome\\"}"', "", [weather(city="Rome")]),
    (forms.QWEN, TAGGED % "null", "", [weather()]),
    (forms.QWEN, (TAGGED % '{"city": "Rome"}').removesuffix("\n</tool_call>"), "", [weather(city="Rome")]),
    (forms.QWEN, (TAGGED % '{"city": "Rome"}').replace("\n</", "}\n</"), "", [weather(city="Rome")]),
    (forms.QWEN, TAGGED % '{"city": "Rome \\ud83d"}', "", [weather(city="Rome \ufffd")]),
    (forms.QWEN, TAGGED % '{"city": "a\nb </tool_call> {"}', "", [weather(city="a\nb </tool_call> {")]),
    (forms.QWEN, f"After <tool_call> now.\n{TAGGED % '{}'}\nDone.", "After <tool_call> now.Done.", [weather()]),
    (forms.QWEN, TAGGED % '{"city": NaN}', TAGGED % '{"city": NaN}', []),
    (forms.QWEN, TAGGED % '{"city": 1e999}', TAGGED % '{"city": 1e999}', []),
    (forms.QWEN, TAGGED % ('{"a":' * 2000 + "1" + "}" * 2000), TAGGED % ('{"a":' * 2000 + "1" + "}" * 2000), []),
    (
        forms.QWEN,
        '<tool_call>{"type": "function", "function": {"name": "now", "arguments": {}}}</tool_call>',
        "",
        [NOW],
    ),
    (
        forms.QWEN,
        '<tool_call>{"name": {"a": 1}, "arguments": {}}</tool_call> so',
        '<tool_call>{"name": {"a": 1}, "arguments": {}}</tool_call> so',
        [],
    ),
    (forms.QWEN, TAGGED % "[]", "", [weather()]),
    (forms.QWEN, (TAGGED % '{"city": "Rome"}').replace("\n</", "</").replace("}}", "}"), "", [weather(city="Rome")]),
    (forms.QWEN, f"{(TAGGED % '{}').replace('}}', '}')}\n{TAGGED % '{}'}\nDone.", "Done.", [weather(), weather()]),
    (forms.QWEN, '<tool_call>{"name": "weather"', '<tool_call>{"name": "weather"', []),
    (
        forms.QWEN,
        '<tool_call>{"name": "weather", "arguments": {"near": {"a": 1}',
        '<tool_call>{"name": "weather", "arguments": {"near": {"a": 1}',
        [],
    ),
    (forms.QWEN, '<tool_call>\n```json\n{"name": "now", "arguments": {}}\n```\n</tool_call> So.', " So.", [NOW]),
    (forms.QWEN, "<tool_call>```python\nnow()\n```", "<tool_call>```python\nnow()\n```", []),
    # Arguments under a name that is not known would be lost
    (
        forms.QWEN,
        '<tool_call>{"name": "weather", "city": "Rome"}</tool_call>',
        '<tool_call>{"name": "weather", "city": "Rome"}</tool_call>',
        [],
    ),
    (forms.QWEN, '<tool_call>{"name": "now", "id": "call_1"}</tool_call>', "", [NOW]),
    (forms.QWEN, '<tool_call>{"name": "now", "why": "asked", "arguments": {}}</tool_call>', "", [NOW]),
    (forms.MISTRAL, '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": "now", "arguments": {}}', "", [NOW, NOW]),
    (forms.NEMOTRON, '<TOOLCALL>[{"name": "weather", "arguments": {}', "", [weather()]),
    (forms.GRANITE, '<tool_call>[{"name": "now", "arguments": {}}]', "", [NOW]),
    (forms.LISTED, '<tool_calls>[{"name": "now", "arguments": {}}]</tool_calls>', "", [NOW]),
    (forms.PHI, 'functools[{"name": "now", "arguments": {}}]', "", [NOW]),
    (forms.PHI, '<|tool_call|>[{"name": "now", "arguments": {}}]<|/tool_call|>', "", [NOW]),
    (forms.NEMOTRON_MINI, '<toolcall> {"name": "now", "arguments": {}} </toolcall>', "", [NOW]),
    # Without a mark
    (forms.LLAMA, '{"name": "now", "parameters": {}}; {"name": "now", "parameters": {}}', "", [NOW, NOW]),
    (forms.LLAMA, '{"name": "weather", "temperature": 21}', '{"name": "weather", "temperature": 21}', []),
    (forms.LLAMA, '{"name": {"first": "Ada"}}', '{"name": {"first": "Ada"}}', []),
    (
        forms.LLAMA,
        '{"name": "weather", "description": "of a city", "parameters": {"type": "object"}}',
        '{"name": "weather", "description": "of a city", "parameters": {"type": "object"}}',
        [],
    ),
    (
        forms.LLAMA,
        json.dumps({"name": "weather", "parameters": PARAMETERS}),
        json.dumps({"name": "weather", "parameters": PARAMETERS}),
        [],
    ),
    (forms.LLAMA, '{"a":' * 1200, '{"a":' * 1200, []),
    (forms.LLAMA, '<|python_tag|>{"name": "now", "parameters": {}}', "", [NOW]),
    (forms.LLAMA, 'Well. <|python_tag|>brave_search.call(query="a b")', "Well. ", [("brave_search", {"query": "a b"})]),
    (forms.LLAMA, "[weather(city='Rome', days=2), now()]", "", [weather(**ROME), NOW]),
    (forms.LLAMA, "[1, 2]", "[1, 2]", []),
    # Python
    (
        forms.PYTHONIC,
        "[weather(city='Rome', exact=True, near=['a', \"b\"], unit=None)]",
        "",
        [weather(city="Rome", exact=True, near=["a", "b"], unit=None)],
    ),
    (forms.PYTHONIC, "<|python_start|>[now()]<|python_end|>", "", [NOW]),
    (forms.PYTHONIC, "[weather('Rome', -2)]", "", [weather(city="Rome", days=-2)]),
    (forms.PYTHONIC, "[weather(city='Rome)]", "[weather(city='Rome)]", []),
    (forms.PYTHONIC, "[weather(city=open('x'))]", "[weather(city=open('x'))]", []),
    (
        forms.OLMO,
        'Let me.\n<function_calls>\nweather(city="it\'s\\n(", days=2)\nnow()\n</function_calls>',
        "Let me.",
        [weather(city="it's\n(", days=2), NOW],
    ),
    (forms.OLMO, "<function_calls>now()", "", [NOW]),
    (forms.LFM, "<|tool_call_start|>[now(), now()]<|tool_call_end|>Hm.", "Hm.", [NOW, NOW]),
    (forms.LFM, "<|tool_call_start|>[now(), now()", "", [NOW, NOW]),
    # Tags
    (forms.QWEN_CODER, CODER % "Rome", "", [weather(city="Rome")]),
    (forms.QWEN_CODER, f"So.\n{CODER % 'a'}\n{CODER % 'b'}", "So.", [weather(city="a"), weather(city="b")]),
    (
        forms.QWEN_CODER,
        (CODER % "Rome").replace("<tool_call>\n", "").replace("\n</tool_call>", ""),
        "",
        [weather(city="Rome")],
    ),
    (
        forms.QWEN_CODER,
        CODER % "say </parameter> or\n</function>",
        "",
        [weather(city="say </parameter> or\n</function>")],
    ),
    (forms.QWEN_CODER, (CODER % "Rome").replace("\n</parameter>", ""), "", [weather(city="Rome")]),
    (
        forms.QWEN_CODER,
        CODER % "as <parameter=x>\n1\n</parameter> in a text",
        "",
        [weather(city="as <parameter=x>\n1\n</parameter> in a text")],
    ),
    (
        forms.QWEN_CODER,
        (CODER % "Rome").replace("</parameter>", "</parameter>\n<parameter=days>\n3\n</parameter>"),
        "",
        [weather(city="Rome", days=3)],
    ),
    (forms.QWEN_CODER, "<tool_call>\n<function=now>\n</function>\n</tool_call>", "", [NOW]),
    (
        forms.QWEN_CODER,
        "<tool_call>\n<function=rm>\n</function>\n</tool_call>",
        "<tool_call>\n<function=rm>\n</function>\n</tool_call>",
        [],
    ),
    (forms.QWEN_CODER, '<function=weather>{"city": "Rome"}</function>', "", [weather(city="Rome")]),
    (
        forms.SEED,
        "<seed:tool_call>\n<function=weather>\n<parameter=city>Rome</parameter>\n</function>\n</seed:tool_call>",
        "",
        [weather(city="Rome")],
    ),
    (forms.GLM, GLM % "Rome", "", [weather(city="Rome")]),
    (forms.GLM, GLM % "a </arg_value> b", "", [weather(city="a </arg_value> b")]),
    (forms.GLM, "<tool_call>now</tool_call><tool_call>now\n</tool_call>", "", [NOW, NOW]),
    (forms.GLM, "<tool_call>nothing</tool_call>", "<tool_call>nothing</tool_call>", []),
    (forms.GLM, "<tool_call>now", "", [NOW]),
    (
        forms.HUNYUAN_TAGS,
        "<tool_calls>\n<tool_call>weather<tool_sep>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n"
        "</tool_call>\n</tool_calls>",
        "",
        [weather(days=2)],
    ),
    # A name before JSON
    (
        forms.HUNYUAN,
        "<tool_calls>\n<tool_call>function<tool_sep>now\n```json\n{}\n```\n</tool_call>\n</tool_calls>",
        "",
        [NOW],
    ),
    (
        forms.DEEPSEEK,
        "<\uff5ctool▁calls▁begin\uff5c><\uff5ctool▁call▁begin\uff5c>function<\uff5ctool▁sep\uff5c>now\n```json\n{}\n```"
        "<\uff5ctool▁call▁end\uff5c><\uff5ctool▁calls▁end\uff5c>",
        "",
        [NOW],
    ),
    (forms.MISTRAL_ID, '[TOOL_CALLS]weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "x"}', "", [weather(city="x")]),
    (forms.GLM_0414, 'weather\n{"city": "Rome"}', "", [weather(city="Rome")]),
    (forms.GLM_0414, "weather is fine", "weather is fine", []),
    (forms.GLM_0414, "now", "now", []),
    (forms.GLM_0414, 'weather\n{"city": "Rome"}\nnow\n{}\nSo.', "So.", [weather(city="Rome"), NOW]),
    (forms.MISTRAL_NAMED, "[TOOL_CALLS]now", "", [NOW]),
]


@pytest.mark.parametrize(("form", "text", "said", "calls"), CASES)
def test_what_is_read_does_not_depend_on_the_cut(
    form: CallFormat, text: str, said: str, calls: list[tuple[str, Any]]
) -> None:
    for size in (len(text), 1, 7):
        reader = CallReader(form, FUNCTIONS)
        parts = [part for at in range(0, len(text), size) for part in reader.feed(text[at : at + size])]
        parts += reader.flush()
        assert "".join(part for part in parts if isinstance(part, str)) == said
        found = [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, Call)]
        assert found == calls


@pytest.mark.parametrize(
    ("form", "text", "said", "calls"),
    [
        (forms.PYTHONIC, "[weather(city='Rome'", "", []),
        (forms.PYTHONIC, "[now(), weather(city='Rome'", "", []),
        (forms.PYTHONIC, "[weather", "[weather", []),
        (forms.GLM_0414, 'weather\n{"city": "Ro', "", []),
        (forms.GLM_0414, "weather", "weather", []),
        (forms.GLM_0414, 'now\n{}\nweather\n{"city": "Ro', "", [NOW]),
        (forms.OLMO, "So.<function_calls>\nnow()\nweather(city='Ro", "So.", [NOW]),
        (forms.LLAMA, '{"name": "now", "parameters": {}}; {"name": "weather", "para', "", [NOW]),
        (forms.LLAMA, '{"name": "weather", "parameters": {"city": "Rome"}', "", []),
    ],
)
def test_half_of_a_call_is_nothing_without_a_mark_before_it_and_after_another(
    form: CallFormat, text: str, said: str, calls: list[tuple[str, Any]]
) -> None:
    for at in range(len(text)):
        reader = CallReader(form, FUNCTIONS)
        parts = [*reader.feed(text[:at]), *reader.feed(text[at:]), *reader.flush(cut=True)]
        assert "".join(part for part in parts if isinstance(part, str)) == said
        assert [(part.name, json.loads(part.arguments)) for part in parts if isinstance(part, Call)] == calls


def test_a_call_is_there_as_soon_as_it_is_whole_and_text_does_not_wait() -> None:
    reader = CallReader(forms.QWEN, FUNCTIONS)
    assert reader.feed(TAGGED % "{}") == [Call("weather", "{}")]
    assert reader.feed("I see.") == ["I see."]
    assert "".join(map(str, reader.feed("<tool_call> is"))) == "<tool_call> is"
    bare = CallReader(forms.LLAMA, FUNCTIONS)
    assert bare.feed('{"answer') == ['{"answer']


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("007", {"type": "string"}, "007"),
        ("7", {"type": "integer"}, 7),
        ("7.0", {"type": "integer"}, 7),
        ("seven", {"type": "integer"}, "seven"),
        ("true", {"type": "boolean"}, True),
        ("True", {"type": "boolean"}, True),
        (" TRUE", {"type": "boolean"}, True),
        ("TRUE", {"type": ["boolean", "string"]}, "TRUE"),
        ("null", {"type": ["string", "null"]}, None),
        ("5", {"type": ["string", "null"]}, "5"),
        ("5", {"type": ["string", "number"]}, 5),
        ("[1]", {"type": "array"}, [1]),
        ("{'a': 1}", {"type": "object"}, {"a": 1}),
        ("5", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, 5),
        ("5", {"enum": ["5", "6"]}, "5"),
        ("5", {"enum": [5, 6]}, 5),
        ("007", None, "007"),
        ("text", None, "text"),
        ("1e999", {"type": "number"}, "1e999"),
    ],
)
def test_a_text_has_the_type_that_the_schema_wants(text: str, schema: Any, value: Any) -> None:
    assert typed(text, schema) == value and type(typed(text, schema)) is type(value)


MARKS = [
    "<tool_call>",
    "</tool_call>",
    "<tool_calls>",
    "</tool_calls>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<tool_sep>",
    "<\uff5ctool▁call▁begin\uff5c>",
    "<\uff5ctool▁call▁end\uff5c>",
    "<\uff5ctool▁calls▁begin\uff5c>",
    "<\uff5ctool▁calls▁end\uff5c>",
    "<\uff5ctool▁sep\uff5c>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<seed:tool_call>",
    "</seed:tool_call>",
]
ALL = [value for value in vars(forms).values() if isinstance(value, CallFormat)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in MARKS])
    tokenizer.add_special_tokens(["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"])
    return tokenizer


def made(tokenizer: Tokenizer, grammar: Any, wish: str) -> str:
    """What a model writes that is held to a grammar, and goes for the tokens of its wish wherever it may."""
    matcher = GrammarCompiler(tokenizer, tokenizer.get_vocab_size(), frozenset({2})).matcher(grammar)
    wished = tokenizer.encode(wish, add_special_tokens=False).ids
    written: list[int] = []
    for token in wished:
        if matcher.stopped:
            break
        assert token in matcher.allowed(), (
            tokenizer.decode(written, skip_special_tokens=False),
            tokenizer.id_to_token(token),
        )
        matcher.accept(token)
        written.append(token)
    assert matcher.stopped or 2 in matcher.allowed()
    return str(tokenizer.decode(written, skip_special_tokens=False))


def written(form: CallFormat, several: bool = False) -> str:
    """Two calls, or one, as the format has them."""
    if form.syntax == "json":
        calls = [
            f'{{"name": "weather", "{form.arguments}": {json.dumps(ROME)}}}',
            f'{{"name": "now", "{form.arguments}": {{}}}}',
        ]
    elif form.syntax == "named":
        between = form.between.replace("{id}", "abcdefgh1")
        calls = [
            f"{form.before}{name}{between}{json.dumps(arguments)}{form.after}"
            for name, arguments in (("weather", ROME), NOW)
        ]
    elif form.syntax == "python":
        calls = ['weather(city="Rome", days=2)', "now()"]
    else:
        before, between, after = form.argument
        arguments = "".join(f"{before}{name}{between}{value}{after}" for name, value in ROME.items())
        calls = [
            f"{form.before}{name}{form.between}{text}{form.after}"
            for name, text in (("weather", arguments), ("now", ""))
        ]
    calls = calls if several else calls[:1]
    begin, end = form.section
    if form.listed:
        return f"{form.opening}{form.padding}[{', '.join(calls)}]{form.padding}{form.closing}"
    if form.syntax == "python":
        return f"{form.opening}{form.padding}" + "\n".join(calls) + f"{form.padding}{form.closing}"
    joint = "\n" if (form.closing and form.padding) or (form.section[0] and form.section[0].endswith("\n")) else ""
    return begin + joint.join(f"{form.opening}{form.padding}{call}{form.padding}{form.closing}" for call in calls) + end


@pytest.mark.parametrize("form", ALL)
def test_a_forced_call_is_one_that_is_read(form: CallFormat, tokenizer: Tokenizer) -> None:
    form = form.with_tokens(tokenizer)
    functions = [{"name": "weather", "parameters": PARAMETERS}, {"name": "now"}]
    text = made(tokenizer, calling(form, functions, must=True), written(form))
    assert read_calls(form, FUNCTIONS, text) == ("", [Call("weather", json.dumps(ROME))])
    assert made(tokenizer, calling(form, functions, several=False), "Well.") == "Well."
    if not form.bare or form.listed:
        text = made(tokenizer, calling(form, functions), written(form, several=True))
        assert len(read_calls(form, FUNCTIONS, text)[1]) == 2
