"""Tool calls on the wire: what a request offers and chooses, and how the calls come back."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from serving.engine.process import EngineProcess
from serving.http.answers import AnswerEngine
from serving.text.prompt import Prompt
from tests.http.test_hostile import Answering
from tests.http.test_stream import piece
from tests.servers import api_served, asked, error_of, events_of
from tests.text.test_tools import TOOLS

CHAT = "/v1/chat/completions"
TEMPLATE = """{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }} Call them as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
BODY: Any = {"model": "demo", "messages": [{"role": "user", "content": "weather?"}], "tools": TOOLS}
WEATHER = '<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": 2}}</tool_call>'


class Calling(Answering):
    """A puppet whose template knows of tools."""

    def __init__(self, folder: Path, template: str) -> None:
        super().__init__(folder)
        self.real = replace(self.real, template=template)
        self.prompt = cast(None, self.real)
        self.options: list[Any] = []

    def start(self, wanted: Any, sink: Any, client: str = "") -> Any:
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
