"""/v1/responses: with the official client on the real demo model, and event by event on a puppet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serving.errors import EngineStopped
from serving.types import Message, SamplingOptions, complete
from serving.worker import EngineProcess
from tests.servers import api_served, asked, error_of
from tests.test_stream import Puppet, piece, puppet, url

__all__ = ["puppet", "url"]  # fixtures

PATH = "/v1/responses"
BODY: Any = {"model": "demo", "input": "hi", "stream": True}


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
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "maxProperties": 1}
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
        ({"store": True}, "store"),
        ({"tools": []}, "tools"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
        ({"input": [{"type": "reasoning", "summary": []}, {"role": "user", "content": "x"}]}, "input"),
        ({"max_output_tokens": -1}, "max_output_tokens"),
    ],
)
def test_what_is_wrong_is_named(url: str, change: dict[str, Any], param: str) -> None:
    status, error = error_of(url, PATH, {**BODY, **change})
    assert status == 400 and error["param"] == param
