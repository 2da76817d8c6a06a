"""/v1/responses: with the official client on the real demo model, and event by event on a puppet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serving.engine.process import EngineProcess
from serving.errors import EngineStopped
from serving.http.answers import AnswerEngine
from serving.types import Message, SamplingOptions, complete
from tests.http.test_calls import WEATHER, Calling
from tests.http.test_stream import Puppet, piece, puppet, url
from tests.servers import api_served, asked, error_of
from tests.text.test_tools import TOOLS
from tests.tool_template import TEMPLATE

__all__ = ["puppet", "url"]  # fixtures

PATH = "/v1/responses"
BODY: Any = {"model": "demo", "input": "hi", "stream": True}
FUNCTIONS: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]


@pytest.fixture(scope="module")
def worker(exact_model: Path) -> Iterator[EngineProcess]:
    with EngineProcess.load(exact_model) as worker:
        yield worker


@pytest.fixture(scope="module")
def client(worker: EngineProcess) -> Iterator[OpenAI]:
    with api_served(worker) as url, OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def events_at(url: str, body: Any) -> list[dict[str, Any]]:
    content = asked(url, PATH, body)[2].decode()
    blocks = [block.split("\n") for block in content.strip().split("\n\n")]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        TypeAdapter(ResponseStreamEvent).validate_json(json.dumps(event), strict=True)
    return events


def test_an_answer_and_its_stream_are_the_engines(client: OpenAI, worker: EngineProcess) -> None:
    body: Any = {"model": "demo", "input": "what is 17+25?", "instructions": "Be brief.", "temperature": 0}
    said = [Message("system", "Be brief."), Message("user", "what is 17+25?")]
    expected = complete(worker.generate(said, SamplingOptions(temperature=0.0))).text
    whole = client.responses.create(**body)
    assert whole.output_text == expected != "" and whole.status == "completed"
    Response.model_validate_json(whole.model_dump_json(), strict=True)
    with client.responses.create(**body, stream=True) as stream:
        events = list(stream)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == expected
    last = events[-1]
    assert last.type == "response.completed" and last.response.output_text == expected
    assert last.response.usage and last.response.usage.input_tokens_details.cached_tokens > 0


def test_a_conversation_goes_on_with_what_came_back(client: OpenAI, worker: EngineProcess) -> None:
    first = client.responses.create(model="demo", input="My name is Anna.", temperature=0)
    history: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "My name is Anna."}]},
        *[item.model_dump() for item in first.output],
        {"role": "user", "content": "what is my name?"},
    ]
    second = client.responses.create(model="demo", input=history, temperature=0, max_output_tokens=3)
    said = [Message("user", "My name is Anna."), Message("assistant", first.output_text)]
    asked_again = [*said, Message("user", "what is my name?")]
    options = SamplingOptions(temperature=0.0, max_tokens=3)
    assert second.output_text == complete(worker.generate(asked_again, options)).text
    assert second.status == "incomplete" and second.incomplete_details
    assert second.incomplete_details.reason == "max_output_tokens"


def test_the_text_follows_a_schema(client: OpenAI) -> None:
    number = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"], "maxProperties": 1}
    wanted: Any = {"format": {"type": "json_schema", "name": "number", "schema": schema}}
    said = client.responses.create(model="demo", input="hi", temperature=0, text=wanted, max_output_tokens=200)
    assert json.loads(said.output_text).keys() == {"n"}
    assert said.text and said.text.format and said.text.format.type == "json_schema"


def test_items_are_opened_filled_and_closed(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("hm", kind="reasoning"), piece("so")], [piece("."), piece("", "stop")]]
    events = events_at(url, BODY)
    reasoning = ["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"]
    answer = ["output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done"]
    closed = ["content_part.done", "output_item.done"]
    names = ["created", "in_progress", *reasoning, *closed, *answer, *closed, "completed"]
    assert [event["type"] for event in events] == [f"response.{name}" for name in names]
    assert {event["output_index"] for event in events if "output_index" in event} == {0, 1}
    thought, said = events[-1]["response"]["output"]
    assert (thought["content"][0]["text"], said["content"][0]["text"]) == ("hm", "so.")
    whole = json.loads(asked(url, PATH, {**BODY, "stream": False})[2])
    assert [item["content"][0]["text"] for item in whole["output"]] == ["hm", "so."]


def test_the_best_summary_of_a_reasoning_there_is_may_be_asked_for(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("hm", kind="reasoning"), piece("so", "stop")]]
    said = json.loads(asked(url, PATH, {**BODY, "stream": False, "reasoning": {"summary": "auto"}})[2])
    assert said["reasoning"] == {"effort": None, "summary": "auto"} and said["output"][0]["summary"] == []
    assert asked(url, PATH, {**BODY, "reasoning": {"summary": "detailed"}})[0] == 400


def test_calls_are_items_of_their_own(demo_model: Path) -> None:
    puppet = Calling(demo_model, TEMPLATE)
    puppet.immediately = [[piece("hm", kind="reasoning"), piece("Let me see."), piece(WEATHER[:9])],
                          [piece(f"{WEATHER[9:]}\n{WEATHER}", "stop")]]  # fmt: skip
    with api_served(cast(AnswerEngine, puppet)) as url:
        events = events_at(url, {**BODY, "tools": FUNCTIONS})
        whole = json.loads(asked(url, PATH, {**BODY, "stream": False, "tools": FUNCTIONS})[2])
    assert '"weather"' in puppet.read and '"time"' in puppet.read
    Response.model_validate_json(json.dumps(whole), strict=True)
    for response in (events[-1]["response"], whole):
        thought, said, *calls = response["output"]
        assert (thought["content"][0]["text"], said["content"][0]["text"]) == ("hm", "Let me see.")
        assert [(call["type"], call["name"]) for call in calls] == [("function_call", "weather")] * 2
        assert [json.loads(call["arguments"]) for call in calls] == [{"city": "Rome", "days": 2}] * 2
        assert calls[0]["call_id"] != calls[1]["call_id"]
        assert response["status"] == "completed" and [tool["name"] for tool in response["tools"]] == ["weather", "time"]
    of_a_call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done"]
    names = [event["type"].removeprefix("response.") for event in events]
    assert names[-9:] == [*of_a_call, "output_item.done", *of_a_call, "output_item.done", "completed"]
    assert names.count("output_item.added") == names.count("output_item.done") == 4


def test_results_go_back_to_the_model(demo_model: Path) -> None:
    puppet = Calling(demo_model, TEMPLATE)
    puppet.immediately = [[piece(f"Let me see.{WEATHER}", "stop")]]
    with api_served(cast(AnswerEngine, puppet)) as url:
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            first = client.responses.create(model="demo", input="weather?", tools=FUNCTIONS)
            call = first.output[1].model_dump()
            output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
            history: Any = [{"role": "user", "content": "weather?"}, first.output[0].model_dump(), call, output]
            client.responses.create(model="demo", input=history, tools=FUNCTIONS)
            history[3]["output"] = [{"type": "input_text", "text": "sunny"}]
            client.responses.create(model="demo", input=[history[0], *history[2:]], tools=FUNCTIONS)
        texts = [puppet.real.tokenizer.decode(ids.tolist(), skip_special_tokens=False) for ids in puppet.prompts[1:]]
        assert all('{"name": "weather", "arguments": {"city": "Rome", "days": 2}}' in text for text in texts)
        assert all(text.count("<|im_start|>assistant") == 2 and "sunny" in text for text in texts)
        assert ["Let me see.<tool_call>" in text for text in texts] == [True, False]
        status, error = error_of(url, PATH, {**BODY, "input": [output]})
        assert (status, error["param"]) == (400, "input") and call["call_id"] in error["message"]


def test_what_may_be_called_is_chosen(demo_model: Path) -> None:
    puppet = Calling(demo_model, TEMPLATE)
    puppet.immediately = [[piece("so", "stop")]]
    body = {**BODY, "stream": False, "tools": FUNCTIONS}
    with api_served(cast(AnswerEngine, puppet)) as url:
        for change in ({}, {"tool_choice": "auto"}, {"parallel_tool_calls": True}, {"tool_choice": "none"}):
            echo = json.loads(asked(url, PATH, {**body, **change})[2])
            assert puppet.options[-1].grammar is None
            assert (echo["tool_choice"], echo["parallel_tool_calls"]) == (change.get("tool_choice", "auto"), True)
        assert "weather" not in puppet.read
        strict = [{**FUNCTIONS[0], "strict": True}]
        for change in ({"tool_choice": "required"}, {"parallel_tool_calls": False}, {"tools": strict}):
            assert asked(url, PATH, {**body, **change})[0] == 200
            assert "weather" in puppet.options[-1].grammar.text
        one = {"type": "function", "name": "time"}
        assert json.loads(asked(url, PATH, {**body, "tool_choice": one})[2])["tool_choice"] == one
        assert "weather" not in puppet.options[-1].grammar.text


def test_what_clients_send_unasked_asks_for_nothing(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("so", "stop")]]
    for unasked in (
        {"include": ["reasoning.encrypted_content"], "store": True, "background": False, "prompt_cache_key": "k"},
        {"include": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": False},
        {"service_tier": "auto", "text": {"verbosity": "medium"}, "metadata": {}, "stream_options": None},
    ):
        assert json.loads(asked(url, PATH, {**BODY, "stream": False, **unasked})[2])["output"]


def test_an_answer_without_a_word(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("", "length")]]
    assert events_at(url, BODY)[-1]["type"] == "response.incomplete"
    assert json.loads(asked(url, PATH, {**BODY, "stream": False})[2])["output"][0]["content"][0]["text"] == ""


def test_an_error_within_the_stream(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("so")], EngineStopped("the engine ended.")]
    assert events_at(url, BODY)[-1]["message"] == "the engine ended."
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        *_, last = client.responses.create(**BODY)
    assert last.type == "error"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [*FUNCTIONS, FUNCTIONS[0]]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": FUNCTIONS, "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"include": ["file_search_call.results"]}, "include.0"),
        ({"background": True}, "background"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"input": [{"type": "function_call", "name": "time", "arguments": "{}"}]}, "input.0.call_id"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "time", "arguments": "[]"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0"),
        ({"max_output_tokens": -2}, "max_output_tokens"),
    ],
)
def test_what_is_wrong_is_named(url: str, change: dict[str, Any], param: str) -> None:
    status, error = error_of(url, PATH, {**BODY, **change})
    assert status == 400 and error["param"] == param
