"""Tool calls: found in text, made by force, and on the wire."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from tokenizers import Tokenizer

from serving.engine.grammar import GrammarCompiler
from serving.engine.process import EngineProcess
from serving.http.answers import AnswerEngine
from serving.text.control_tokens import ControlTokens
from serving.text.prompt import Prompt
from serving.text.tools import Call, CallFormat, CallReader, calling, format_of, read_calls
from serving.types import Grammar
from tests.http.test_hostile import Answering
from tests.http.test_stream import piece
from tests.servers import api_served, asked, error_of, events_of

CHAT = "/v1/chat/completions"
TEMPLATE = """{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }} Call them as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
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
BODY: Any = {"model": "demo", "messages": [{"role": "user", "content": "weather?"}], "tools": TOOLS}
WEATHER = '<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": 2}}</tool_call>'


TAGGED = CallFormat("<tool_call>", "</tool_call>")
LISTED = CallFormat("<TOOLCALL>", "</TOOLCALL>", listed=True)
TO_THE_END = CallFormat("[TOOL_CALLS]", listed=True)
NAMED = CallFormat("[TOOL_CALLS]", between="[ARGS]")
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
        (TO_THE_END, f"[TOOL_CALLS]{TWO} and so on", f"[TOOL_CALLS]{TWO} and so on", []),
        (TO_THE_END, "see [TOOL_", "see [TOOL_", []),
        (NAMED, f"Well.[TOOL_CALLS]add[ARGS]{ONE}[TOOL_CALLS]add[ARGS]{ONE}", "Well.", [CALL, CALL]),
        (NAMED, f"[TOOL_CALLS]rm[ARGS]{ONE}", f"[TOOL_CALLS]rm[ARGS]{ONE}", []),
        (NAMED, f"[TOOL_CALLS]add{ONE}", f"[TOOL_CALLS]add{ONE}", []),
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


class Calling(Answering):
    """A puppet whose template knows of tools."""

    def __init__(self, folder: Path, template: str) -> None:
        super().__init__(folder)
        self.real = replace(self.real, template=template)
        self.prompt = cast(None, self.real)
        self.options: list[Any] = []

    def start(self, wanted: Any, sink: Any) -> Any:
        self.options += [options for _, options in wanted]
        self.prompts = [*getattr(self, "prompts", []), *(token_ids for token_ids, _ in wanted)]
        return super().start(wanted, sink)

    @property
    def read(self) -> str:
        """The last prompt."""
        return str(self.real.tokenizer.decode(self.prompts[-1].tolist(), skip_special_tokens=False))


@pytest.fixture
def puppet(demo_model: Path) -> Calling:
    return Calling(demo_model, TEMPLATE)


@pytest.fixture
def url(puppet: Calling) -> Iterator[str]:
    with api_served(cast(AnswerEngine, puppet)) as url:
        yield url


def test_a_call_on_the_wire(puppet: Calling, url: str) -> None:
    puppet.immediately = [[piece("Let me see."), piece(WEATHER[:20])], [piece(WEATHER[20:], "stop")]]
    content = asked(url, CHAT, BODY)[2]
    choice = ChatCompletion.model_validate_json(content, strict=True).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "Let me see."
    (call,) = choice.message.tool_calls or ()
    assert call.type == "function" and json.loads(call.function.arguments) == {"city": "Rome", "days": 2}
    assert '"weather"' in puppet.read and '"time"' in puppet.read
    *events, done = events_of(asked(url, CHAT, {**BODY, "stream": True})[2])
    deltas = [event["choices"][0]["delta"] for event in events]
    assert done == "[DONE]" and deltas[0] == {"role": "assistant", "content": "Let me see."}
    (streamed,) = deltas[1]["tool_calls"]
    assert streamed["index"] == 0 and streamed["function"]["name"] == "weather"
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_results_go_back_to_the_model(puppet: Calling, url: str) -> None:
    function = {"name": "weather", "arguments": '{"city": "Rome", "days": 2}'}
    history = [
        *BODY["messages"],
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    assert asked(url, CHAT, {**BODY, "messages": history})[0] == 200
    assert '{"name": "weather", "arguments": {"city": "Rome", "days": 2}}' in puppet.read and "sunny" in puppet.read
    history[1]["tool_calls"][0]["function"]["arguments"] = "not JSON"
    status, error = error_of(url, CHAT, {**BODY, "messages": history})
    assert status == 400 and "arguments" in error["message"]


def test_what_is_chosen(puppet: Calling, url: str) -> None:
    assert asked(url, CHAT, {**BODY, "tool_choice": "none"})[0] == 200
    assert "weather" not in puppet.read.replace("weather?", "") and puppet.options[-1].grammar is None
    assert asked(url, CHAT, {**BODY, "tool_choice": "auto"})[0] == 200
    assert puppet.options[-1].grammar is None
    assert asked(url, CHAT, {**BODY, "tool_choice": "required"})[0] == 200
    assert "weather" in puppet.options[-1].grammar.text and "time" in puppet.options[-1].grammar.text
    # Only what asks for it is held to a grammar: it costs time at each token.
    strict = [TOOLS[1], {**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}]
    json_object = {"type": "json_object"}
    for change in ({"tools": strict}, {"parallel_tool_calls": False}, {"response_format": json_object}):
        assert asked(url, CHAT, {**BODY, **change})[0] == 200
        assert "weather" in puppet.options[-1].grammar.text
    assert asked(url, CHAT, {**BODY, "parallel_tool_calls": True})[0] == 200
    assert puppet.options[-1].grammar is None
    assert asked(url, CHAT, {**BODY, "tool_choice": "none", "response_format": json_object})[0] == 200
    assert puppet.options[-1].grammar.kind == "json_object"
    one = {"type": "function", "function": {"name": "time"}}
    assert asked(url, CHAT, {**BODY, "tool_choice": one})[0] == 200
    assert "weather" not in puppet.options[-1].grammar.text


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ],
)
def test_what_is_wrong_is_named(url: str, change: dict[str, Any], param: str) -> None:
    status, error = error_of(url, CHAT, {**BODY, **change})
    assert (status, error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("a chat", None),
        ("<tool_call>{{ call }}</tool_call>", TAGGED),
        ("<TOOLCALL>[{{ call }}]</TOOLCALL>", LISTED),
        ("[TOOL_CALLS][{{ call }}]", TO_THE_END),
        ('{"name": function name, "parameters": dictionary}', BARE),
        (r"{\"name\": \"f\", \"parameters\": {}}", BARE),
        ("<tool_call><function=f>", None),
        ("[TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}", NAMED),
        ("[TOOL_CALLS]{{ name }}[CALL_ID]{{ id }}[ARGS]{{ arguments }}", None),
    ],
)
def test_the_template_says_how_calls_are_written(template: str, form: CallFormat | None, tokenizer: Tokenizer) -> None:
    assert format_of(template, tokenizer) == (form and special(form, tokenizer))


def test_marks_that_are_special_tokens_are_shown(demo_model: Path, tokenizer: Tokenizer) -> None:
    prompt = Prompt.load(demo_model)
    prompt = replace(
        prompt, tokenizer=tokenizer, template=prompt.template + "[TOOL_CALLS][ARGS]",
        controls=ControlTokens(tokenizer, prompt.template, None),
    )  # fmt: skip
    stream = prompt.detokenizer()
    ids = tokenizer.encode("<|im_start|>[TOOL_CALLS]f[ARGS]{}").ids
    assert "".join(map(stream.feed, ids)) == "[TOOL_CALLS]f[ARGS]{}"


def test_a_model_that_knows_of_no_tools_or_writes_them_in_its_own_way(demo_model: Path) -> None:
    assert Prompt.load(demo_model).calls is None
    with api_served(cast(AnswerEngine, Answering(demo_model))) as url:
        status, error = error_of(url, CHAT, BODY)
        assert (status, error["param"]) == (400, "tools")
        assert asked(url, CHAT, {**BODY, "tool_choice": "none"})[0] == 200


def test_a_model_that_must_call_does(exact_model: Path, tmp_path: Path) -> None:
    """Even one that never learned to: the grammar holds it."""
    model = Path(shutil.copytree(exact_model, tmp_path / "model"))
    (model / "chat_template.jinja").write_text(TEMPLATE)
    with (
        EngineProcess.load(model) as engine,
        api_served(engine) as url,
        OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
            asked_for: Any = {**BODY, "tools": TOOLS[:1], "tool_choice": choice, "max_tokens": 300, "seed": 3}
            answer = client.chat.completions.create(**asked_for).choices[0]
            (call,) = answer.message.tool_calls or ()
            assert call.type == "function" and call.function.name == "weather"
            arguments = json.loads(call.function.arguments)
            assert arguments.keys() == {"city", "days"} and arguments["city"] in ("Rome", "Oslo")
            assert answer.finish_reason == "tool_calls"
