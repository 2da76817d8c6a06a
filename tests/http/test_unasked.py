"""What clients send and ask for nothing by it is accepted; what asks for something that is not done is named."""

import json
from typing import Any

import pytest

from serving.errors import InvalidRequest
from serving.http.problems import Problem
from serving.http.requests.chat import ChatRequest
from serving.http.requests.messages import MessagesRequest
from serving.http.requests.responses import ResponsesRequest
from serving.http.requests.text import CompletionRequest
from serving.http.requests.tokens import TokenizeRequest
from serving.http.requests.wire import Wire, parse
from serving.types import Message, SamplingOptions

Json = dict[str, Any]
HI: Json = {"role": "user", "content": "hi"}
CALL: Json = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
GOOD: dict[type[Wire], Json] = {
    ChatRequest: {"model": "m", "messages": [HI]},
    CompletionRequest: {"model": "m", "prompt": "hi"},
    ResponsesRequest: {"model": "m", "input": "hi"},
    MessagesRequest: {"model": "m", "messages": [HI], "max_tokens": 9},
    TokenizeRequest: {"messages": [HI]},
}
SAMPLING = (ChatRequest, CompletionRequest, ResponsesRequest, MessagesRequest)
WRITTEN_OUT: Json = {  # of llama.cpp's and vLLM's clients, what is so by itself
    "n_predict": -1, "n_probs": 0, "n_keep": 0, "min_keep": 0, "id_slot": -1, "repeat_last_n": 64, "lora": [],
    "t_max_predict_ms": 0, "timings_per_token": False, "post_sampling_probs": False, "return_tokens": False,
    "return_progress": False, "return_token_ids": False, "include_reasoning": True, "reasoning_format": "auto",
    "no_stop_trim": False, "separate_reasoning": True, "stream_reasoning": True, "return_hidden_states": False,
    "priority": 0, "image_data": [], "documents": [], "logits_processors": [], "prompt_logprobs": False,
    "typical_p": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "best_of": 1, "n": 1, "backend_sampling": False,
    "typ_p": 1.0, "t_max_prompt_ms": -1, "n_indent": 0, "n_discard": 0, "grammar_lazy": False, "penalize_nl": False,
    "reasoning_in_content": False, "parse_tool_calls": True, "adaptive_target": -1.0, "adaptive_decay": 0.9,
    "n_cmpl": 1, "repeat_penalty": 1.0,
    "speculative.n_max": 16, "speculative.p_min": 0.75, "n_cache_reuse": 0, "preserved_tokens": [], "grammar": "",
    "vllm_xargs": {}, "logprobs": False,
    # Of text-generation-webui, TabbyAPI and what writes for them.
    "dynamic_temperature": False, "dynatemp_low": 1, "dynatemp_high": 1, "smoothing_factor": 0, "smoothing_curve": 1,
    "tfs": 1, "guidance_scale": 1, "negative_prompt": "", "penalty_alpha": 0, "num_beams": 1, "do_sample": True,
    "encoder_repetition_penalty": 1, "temperature_last": False, "ban_eos_token": False, "custom_token_bans": "",
    "grammar_string": "", "min_length": 0, "token_healing": False, "legacy_api": False, "max_tokens_second": 0,
    # Of Codex, OpenRouter's and LM Studio's clients, and the newest of OpenAI's.
    "client_metadata": {"turn": "1"}, "session_id": "s", "ttl": 300, "prompt_cache_options": {"mode": "implicit"},
    "previous_response_id": "", "transforms": [], "models": [],
}  # fmt: skip


def read(model: type[Wire], **more: Any) -> Any:
    return parse(model, json.dumps({**GOOD[model], **more}).encode())


def refused(model: type[Wire], **more: Any) -> str | None:
    with pytest.raises(Problem) as problem:
        read(model, **more)
    assert problem.value.status == 400
    return problem.value.param


@pytest.mark.parametrize("model", SAMPLING)
@pytest.mark.parametrize("field", WRITTEN_OUT)
def test_what_is_so_by_itself_may_be_written_out(model: type[Wire], field: str) -> None:
    assert read(model, **{field: WRITTEN_OUT[field]}).sampling(SamplingOptions()) == read(model).sampling(
        SamplingOptions()
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("n_predict", 5), ("n_probs", 3), ("priority", 1), ("priority", False), ("include_reasoning", False),
     ("return_hidden_states", True), ("no_stop_trim", True), ("stream_reasoning", False),
     ("smoothing_factor", 0.2), ("dynamic_temperature", True), ("guidance_scale", 1.5), ("adaptive_target", 0.5),
     ("temperature_last", True), ("web_search_options", {}),
     ("reasoning_format", "none"), ("lora", [{"id": 0, "scale": 1}]), ("image_data", ["x"]), ("surprise", 0)],
)  # fmt: skip
@pytest.mark.parametrize("model", SAMPLING)
def test_what_would_ask_for_something_is_named(model: type[Wire], field: str, value: Any) -> None:
    assert refused(model, **{field: value}) == field


@pytest.mark.parametrize("model", GOOD)
def test_null_is_left_out_whatever_its_name(model: type[Wire]) -> None:
    assert read(model, previous_response_id=None, conversation=None, surprise=None) == read(model)
    part = {"type": "text", "text": "hi", "image_url": None, "input_audio": None}
    if model in (ChatRequest, MessagesRequest):
        assert read(model, messages=[{**HI, "content": [part], "surprise": None}]).conversation()


@pytest.mark.parametrize("model", GOOD)
def test_an_empty_text_or_list_is_left_out_under_a_name_that_is_not_known(model: type[Wire]) -> None:
    assert read(model, surprise="", other=[]) == read(model)
    for value in ({}, False, 0, [""], " "):
        assert refused(model, surprise=value) == "surprise"


def test_what_is_empty_and_says_something_is_kept() -> None:
    anything = {"type": "json_schema", "json_schema": {"name": "any", "schema": {}}}
    assert read(ChatRequest, response_format=anything).sampling(SamplingOptions()).grammar.text == "{}"
    assert refused(ChatRequest, messages=[]) == "messages"


def test_what_the_tokenizer_puts_before_a_text_may_be_named() -> None:
    assert read(CompletionRequest, add_special_tokens=True, add_bos_token=True) == read(CompletionRequest)
    assert refused(CompletionRequest, add_special_tokens=False) == "add_special_tokens"
    assert read(ChatRequest, add_special_tokens=False) == read(ChatRequest)
    assert refused(ChatRequest, add_special_tokens=True) == "add_special_tokens"


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_k", 5), ("min_p", 0.1), ("typical_p", 0.9), ("repetition_penalty", 1.1), ("frequency_penalty", 0.5),
     ("presence_penalty", -0.5), ("logit_bias", {"5": -3}), ("seed", 7), ("stop", ["a"]), ("stop", "a"),
     ("include_stop_str_in_output", True), ("stop_token_ids", [4]), ("bad_words", ["b"]), ("min_tokens", 3),
     ("ignore_eos", True), ("guided_choice", ["a", "b"]), ("grammar", 'root ::= "a"'), ("json_schema", {}),
     ("structured_outputs", {"regex": "a+"})],
)  # fmt: skip
def test_responses_are_sampled_by_what_a_chat_is(field: str, value: Any) -> None:
    options = SamplingOptions()
    asked = read(ResponsesRequest, **{field: value}).sampling(options)
    assert asked == read(ChatRequest, **{field: value}).sampling(options) != options


@pytest.mark.parametrize("model", (ChatRequest, CompletionRequest, ResponsesRequest))
def test_the_repetition_penalty_has_the_name_that_llama_cpp_gives_it_too(model: type[Wire]) -> None:
    suggested = SamplingOptions(repetition_penalty=1.2)  # by a model's generation_config.json
    assert read(model, repeat_penalty=1).sampling(suggested).repetition_penalty == 1
    assert read(model, repeat_penalty=1.5, repetition_penalty=1.5).sampling(suggested).repetition_penalty == 1.5
    with pytest.raises(InvalidRequest, match="say different things"):
        read(model, repeat_penalty=1.5, repetition_penalty=1).sampling(suggested)
    assert refused(model, repeat_penalty=0) == "repeat_penalty"


def test_a_response_has_one_format() -> None:
    both = read(ResponsesRequest, text={"format": {"type": "json_object"}}, guided_regex="a")
    with pytest.raises(Problem, match=r"text\.format and guided_regex both say"):
        both.sampling(SamplingOptions())


def test_what_newer_clients_of_responses_write_out() -> None:
    tool = {"type": "function", "name": "f", "parameters": {}, "defer_loading": False, "allowed_callers": ["direct"]}
    written = {"service_tier": "fast", "max_tool_calls": 3, "reasoning": {"context": "auto", "mode": "standard"}}
    last = {"type": "message", "role": "assistant", "content": "x", "phase": "final_answer"}
    wire = read(ResponsesRequest, tools=[tool], input=[HI, last], **written)
    assert wire.conversation()[-1].content == "x" and wire.calls().functions[0].name == "f"
    assert refused(ResponsesRequest, tools=[{**tool, "defer_loading": True}]) == "tools.0.defer_loading"
    assert refused(ResponsesRequest, reasoning={"mode": "pro"}) == "reasoning.mode"


def test_a_completion_takes_notes_that_a_chat_takes() -> None:
    assert read(CompletionRequest, store=False, metadata={"a": 1}, service_tier="auto", verbosity="low")
    assert read(ChatRequest, metadata={"turn": 3, "tags": ["a"]})


@pytest.mark.parametrize("thinks", [True, False])
def test_reasoning_is_switched_by_the_name_that_routers_have_for_it(thinks: bool) -> None:
    named = read(ChatRequest, reasoning={"enabled": thinks}).template()
    assert named == read(ChatRequest, enable_thinking=thinks).template()
    assert read(ChatRequest, reasoning={"enabled": not thinks}, enable_thinking=thinks).template() == named


def test_as_many_are_chosen_from_as_are_given() -> None:
    options = SamplingOptions()
    assert read(CompletionRequest, best_of=3, n=3).sampling(options) == read(CompletionRequest, n=3).sampling(options)
    with pytest.raises(Problem) as problem:
        read(CompletionRequest, best_of=3, n=2).sampling(options)
    assert problem.value.param == "best_of"
    assert refused(ChatRequest, best_of=2) == "best_of"
    assert refused(ChatRequest, echo=True) == "echo" and read(ChatRequest, echo=False)


def test_tokens_are_counted_of_a_conversation_without_tools() -> None:
    assert read(TokenizeRequest, tools=[], cache_prompt=True).conversation()[1].tools is None


def said(*messages: Json) -> list[tuple[str, str]]:
    return [(each.role, each.content) for each in read(ChatRequest, messages=[*messages]).conversation()]


def test_messages_come_back_as_clients_keep_them() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    call = {**CALL, "extra_content": {"google": {"thought_signature": "x"}}, "provider_specific_fields": {"a": 1}}
    answer = {"role": "assistant", "content": [], "tool_calls": [call], "thinking_blocks": [thought], "images": []}
    tool = {"role": "tool", "tool_call_id": "c", "content": None}
    assert said(HI, answer, tool) == [("user", "hi"), ("assistant", ""), ("tool", "")]
    declined = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    assert said(HI, declined, HI)[1] == ("assistant", "I cannot.")
    assert said({"role": "user", "content": None}) == [("user", "")]
    assert refused(ChatRequest, messages=[{"role": "user"}]) == "messages.0.content"
    assert refused(ChatRequest, messages=[{"role": "user", "content": []}]) == "messages.0.content"


def test_a_call_without_arguments_may_have_an_empty_text_of_them() -> None:
    bare = {**CALL, "function": {"name": "f", "arguments": ""}}
    _, answer, _ = read(
        ChatRequest, messages=[HI, {"role": "assistant", "content": "", "tool_calls": [bare]},
                               {"role": "tool", "tool_call_id": "c", "content": "x"}]
    ).conversation()  # fmt: skip
    assert answer.tool_calls[0]["function"]["arguments"] == {}


@pytest.mark.parametrize("call", [{"type": None}, {"function": {"name": "f", "arguments": None}}, {"index": 0}])
def test_a_call_that_was_put_together_from_a_stream_may_come_back_so(call: Json) -> None:
    untyped = {name: value for name, value in {**CALL, **call}.items() if name != "type" or "type" in call}
    answer = {"role": "assistant", "content": None, "tool_calls": [untyped]}
    _, said, _ = read(
        ChatRequest, messages=[HI, answer, {"role": "tool", "tool_call_id": "c", "content": "x"}]
    ).conversation()  # fmt: skip
    assert said.tool_calls[0]["type"] == "function" and said.tool_calls[0]["function"]["arguments"] == {}
    custom = {**answer, "tool_calls": [{**CALL, "type": "custom"}]}
    assert refused(ChatRequest, messages=[HI, custom]) == "messages.1.tool_calls.0.type"


def test_a_part_of_a_message_has_an_id_and_a_place_where_clients_keep_them() -> None:
    part = {"type": "text", "text": "x", "index": 0, "id": "msg_1", "cache_control": None}
    assert said(HI, {"role": "assistant", "content": [part]}, HI)[1] == ("assistant", "x")


@pytest.mark.parametrize("model", SAMPLING)
def test_a_guess_at_the_answer_changes_nothing_of_it(model: type[Wire]) -> None:
    assert read(model, prediction={"type": "content", "content": "abc"}) == read(model)


def test_two_names_of_one_field_may_say_the_same() -> None:
    options = SamplingOptions()
    asked = read(ChatRequest, max_tokens=5, max_completion_tokens=5).sampling(options)
    assert asked == read(ChatRequest, max_tokens=5).sampling(options)
    with pytest.raises(Problem, match="mean the same"):
        read(ChatRequest, max_tokens=5, max_completion_tokens=6).sampling(options)


def test_a_tool_may_give_nothing() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    given = {"type": "function_call_output", "call_id": "c", "output": []}
    assert read(ResponsesRequest, input=[HI, call, given]).conversation()[-1].content == ""


def test_how_much_to_think_as_openrouter_writes_it() -> None:
    assert read(ChatRequest, reasoning={"effort": "low", "exclude": False, "summary": "auto"}).reasoning.effort == "low"
    assert refused(ChatRequest, reasoning={"exclude": True}) == "reasoning.exclude"


def test_items_come_back_as_other_servers_made_them() -> None:
    kept = {"id": "i", "status": "in_progress", "created_at": 1}
    part = {"type": "input_text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    items = [
        {"type": "message", "role": "user", "content": [part], **kept},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x", **kept},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "", "id": "i", "status": "incomplete"},
        {"type": "function_call_output", "call_id": "c", "output": "x", "status": "incomplete", "created_by": "me"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], **kept},
    ]  # fmt: skip
    user, answer, tool, last = read(ResponsesRequest, input=items).conversation()
    assert (user.content, tool.content, last.content) == ("hi", "x", "No.")
    assert answer.reasoning_content == "hm" and answer.tool_calls[0]["function"] == {"name": "f", "arguments": {}}


def asked(*messages: Json) -> list[Message]:
    return list(read(ChatRequest, messages=[*messages]).conversation())


def test_arguments_of_a_call_may_be_the_object_that_they_are() -> None:
    def called(arguments: Any) -> Json:
        return {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": arguments}}]}

    given = {"role": "tool", "tool_call_id": "c", "content": "x"}
    for arguments in ({}, {"a": [1]}):
        assert asked(HI, called(arguments), given) == asked(HI, called(json.dumps(arguments)), given)
    assert refused(ChatRequest, messages=[HI, called([1])]) == "messages.1.tool_calls.0.function.arguments"
    with pytest.raises(Problem, match="must be a JSON object"):
        asked(HI, called("[1]"), given)


def test_a_function_call_is_a_call_of_a_tool() -> None:
    called = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    given = {"role": "function", "name": "f", "content": "2"}
    answer, result = asked(HI, called, given)[1:]
    assert answer.tool_calls and answer.tool_calls[0]["function"] == {"name": "f", "arguments": {"a": 1}}
    assert (result.role, result.content, result.name) == ("tool", "2", "f")
    assert result.tool_call_id == answer.tool_calls[0]["id"]
    assert read(TokenizeRequest, messages=[HI, called, given]).conversation()[0] == asked(HI, called, given)
    assert read(ChatRequest, messages=[HI, called]).template().ending == "answer"
    for wrong in ([HI, given], [HI, called, {**given, "name": "g"}], [HI, {**called, "tool_calls": [CALL]}]):
        with pytest.raises(Problem) as problem:
            asked(*wrong)
        assert (problem.value.status, problem.value.param) == (400, "messages")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {
            "type": "thinking",
            "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}],
            "closed": True,
        },
        {"type": "reasoning", "reasoning": "hm", "index": 0, "extras": {"signature": "s"}},
        {"type": "reasoning", "text": "hm"},
    ],
)
def test_a_thought_among_the_parts_of_an_answer_is_its_reasoning(part: Json) -> None:
    parts = [part, {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "yes"}]
    answer = {"role": "assistant", "content": parts}
    assert asked(HI, answer, HI)[1] == Message("assistant", "yes", "hm")
    assert asked(HI, {**answer, "reasoning_content": "well"}, HI)[1] == Message("assistant", "yes", "well")
    assert asked(HI, {**answer, "content": parts[1:]}, HI)[1] == Message("assistant", "yes")
    assert refused(ChatRequest, messages=[{**HI, "content": parts}]) == "messages.0.content.0.type"


def test_how_a_tool_fared_is_said_by_what_it_gave() -> None:
    part = {"type": "text", "text": "no file", "is_error": True}
    for more in ({"status": "error", "content": "no file"}, {"is_error": True, "content": [part]}):
        given = {"role": "tool", "tool_call_id": "c", **more}
        assert asked(HI, {"role": "assistant", "tool_calls": [CALL]}, given)[2].content == "no file"


def test_the_usage_is_asked_for_as_openrouters_clients_do() -> None:
    assert read(ChatRequest, usage={"include": True}).include_usage
    assert not read(ChatRequest, usage={"include": False}).include_usage
    assert read(ChatRequest, stream_options={"include_usage": True}, usage={}).include_usage
    assert refused(ChatRequest, usage={"exclude": True}) == "usage.exclude"


@pytest.mark.parametrize("model", (ChatRequest, CompletionRequest, ResponsesRequest))
def test_an_empty_text_ends_nothing(model: type[Wire]) -> None:
    options = SamplingOptions()
    assert read(model, stop=[""]).sampling(options).stop == ()
    assert read(model, stop=["", "END"]).sampling(options).stop == ("END",)
    assert read(MessagesRequest, stop_sequences=[""]).sampling(options).stop == ()


def test_a_schema_needs_no_name() -> None:
    wanted = {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}}
    assert read(ChatRequest, response_format=wanted).sampling(SamplingOptions()).grammar.text == '{"type":"integer"}'
    named = {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}
    assert refused(ChatRequest, response_format=named) == "response_format.json_schema.name"


def test_a_thought_that_no_answer_follows_is_left_out() -> None:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    answer = {"type": "message", "role": "assistant", "content": "yes"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    given = {"type": "function_call_output", "call_id": "c", "output": "x"}
    user = Message("user", "hi")
    for items, said in (
        ([HI, thought, HI, answer], [user, user, Message("assistant", "yes")]),
        ([HI, answer, thought], [user, Message("assistant", "yes")]),
        ([HI, thought, thought, answer], [user, Message("assistant", "yes", "hmhm")]),
    ):
        assert read(ResponsesRequest, input=items).conversation() == said
    assert [each.role for each in read(ResponsesRequest, input=[HI, call, thought, given]).conversation()] == [
        "user", "assistant", "tool",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["reasoning_text", "summary_text", "text"])
@pytest.mark.parametrize("place", ["summary", "content"])
def test_a_thought_comes_back_whatever_its_pieces_are_called(kind: str, place: str) -> None:
    thought = {"type": "reasoning", place: [{"type": kind, "text": "hm"}]}
    items = [HI, thought, {"type": "message", "role": "assistant", "content": "yes"}]
    assert read(ResponsesRequest, input=items).conversation()[1].reasoning_content == "hm"


def test_what_names_an_item_that_is_stored_elsewhere_is_told_why_not() -> None:
    with pytest.raises(Problem, match=r"input\.1: nothing is stored here.*send the item itself") as problem:
        read(ResponsesRequest, input=[HI, {"type": "item_reference", "id": "msg_1"}])
    assert (problem.value.status, problem.value.param) == (400, "input.1")
    assert refused(ResponsesRequest, tools=[{"type": "web_search"}]) == "tools.0.type"
    assert refused(ResponsesRequest, tools=[{"type": "custom", "name": "f"}]) == "tools.0.type"
