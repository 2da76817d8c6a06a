"""Tool calls on the wire: what a request offers and chooses, and how the calls come back."""

import json
import timeit
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from serving.engine.process import EngineProcess
from serving.http.answers import AnswerEngine
from serving.http.requests.chat import ChatRequest
from serving.text.prompt import Prompt
from tests.http.test_hostile import Answering
from tests.http.test_stream import piece
from tests.servers import api_served, asked, error_of, events_of
from tests.text.test_tools import TOOLS
from tests.tool_template import TEMPLATE, with_tools

CHAT = "/v1/chat/completions"
BODY: Any = {"model": "demo", "messages": [{"role": "user", "content": "weather?"}], "tools": TOOLS}
WEATHER = '<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": 2}}</tool_call>'


def test_large_tools_cost_no_more_to_read_than_their_json() -> None:
    parameters = {"properties": {f"p{n}": {"enum": [str(m) for m in range(40)]} for n in range(40)}}
    functions = [{"name": f"f{n}", "parameters": parameters} for n in range(128)]
    body = json.dumps({**BODY, "tools": [{"type": "function", "function": function} for function in functions]})

    def read() -> None:
        template = ChatRequest.model_validate(content).template()
        assert template.tools and template.tools[127]["function"] == functions[127]

    content = json.loads(body)
    plain, ours = (min(timeit.repeat(work, number=1, repeat=3)) for work in (lambda: json.loads(body), read))
    assert ours < plain


class Calling(Answering):
    """A puppet whose template knows of tools."""

    def __init__(self, folder: Path, template: str) -> None:
        super().__init__(folder)
        self.real = replace(self.real, template=template)
        self.prompt = cast(None, self.real)
        self.options: list[Any] = []

    def start(self, wanted: Any, sink: Any, client: str = "", session: str = "") -> Any:
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


def test_arguments_come_as_they_are_written(puppet: Calling, url: str) -> None:
    at = WEATHER.index("Rome") + 2
    puppet.immediately = [[piece("So. "), piece(WEATHER[:at])], [piece(WEATHER[at:]), piece(WEATHER, "stop")]]
    *events, _ = events_of(asked(url, CHAT, {**BODY, "stream": True})[2])
    calls = [call for event in events for call in event["choices"][0]["delta"].get("tool_calls", [])]
    assert [(call["index"], call["function"]["arguments"]) for call in calls] == [
        (0, '{"city": "Ro'), (0, 'me", "days": 2}'), (1, '{"city": "Rome", "days": 2}'),
    ]  # fmt: skip
    assert calls[0]["id"].startswith("call_") and calls[0]["function"]["name"] == "weather" and "id" not in calls[1]
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"

    flat = [{"type": "function", **tool["function"]} for tool in TOOLS]
    body = {"model": "demo", "input": "weather?", "tools": flat, "stream": True}
    given = [
        json.loads(line[6:])
        for line in asked(url, "/v1/responses", body)[2].decode().splitlines()
        if line[:5] == "data:"
    ]
    deltas = [event["delta"] for event in given if event["type"] == "response.function_call_arguments.delta"]
    assert deltas == ['{"city": "Ro', 'me", "days": 2}', '{"city": "Rome", "days": 2}']
    whole = given[-1]["response"]["output"]
    assert [item["id"].split("_")[0] for item in whole] == ["msg", "fc", "fc"]
    assert all(
        item["arguments"] == '{"city": "Rome", "days": 2}' and item["status"] == "completed" for item in whole[1:]
    )
    assert [e["item"] for e in given if e["type"] == "response.output_item.done"] == whole


def test_a_call_that_is_cut_in_a_stream_stays_open(puppet: Calling, url: str) -> None:
    puppet.immediately = [[piece(WEATHER[:-30])], [piece(" ", "length")]]
    *events, _ = events_of(asked(url, CHAT, {**BODY, "stream": True})[2])
    deltas = [event["choices"][0]["delta"] for event in events]
    assert not any(delta.get("content") for delta in deltas) and any("tool_calls" in delta for delta in deltas)
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    flat = [{"type": "function", **tool["function"]} for tool in TOOLS]
    body = {"model": "demo", "input": "weather?", "tools": flat, "stream": True}
    last = asked(url, "/v1/responses", body)[2].decode().splitlines()[-2]
    (item,) = json.loads(last.removeprefix("data: "))["response"]["output"]
    assert (item["type"], item["status"]) == ("function_call", "incomplete")


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


def test_the_id_of_a_call_goes_back_to_a_template_that_wants_another_kind(demo_model: Path) -> None:
    nine = "{% if (m.tool_call_id or (m.tool_calls or [{'id': 9 * 'x'}])[0].id) | length != 9 %}{{ raise_exception() }}"
    puppet = Calling(demo_model, TEMPLATE.replace("{{ m.content }}", f"{{{{ m.content }}}}{nine}{{% endif %}}"))
    with api_served(cast(AnswerEngine, puppet)) as url:
        puppet.immediately = [[piece(WEATHER, "stop")]]
        said = json.loads(asked(url, CHAT, BODY)[2])["choices"][0]["message"]
        (call,) = said["tool_calls"]
        assert call["id"].startswith("call_")
        result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
        assert asked(url, CHAT, {**BODY, "messages": [*BODY["messages"], said, result]})[0] == 200
        assert "sunny" in puppet.read


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


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_only_some_of_the_tools_may_be_allowed(puppet: Calling, url: str, mode: str) -> None:
    time: Any = {"type": "function", "function": {"name": "time"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [time]}}
    assert asked(url, CHAT, {**BODY, "tool_choice": choice})[0] == 200
    assert '"time"' in puppet.read and '"weather"' not in puppet.read
    assert (puppet.options[-1].grammar is None) == (mode == "auto")
    flat = [{"type": "function", **tool["function"]} for tool in TOOLS]
    chosen = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": "time"}]}
    body = {"model": "demo", "input": "time?", "tools": flat, "tool_choice": chosen}
    status, _, content = asked(url, "/v1/responses", body)
    assert status == 200 and json.loads(content)["tool_choice"] == chosen
    assert '"time"' in puppet.read and '"weather"' not in puppet.read


@pytest.mark.parametrize("end", ["length", "stop string", "end of turn"])
def test_half_of_a_call_is_never_text_where_the_answer_was_cut(puppet: Calling, url: str, end: str) -> None:
    finish: Any = "length" if end == "length" else "stop"
    last = replace(piece(WEATHER[:30], finish), stop="Oslo" if end == "stop string" else None)
    puppet.immediately = [[piece("Let me see.\n"), last]]
    said = "Let me see." if end != "end of turn" else f"Let me see.\n{WEATHER[:30]}"
    choice = json.loads(asked(url, CHAT, BODY)[2])["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (said, finish)
    *events, _ = events_of(asked(url, CHAT, {**BODY, "stream": True})[2])
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events) == said
    flat = [{"type": "function", **tool["function"]} for tool in TOOLS]
    body = {"model": "demo", "input": "weather?", "tools": flat}
    output = json.loads(asked(url, "/v1/responses", body)[2])["output"]
    assert [item["content"][0]["text"] for item in output] == [said]
    assert output[0]["id"].startswith("msg_")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {
                "mode": "auto", "tools": [{"type": "function", "function": {"name": "x"}}]}}},
            "tool_choice",
        ),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"guided_regex": "a"}, "tools"),
        ({"guided_json": "{"}, None),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(url: str, change: dict[str, Any], param: str | None) -> None:
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
    with (
        EngineProcess.load(with_tools(exact_model, tmp_path / "model")) as engine,
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
