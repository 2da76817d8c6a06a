"""/v1/messages: with Anthropic's official client on the real demo model, and event by event on a puppet."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from anthropic import (
    Anthropic,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    RateLimitError,
    ServiceUnavailableError,
)
from anthropic.types import Message as Answer
from anthropic.types import RawMessageStreamEvent
from pydantic import TypeAdapter

from serving.engine.process import EngineProcess
from serving.errors import Busy, EngineStopped
from serving.http.access import MOST_BYTES, Access, Places
from serving.http.answers import AnswerEngine
from serving.types import Message, SamplingOptions, complete
from tests.http.test_calls import TEMPLATE, WEATHER, Calling
from tests.http.test_stream import Puppet, piece, puppet, url
from tests.servers import api_served, asked
from tests.text.test_tools import TOOLS

__all__ = ["puppet", "url"]  # fixtures

PATH = "/v1/messages"
BODY: Any = {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
GREEDY: Any = {"extra_body": {"temperature": 0}}  # which the newest clients know nothing of
CUSTOM: Any = [
    {"name": tool["function"]["name"], "input_schema": tool["function"].get("parameters", {"type": "object"})}
    for tool in TOOLS
]


@pytest.fixture(scope="module")
def worker(exact_model: Path) -> Iterator[EngineProcess]:
    with EngineProcess.load(exact_model) as worker:
        yield worker


def client_of(url: str, key: str = "none") -> Anthropic:
    return Anthropic(base_url=url, api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(worker: EngineProcess) -> Iterator[Anthropic]:
    with api_served(worker) as url, client_of(url) as client:
        yield client


def events_at(url: str, body: Any) -> list[dict[str, Any]]:
    content = asked(url, PATH, {**body, "stream": True})[2].decode()
    blocks = [block.split("\n") for block in content.strip().split("\n\n")]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [event["type"] for event in events]
    for event in events:
        if event["type"] not in ("ping", "error"):
            TypeAdapter(RawMessageStreamEvent).validate_json(json.dumps(event), strict=True)
    return events


def error_at(url: str, body: Any, headers: Any = None) -> tuple[int, str, str]:
    status, _, content = asked(url, PATH, body, headers)
    said = json.loads(content)
    assert said.keys() == {"type", "error"} and said["type"] == "error" and said["error"].keys() == {"type", "message"}
    return status, said["error"]["type"], said["error"]["message"]


def test_an_answer_and_its_stream_are_the_engines(client: Anthropic, worker: EngineProcess) -> None:
    body: Any = {**BODY, "messages": [{"role": "user", "content": "what is 17+25?"}], **GREEDY}
    said = [Message("system", "Be brief."), Message("user", "what is 17+25?")]
    expected = complete(worker.generate(said, SamplingOptions(temperature=0.0, max_tokens=100)))
    whole = client.messages.create(**body, system=[{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}])
    Answer.model_validate_json(whole.model_dump_json(), strict=True)
    (block,) = whole.content
    assert block.type == "text" and block.text == expected.text != ""
    assert (whole.stop_reason, whole.stop_sequence, whole.role, whole.model) == ("end_turn", None, "assistant", "demo")
    with client.messages.stream(**body, system="Be brief.") as stream:
        assert "".join(stream.text_stream) == expected.text
        last = stream.get_final_message()
    assert last.stop_reason == "end_turn"
    usage = last.usage
    assert usage.cache_read_input_tokens and usage.cache_creation_input_tokens == 0
    assert usage.input_tokens + usage.cache_read_input_tokens == expected.last.prompt_tokens
    assert usage.output_tokens == whole.usage.output_tokens == expected.last.completion_tokens


def test_a_conversation_goes_on_with_what_came_back(client: Anthropic, worker: EngineProcess) -> None:
    asked_first: Any = {"role": "user", "content": "My name is Anna."}
    first = client.messages.create(model="demo", max_tokens=50, **GREEDY, messages=[asked_first])
    then: Any = {"role": "user", "content": [{"type": "text", "text": "what is my name?", "cache_control": None}]}
    (block,) = first.content
    assert block.type == "text"
    said = [Message("user", "My name is Anna."), Message("assistant", block.text), Message("user", "what is my name?")]
    expected = complete(worker.generate(said, SamplingOptions(temperature=0.0, max_tokens=3))).text
    for sent_back in ({"role": "assistant", "content": first.content}, first.to_param(), first.model_dump()):
        history: Any = [asked_first, sent_back, then]
        second = client.messages.create(model="demo", max_tokens=3, **GREEDY, messages=history)
        assert [each.text for each in second.content if each.type == "text"] == [expected]
        assert second.stop_reason == "max_tokens"


def test_a_stop_sequence_ends_the_answer_and_is_named(client: Anthropic) -> None:
    body: Any = {**BODY, "messages": [{"role": "user", "content": "what is 17+25?"}], **GREEDY}
    whole = "".join(block.text for block in client.messages.create(**body).content if block.type == "text")
    stop = whole[len(whole) // 2 :][:2]
    cut = client.messages.create(**body, stop_sequences=["never said", stop])
    assert (cut.stop_reason, cut.stop_sequence) == ("stop_sequence", stop)
    assert "".join(block.text for block in cut.content if block.type == "text") == whole[: whole.index(stop)]
    with client.messages.stream(**body, stop_sequences=[stop]) as stream:
        assert stream.get_final_message().stop_sequence == stop


def test_the_text_follows_a_schema(client: Anthropic) -> None:
    number = {"type": "integer", "minimum": 0, "maximum": 99}
    schema = {"type": "object", "properties": {"n": number}, "required": ["n"], "maxProperties": 1}
    config: Any = {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}
    (block,) = client.messages.create(**{**BODY, "max_tokens": 200}, **GREEDY, output_config=config).content
    assert block.type == "text" and json.loads(block.text).keys() == {"n"}


def test_tokens_are_counted_as_they_are_read(client: Anthropic) -> None:
    counted = client.messages.count_tokens(model="demo", messages=BODY["messages"], system="Be brief.").input_tokens
    usage = client.messages.create(**{**BODY, "max_tokens": 1}, system="Be brief.").usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0) > 5
    only_read = client.messages.create(**{**BODY, "max_tokens": 0})
    assert (only_read.content, only_read.stop_reason, only_read.usage.output_tokens) == ([], "max_tokens", 0)
    with pytest.raises(BadRequestError, match=r"messages: the conversation has [\d,]+ tokens, and the context window"):
        client.messages.count_tokens(model="demo", messages=[{"role": "user", "content": "word " * 5000}])


def test_an_answer_that_was_begun_is_gone_on_with(client: Anthropic) -> None:
    (whole,) = client.messages.create(**BODY, **GREEDY).content
    assert whole.type == "text"
    history: Any = [*BODY["messages"], {"role": "assistant", "content": whole.text[:6]}]
    (rest,) = client.messages.create(**{**BODY, "messages": history}, **GREEDY).content
    assert rest.type == "text" and (whole.text[:6] + rest.text).startswith(whole.text)
    counted = client.messages.count_tokens(model="demo", messages=history).input_tokens
    usage = client.messages.create(**{**BODY, "messages": history}).usage
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0)


def test_blocks_are_started_filled_and_stopped(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("hm", kind="reasoning"), piece("so")], [piece("."), piece("", "stop")]]
    events = events_at(url, BODY)
    thinking = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    said = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    names = ["message_start", "ping", *thinking, *said, "message_delta", "message_stop"]
    assert [event["type"] for event in events] == names
    assert [event["index"] for event in events if "index" in event] == [0] * 4 + [1] * 4
    deltas = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert deltas == ["thinking_delta", "signature_delta", "text_delta", "text_delta"]
    assert events[0]["message"]["usage"]["input_tokens"] == 3 and events[0]["message"]["content"] == []
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    with client_of(url) as client:
        whole = client.messages.create(**BODY)
        with client.messages.stream(**BODY) as stream:
            streamed = stream.get_final_message()
    for answer in (whole, streamed):
        thought, text = answer.content
        assert thought.type == "thinking" and (thought.thinking, thought.signature) == ("hm", "")
        assert text.type == "text" and text.text == "so."


def test_thinking_is_hidden_where_that_is_asked_for(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("hm", kind="reasoning"), piece("so", "stop")]]
    body = {**BODY, "thinking": {"type": "adaptive", "display": "omitted"}}
    assert "hm" not in json.dumps(events_at(url, body))
    content = json.loads(asked(url, PATH, body)[2])["content"]
    assert content == [{"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": "so"}]


def test_calls_are_blocks_of_their_own(demo_model: Path) -> None:
    puppet = Calling(demo_model, TEMPLATE)
    puppet.immediately = [[piece("hm", kind="reasoning"), piece("Let me see."), piece(WEATHER[:9])],
                          [piece(f"{WEATHER[9:]}\n{WEATHER}", "stop")]]  # fmt: skip
    with api_served(cast(AnswerEngine, puppet)) as url, client_of(url) as client:
        events = events_at(url, {**BODY, "tools": CUSTOM})
        whole = client.messages.create(**BODY, tools=CUSTOM)
        with client.messages.stream(**BODY, tools=CUSTOM) as stream:
            streamed = stream.get_final_message()
    assert '"weather"' in puppet.read and '"time"' in puppet.read
    started = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["type"] for block in started] == ["thinking", "text", "tool_use", "tool_use"]
    assert started[2]["input"] == {} and started[2]["id"] != started[3]["id"]
    for answer in (whole, streamed):
        Answer.model_validate_json(answer.model_dump_json(), strict=True)
        assert answer.stop_reason == "tool_use"
        calls = [block for block in answer.content if block.type == "tool_use"]
        assert [(call.name, call.input) for call in calls] == [("weather", {"city": "Rome", "days": 2})] * 2
        assert all(call.id.startswith("toolu_") for call in calls)


def test_results_go_back_to_the_model(demo_model: Path) -> None:
    puppet = Calling(demo_model, TEMPLATE)
    puppet.immediately = [[piece("hm", kind="reasoning"), piece(f"Let me see.{WEATHER}", "stop")]]
    with api_served(cast(AnswerEngine, puppet)) as url, client_of(url) as client:
        first = client.messages.create(**BODY, tools=CUSTOM)
        call = first.content[-1]
        assert call.type == "tool_use"
        for given in ("sunny", [{"type": "text", "text": "sunny"}]):
            result = {"type": "tool_result", "tool_use_id": call.id, "content": given, "is_error": False}
            said: Any = [result, {"type": "text", "text": "and now?"}]
            history: Any = [*BODY["messages"], first.to_param(), {"role": "user", "content": said}]
            client.messages.create(**{**BODY, "messages": history}, tools=CUSTOM)
            called = 'Let me see.<tool_call>{"name": "weather", "arguments": {"city": "Rome", "days": 2}}</tool_call>'
            assert f"assistant\n{called}<|im_end|>\n<|im_start|>tool\nsunny" in puppet.read
            assert puppet.read.endswith("user\nand now?<|im_end|>\n<|im_start|>assistant\n")


def test_what_may_be_called_is_chosen(demo_model: Path) -> None:
    puppet = Calling(demo_model, TEMPLATE)
    with api_served(cast(AnswerEngine, puppet)) as url, client_of(url) as client:
        for choice in (None, {"type": "auto"}, {"type": "none"}):
            client.messages.create(**BODY, tools=CUSTOM, **({"tool_choice": choice} if choice else {}))
            assert puppet.options[-1].grammar is None
        assert "weather" not in puppet.read
        for choice in ({"type": "any"}, {"type": "auto", "disable_parallel_tool_use": True}):
            client.messages.create(**BODY, tools=CUSTOM, tool_choice=cast(Any, choice))
            assert "weather" in puppet.options[-1].grammar.text and "time" in puppet.options[-1].grammar.text
        client.messages.create(**BODY, tools=CUSTOM, tool_choice={"type": "tool", "name": "time"})
        assert "weather" not in puppet.options[-1].grammar.text
        client.messages.create(**BODY, tools=[{**CUSTOM[0], "strict": True}])
        assert "weather" in puppet.options[-1].grammar.text


@pytest.mark.parametrize(
    ("thinking", "written", "budget"),
    [
        (None, "[]", None),
        ({"type": "enabled", "budget_tokens": 2000}, "[yes]", 2000),
        ({"type": "adaptive"}, "[yes]", None),
        ({"type": "disabled"}, "[no]", 0),
    ],
)
def test_thinking_is_what_the_template_and_the_budget_make_of_it(
    demo_model: Path, thinking: Any, written: str, budget: int | None
) -> None:
    asks = "[{% if enable_thinking is defined %}{{ 'yes' if enable_thinking else 'no' }}{% endif %}]"
    knows, knows_not = Calling(demo_model, asks + TEMPLATE), Calling(demo_model, TEMPLATE)
    for each in (knows, knows_not):
        with api_served(cast(AnswerEngine, each)) as url, client_of(url) as client:
            client.messages.create(**BODY, **({"thinking": thinking} if thinking else {}))
            assert each.options[-1].reasoning_tokens == budget
    assert knows.read.startswith(f"{written}<|im_start|>") and knows_not.read.startswith("<|im_start|>")


def test_the_client_finds_the_id_of_its_request(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("so", "stop")]]
    with client_of(url) as client:
        assert client.messages.create(**BODY, extra_headers={"x-request-id": "mine"})._request_id == "mine"
        with pytest.raises(NotFoundError) as raised:
            client.messages.create(**{**BODY, "model": "gone"})
    assert raised.value.request_id == raised.value.response.headers["x-request-id"] != ""


def test_a_failure_within_the_stream(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("so")], EngineStopped("the engine ended.")]
    failure = {"type": "error", "error": {"type": "overloaded_error", "message": "the engine ended."}}
    assert events_at(url, BODY)[-1] == failure
    with client_of(url) as client, pytest.raises(APIStatusError, match="the engine ended"):
        list(client.messages.create(**BODY, stream=True))


def test_errors_are_those_that_the_client_knows(puppet: Puppet, url: str) -> None:
    with client_of(url) as client:
        with pytest.raises(NotFoundError, match="no model 'gone'"):
            client.messages.create(**{**BODY, "model": "gone"})
        puppet.immediately = [Busy("full.", 3.0)]
        with pytest.raises(ServiceUnavailableError) as raised:
            client.messages.create(**BODY)
        assert (raised.value.type, raised.value.response.headers["retry-after"]) == ("overloaded_error", "3")
    assert error_at(url, b"{")[:2] == (400, "invalid_request_error")
    assert error_at(url, b" " * (MOST_BYTES + 1))[:2] == (413, "request_too_large")
    assert error_at(url, BODY, {"origin": "https://evil.example"})[:2] == (403, "permission_error")
    puppet.immediately = [EngineStopped("gone.")]
    assert error_at(url, BODY) == (503, "overloaded_error", "gone.")
    assert json.loads(asked(url, "/v1/messagesx", b"{}")[2])["error"]["type"] == "not_found_error"
    assert json.loads(asked(url, f"{PATH}/x", b"{}")[2])["type"] == "error"
    with (
        api_served(cast(AnswerEngine, puppet), places=Places(0)) as full,
        client_of(full) as client,
        pytest.raises(RateLimitError),
    ):
        client.messages.create(**BODY)


def test_the_client_is_let_in_by_its_key(puppet: Puppet) -> None:
    puppet.immediately = [[piece("so", "stop")]]
    with api_served(cast(AnswerEngine, puppet), access=Access(keys=("key-1",))) as url:
        with client_of(url, "key-1") as client:
            assert client.messages.create(**BODY).content
        with Anthropic(base_url=url, auth_token="key-1") as client:
            assert client.messages.create(**BODY).content
        with client_of(url, "key-2") as client, pytest.raises(AuthenticationError, match="not known"):
            client.messages.create(**BODY)
        assert error_at(url, BODY)[:2] == (401, "authentication_error")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "images and files cannot be read"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1"}]}]}, "'t1'"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [*CUSTOM, CUSTOM[0]]}, "two tools have the same name."),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": CUSTOM, "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice"),
        ({"tools": CUSTOM, "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tools": CUSTOM, "tool_choice": {"type": "auto", "name": "time"}}, "tool_choice"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"stop_sequences": [5]}, "stop_sequences.0"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"speed": "fast"}, "speed"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
    ],
)
def test_what_is_wrong_is_named(url: str, change: dict[str, Any], named: str) -> None:
    status, kind, message = error_at(url, {**BODY, **change})
    assert (status, kind) == (400, "invalid_request_error") and named in message
