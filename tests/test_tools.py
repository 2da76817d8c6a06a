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

from serving.answers import AnswerEngine
from serving.prompt import Prompt
from serving.tools import Call, CallReader, Style, read_calls, style_of
from serving.worker import EngineProcess
from tests.servers import api_served, asked, error_of, events_of
from tests.test_hostile import Answering
from tests.test_stream import piece

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


@pytest.mark.parametrize(
    ("style", "text", "said", "calls"),
    [
        ("tagged", "hello", "hello", []),
        ("tagged", ADD, "", [CALL]),
        ("tagged", f"Well.\n\n{ADD}\n{ADD}\n", "Well.", [CALL, CALL]),
        ("tagged", "a < b <tool", "a < b <tool", []),
        ("tagged", '<tool_call>{"name": "add"', '<tool_call>{"name": "add"', []),
        ("tagged", "<tool_call>nonsense</tool_call> x", "<tool_call>nonsense</tool_call> x", []),
        ("tagged", '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
         '<tool_call>{"name": "rm", "arguments": {}}</tool_call>', []),
        ("tagged", '<tool_call>{"name": "add", "arguments": [1]}</tool_call>',
         '<tool_call>{"name": "add", "arguments": [1]}</tool_call>', []),
        ("tagged", '{"name": "add", "arguments": {}}', '{"name": "add", "arguments": {}}', []),
        ("tagged", "line\n\nline\n", "line\n\nline\n", []),
        ("bare", ' {"name": "add", "parameters": {"a": 1}}', "", [Call("add", '{"a": 1}')]),
        ("bare", "hello {", "hello {", []),
        ("bare", '{"name": "rm", "parameters": {}}', '{"name": "rm", "parameters": {}}', []),
        ("bare", "", "", []),
    ],
)  # fmt: skip
def test_calls_are_found_however_the_text_is_cut(style: Style, text: str, said: str, calls: list[Call]) -> None:
    names = {"add"}
    whole, found = read_calls(style, names, text)
    assert (whole, found) == (said, calls)
    for size in (1, 2, 7):
        reader = CallReader(style, names)
        parts = [part for at in range(0, len(text), size) for part in reader.feed(text[at : at + size])]
        parts += reader.flush()
        assert "".join(part for part in parts if isinstance(part, str)) == whole
        assert [part for part in parts if isinstance(part, Call)] == found


def test_text_before_a_call_does_not_wait_for_it() -> None:
    reader = CallReader("tagged", {"add"})
    assert reader.feed("Let me see.") == ["Let me see."]
    assert reader.feed("<tool") == []


class Calling(Answering):
    """A puppet whose template knows of tools."""

    def __init__(self, folder: Path, template: str) -> None:
        super().__init__(folder)
        self.real = replace(self.real, template=template)
        self.prompt = cast(None, self.real)
        self.options: list[Any] = []

    def start(self, token_ids: Any, options: Any, sink: Any) -> Any:
        self.options.append(options)
        self.prompts = [*getattr(self, "prompts", []), token_ids]
        return super().start(token_ids, options, sink)

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
    one = {"type": "function", "function": {"name": "time"}}
    assert asked(url, CHAT, {**BODY, "tool_choice": one})[0] == 200
    assert "weather" not in puppet.options[-1].grammar.text


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_is_wrong_is_named(url: str, change: dict[str, Any], param: str) -> None:
    status, error = error_of(url, CHAT, {**BODY, **change})
    assert (status, error["param"]) == (400, param)


def test_a_model_that_knows_of_no_tools_or_writes_them_in_its_own_way(demo_model: Path) -> None:
    prompt = Prompt.load(demo_model)
    assert style_of(prompt) is None
    assert style_of(replace(prompt, template='{"name": function name, "parameters": dictionary}')) == "bare"
    assert style_of(replace(prompt, template=r"{\"name\": \"f\", \"parameters\": {}}")) == "bare"
    assert style_of(replace(prompt, template="<tool_call><function=f>")) is None
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
