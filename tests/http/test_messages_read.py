"""What a body in Anthropic's blocks becomes for the engine."""

import json
from typing import Any

import pytest

from serving.http.problems import Problem
from serving.http.requests.messages import CountTokensRequest, MessagesRequest
from serving.http.requests.wire import parse
from serving.types import Grammar, Message, SamplingOptions

HI: Any = {"role": "user", "content": "hi"}
USE: Any = {"type": "tool_use", "id": "t1", "name": "time", "input": {"zone": "CET"}}
RESULT: Any = {"type": "tool_result", "tool_use_id": "t1"}
CALL = {"id": "t1", "type": "function", "function": {"name": "time", "arguments": {"zone": "CET"}}}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def read(messages: list[Any], **more: Any) -> MessagesRequest:
    return parse(MessagesRequest, json.dumps({"model": "m", "messages": messages, **more}).encode())


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([HI], [Message("user", "hi")]),
        ([{"role": "user", "content": [text("a "), text("b", citations=None)]}], [Message("user", "a b")]),
        ([HI, {"role": "user", "content": "there"}], [Message("user", "hi\nthere")]),
        ([{"role": "system", "content": [text("Be.")]}, HI], [Message("system", "Be."), Message("user", "hi")]),
        (
            [HI, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"},
                                                   {"type": "redacted_thinking", "data": "x"}, text("so"), USE]},
             {"role": "user", "content": [{**RESULT, "content": [text("1"), text("2")]}, text("and?")]}],
            [Message("user", "hi"), Message("assistant", "so", "hm", (CALL,)),
             Message("tool", "12", tool_call_id="t1", name="time"), Message("user", "and?")],
        ),
        (
            [HI, {"role": "assistant", "content": "so"}, {"role": "assistant", "content": [USE]},
             {"role": "user", "content": [{**RESULT, "is_error": True}]}],
            [Message("user", "hi"), Message("assistant", "so", None, (CALL,)),
             Message("tool", "", tool_call_id="t1", name="time")],
        ),
        ([HI, {"role": "assistant", "content": []}, HI],
         [Message("user", "hi"), Message("assistant", ""), Message("user", "hi")]),
    ],
)  # fmt: skip
def test_blocks_become_messages(messages: list[Any], expected: list[Message]) -> None:
    assert read(messages).conversation() == expected
    assert read(messages, system="S").conversation() == [Message("system", "S"), *expected]


@pytest.mark.parametrize("system", [None, "", [], [text("")]])
def test_no_system_prompt_is_none(system: Any) -> None:
    assert read([HI], system=system).conversation() == [Message("user", "hi")]


def test_options_are_what_is_given_over_what_the_model_suggests() -> None:
    suggested = SamplingOptions(temperature=0.5, top_k=40)
    assert read([HI]).sampling(suggested) == suggested
    schema = {"type": "object"}
    given = read(
        [HI], max_tokens=9, temperature=1, top_p=0.5, top_k=-1, stop_sequences=["a", "b"],
        thinking={"type": "enabled", "budget_tokens": 5},
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )  # fmt: skip
    assert given.sampling(suggested) == SamplingOptions(
        temperature=1.0, top_p=0.5, top_k=0, max_tokens=9, stop=("a", "b"), reasoning_tokens=5,
        grammar=Grammar("json_schema", '{"type":"object"}'),
    )  # fmt: skip
    assert read([HI], thinking={"type": "disabled"}).sampling(suggested).reasoning_tokens == 0


def test_the_template_is_told_of_tools_and_of_what_it_may_know() -> None:
    tool = {"name": "mcp__" + "x" * 100, "description": "d", "input_schema": {"type": "object"}}
    told = read([HI], tools=[tool], output_config={"effort": "high"}, thinking={"type": "adaptive"}).template()
    function = {"name": tool["name"], "description": "d", "parameters": {"type": "object"}}
    assert told.tools == ({"type": "function", "function": function},)
    assert (told.arguments, told.hints) == ({}, {"enable_thinking": True, "reasoning_effort": "high"})
    assert read([HI]).template().hints == {}


CACHED = {"type": "ephemeral", "ttl": "1h"}
WHOLE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "x", "content": [text("so", citations=None)],
    "stop_reason": "end_turn", "stop_sequence": None, "stop_details": None, "usage": {"input_tokens": 1},
    "container": None, "diagnostics": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "unasked",
    [
        {"metadata": {"user_id": "u"}, "service_tier": "auto", "speed": "standard", "cache_control": CACHED},
        {"system": [text("S", cache_control=CACHED)], "stream": False, "tools": [], "tool_choice": {"type": "auto"}},
        {"tools": [{"type": "custom", "name": "f", "input_schema": {}, "cache_control": CACHED, "input_examples": [],
                    "eager_input_streaming": True, "defer_loading": False, "allowed_callers": ["direct"]}]},
        {"messages": [HI, WHOLE, HI]},
        {"messages": [HI, {"role": "assistant", "content": [{**USE, "caller": {"type": "direct"}}]}, HI]},
        {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}, "mcp_servers": []},
    ],
)  # fmt: skip
def test_what_clients_send_unasked_asks_for_nothing(unasked: dict[str, Any]) -> None:
    asked = {"messages": [HI], **unasked}
    assert read(**asked).conversation()
    if "metadata" not in unasked and "stream" not in unasked:
        assert parse(CountTokensRequest, json.dumps({"model": "m", **asked}).encode()).conversation()


def test_older_thoughts_are_left_out_where_that_is_asked_for() -> None:
    def answered(thought: str, *more: dict[str, Any]) -> dict[str, Any]:
        return {"role": "assistant", "content": [{"type": "thinking", "thinking": thought, "signature": ""}, *more]}

    given = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": USE["id"], "content": "x"}]}
    messages = [HI, answered("a", text("A")), HI, answered("b", USE), given, answered("c", text("C")), HI]

    def thoughts(edit: dict[str, Any]) -> list[str]:
        edits = [{"type": "clear_thinking_20251015", **edit}]
        said = read(messages, context_management={"edits": edits}).conversation()
        assert len(said) == len(messages)
        return [each.reasoning_content for each in said if each.reasoning_content]

    assert thoughts({}) == thoughts({"keep": 1}) == ["b", "c"]
    assert thoughts({"keep": {"type": "thinking_turns", "value": 1}}) == ["b", "c"]
    assert thoughts({"keep": {"type": "thinking_turns", "value": 2}}) == thoughts({"keep": "all"}) == ["a", "b", "c"]
    with pytest.raises(Problem) as problem:
        read(messages, context_management={"edits": [{"type": "clear_tool_uses_20250919"}]})
    assert problem.value.param == "context_management.edits.0.type"


def test_examples_of_a_tools_input_are_examples_of_its_schema() -> None:
    tool = {"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}
    told = read([HI], tools=[tool]).template().tools
    assert told and told[0]["function"]["parameters"] == {"type": "object", "examples": [{"a": 1}]}
    assert tool["input_schema"] == {"type": "object"}
