"""The API with the official client, over a socket, on the real demo model."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion import Completion
from pydantic import BaseModel

from serving.engine.process import EngineProcess
from serving.http.answers import AnswerEngine
from serving.http.metrics import Metrics
from serving.text.prompt import Prompt
from serving.types import Chunk, EngineSettings, Message, SamplingOptions, complete
from tests.http.test_calls import TEMPLATE, Calling
from tests.servers import api_served, asked, error_of, events_of

MESSAGES: Any = [{"role": "user", "content": "what is 17+25?"}]
GREEDY: Any = {"model": "demo", "messages": MESSAGES, "temperature": 0, "max_tokens": 40}
STORY: Any = {**GREEDY, "messages": [{"role": "user", "content": "tell me a story about a fox"}]}
METRICS = Metrics()
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def worker(exact_model: Path) -> Iterator[EngineProcess]:
    with EngineProcess.load(exact_model, EngineSettings(queue=8), METRICS.watch) as worker:
        yield worker


@pytest.fixture(scope="module")
def url(worker: EngineProcess) -> Iterator[str]:
    with api_served(worker, metrics=METRICS) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def expected(worker: EngineProcess, body: dict[str, Any]) -> str:
    """What the engine itself says."""
    messages = [Message(said["role"], said["content"]) for said in body["messages"]]
    return complete(worker.generate(messages, SamplingOptions(temperature=0.0, max_tokens=body["max_tokens"]))).text


def test_a_chat_answer_is_the_engines(client: OpenAI, worker: EngineProcess) -> None:
    answer = client.chat.completions.create(**GREEDY)
    (choice,) = answer.choices
    assert choice.message.content == expected(worker, GREEDY) != ""
    assert choice.finish_reason == "stop"
    assert answer.usage and answer.usage.completion_tokens > 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    again = client.chat.completions.create(**GREEDY)
    assert again.usage and again.usage.prompt_tokens_details
    assert again.usage.prompt_tokens_details.cached_tokens == answer.usage.prompt_tokens - 1


def test_a_stream_gives_the_same_with_its_usage_and_its_end(client: OpenAI, url: str, worker: EngineProcess) -> None:
    with client.chat.completions.create(**STORY, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == expected(worker, STORY)
    assert len([text for text in texts if text]) > 1
    assert chunks[0].choices[0].delta.role == "assistant" and texts[0] != ""
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage and chunks[-1].usage.completion_tokens == 40
    _, headers, content = asked(url, CHAT, {**STORY, "stream": True})
    events = events_of(content)
    assert events[-1] == "[DONE]" and all("usage" not in event for event in events[:-1])
    each = {"stream": True, "stream_options": {"continuous_usage_stats": True}}
    for path, body in ((CHAT, STORY), (TEXT, {"model": "demo", "prompt": "hi", "max_tokens": 5})):
        usages = [event["usage"] for event in events_of(asked(url, path, {**body, **each})[2])[:-1]]
        counts = [usage["completion_tokens"] for usage in usages]
        assert counts == sorted(counts) and 0 < counts[0] <= counts[-1] <= body["max_tokens"]
        assert all(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] for usage in usages)
    assert headers["content-type"].startswith("text/event-stream") and headers["x-accel-buffering"] == "no"


def test_the_client_library_finds_every_field_that_it_declares(url: str) -> None:
    body = {**GREEDY, "logprobs": True, "top_logprobs": 2}
    ChatCompletion.model_validate_json(asked(url, CHAT, body)[2], strict=True)
    for event in events_of(asked(url, CHAT, {**body, "stream": True})[2])[:-1]:
        ChatCompletionChunk.model_validate_json(json.dumps(event), strict=True)
    text = {"model": "demo", "prompt": "hi", "max_tokens": 5, "logprobs": 2}
    Completion.model_validate_json(asked(url, TEXT, text)[2], strict=True)


def test_the_async_client_has_many_answers_made_at_once(url: str, worker: EngineProcess) -> None:
    questions = ["hi", "what is 20+30?", "capital of france", "tell me a story about a fox"]
    bodies = [{**GREEDY, "messages": [{"role": "user", "content": question}]} for question in questions]

    async def ask(client: AsyncOpenAI, body: Any) -> str:
        stream = await client.chat.completions.create(**body, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, body) for body in bodies))

    assert asyncio.run(all_of_them()) == [expected(worker, body) for body in bodies]


def test_several_choices_differ_by_their_seed(client: OpenAI) -> None:
    body = {**STORY, "temperature": 1.5, "top_p": 1.0, "seed": 7, "max_tokens": 12}
    three = client.chat.completions.create(**body, n=3)
    texts = [choice.message.content for choice in three.choices]
    assert [choice.index for choice in three.choices] == [0, 1, 2] and len(set(texts)) == 3
    alone = client.chat.completions.create(**{**body, "seed": 8})
    assert alone.choices[0].message.content == texts[1]
    assert three.usage and alone.usage and three.usage.prompt_tokens == alone.usage.prompt_tokens
    streamed = ["", "", ""]
    with client.chat.completions.create(**body, n=3, stream=True) as stream:
        for chunk in stream:
            streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_stop_strings_bias_and_max_completion_tokens(client: OpenAI, worker: EngineProcess) -> None:
    full = expected(worker, STORY)
    word = full.split()[4]
    cut = client.chat.completions.create(**STORY, stop=word).choices[0]
    assert cut.message.content == full[: full.index(word)] and cut.finish_reason == "stop"
    body = {name: value for name, value in STORY.items() if name != "max_tokens"}
    prompt = Prompt.load(worker.folder.path)
    short = client.chat.completions.create(**body, max_completion_tokens=3)
    assert short.usage and short.usage.completion_tokens == 3
    token = prompt.encode("x").tolist()[0]
    biased = client.chat.completions.create(**body, max_completion_tokens=4, logit_bias={str(token): 100})
    assert biased.choices[0].message.content == prompt.tokenizer.decode([token] * 4)


def test_logprobs_are_those_of_the_text(client: OpenAI) -> None:
    choice = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3).choices[0]
    assert choice.logprobs and choice.logprobs.content
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
    for token in choice.logprobs.content:
        assert len(token.top_logprobs) == 3 and token.top_logprobs[0].token == token.token
        assert token.logprob == token.top_logprobs[0].logprob <= 0
        assert bytes(token.bytes or []).decode() == token.token
    with client.chat.completions.create(**GREEDY, logprobs=True, stream=True) as stream:
        streamed = [t for c in stream for t in (c.choices[0].logprobs and c.choices[0].logprobs.content) or []]
    assert [token.token for token in streamed] == [token.token for token in choice.logprobs.content]


def test_the_answer_follows_a_schema(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema}}
    said = client.chat.completions.create(**{**GREEDY, "max_tokens": 200}, response_format=wanted).choices[0]
    content = json.loads(said.message.content or "")
    assert content.keys() == {"n"} and isinstance(content["n"], int)
    with pytest.raises(openai.BadRequestError):
        wrong: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "no such type"}}}
        client.chat.completions.create(**GREEDY, response_format=wrong)


class City(BaseModel):
    """What an answer is parsed into."""

    name: Literal["Rome", "Oslo"]


def test_what_clients_send_unasked_asks_for_nothing(client: OpenAI, worker: EngineProcess) -> None:
    unasked: Any = {"service_tier": "auto", "verbosity": "medium", "metadata": {}, "parallel_tool_calls": False}
    answer = client.chat.completions.create(**GREEDY, **unasked, user="anna", store=False)
    assert answer.choices[0].message.content == expected(worker, GREEDY)
    more: Any = {
        "prompt_cache_key": "k", "safety_identifier": "s", "keep_alive": "5m", "cache_prompt": True, "mirostat": 0,
        "typical_p": 1, "top_k": -1, "seed": -1, "min_tokens": 0, "skip_special_tokens": True, "stop_token_ids": [],
        "add_generation_prompt": True, "functions": [], "background": False, "top_logprobs": 0, "repeat_penalty": 1.0,
        "suffix": None, "audio": None,
    }  # fmt: skip
    answer = client.chat.completions.create(**GREEDY, tools=[], tool_choice="auto", extra_body=more)
    assert answer.choices[0].message.content == expected(worker, GREEDY)


def test_answers_go_back_as_client_libraries_keep_them(client: OpenAI) -> None:
    city = {"role": "user", "content": "a city"}
    first = client.chat.completions.parse(**{**GREEDY, "messages": [city]}, response_format=City)
    message = first.choices[0].message
    assert message.parsed
    called = {"name": "city", "arguments": message.content, "parsed_arguments": message.parsed.model_dump()}
    for kept in (
        {**message.model_dump(warnings=False), "name": "bot"},
        {"role": "assistant", "content": message.content, "provider_specific_fields": {"refusal": None}},  # LiteLLM
    ):
        history: Any = [city, kept, {"role": "user", "content": "and now?", "name": "anna"}]
        assert client.chat.completions.create(**{**GREEDY, "messages": history}).choices[0].finish_reason
    calling = {"role": "assistant", "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": called}]}
    with pytest.raises(openai.BadRequestError, match="template leaves out what the assistant called"):
        client.chat.completions.create(**{**GREEDY, "messages": [city, calling, city]})
    parsed = client.responses.parse(model="demo", input="a city", text_format=City, temperature=0)
    assert parsed.output_parsed
    again: Any = [*(item.model_dump(warnings=False) for item in parsed.output), {"role": "user", "content": "and now?"}]
    assert client.responses.create(model="demo", input=again, max_output_tokens=9).output


def test_a_name_is_told_where_the_template_tells_names(demo_model: Path) -> None:
    puppet = Calling(demo_model, TEMPLATE.replace("{{ m.content }}", "{{ m.name }}: {{ m.content }}"))
    with api_served(cast(AnswerEngine, puppet)) as url:
        puppet.immediately = [[Chunk("so", 3, 0, 3, 1, finish_reason="stop")]]
        assert asked(url, CHAT, {**GREEDY, "messages": [{"role": "user", "content": "hi", "name": "anna"}]})[0] == 200
    assert "anna: hi" in puppet.read


def test_a_text_is_continued_without_a_template(client: OpenAI, worker: EngineProcess) -> None:
    text = "user: hi\nassistant:"
    body: Any = {"model": "demo", "temperature": 0, "max_tokens": 8}
    one = client.completions.create(prompt=text, **body)
    ids = worker.prompt.raw_ids(text, 2048).tolist()
    assert one.usage and one.usage.prompt_tokens == len(ids)
    both = client.completions.create(prompt=[text, "once upon a time"], n=2, **body)
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert {choice.text for choice in both.choices[:2]} == {one.choices[0].text}
    assert client.completions.create(prompt=ids, **body).choices[0].text == one.choices[0].text
    with client.completions.create(prompt=text, stream=True, logprobs=1, **body) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == one.choices[0].text
    for wrong in ([10**6], [-1], "x" * 9000):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(prompt=wrong, **body)


def test_a_response_may_ask_for_the_oldest_turns_to_be_left_out(client: OpenAI) -> None:
    turns: Any = [{"role": role, "content": "word " * 300} for _ in range(8) for role in ("user", "assistant")]
    asked: Any = {"model": "demo", "input": [*turns, {"role": "user", "content": "hi"}], "max_output_tokens": 5}
    for truncation in ({}, {"truncation": "disabled"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(**asked, **truncation)
        assert refused.value.code == "context_length_exceeded"
    answer = client.responses.create(**asked, truncation="auto")
    assert answer.output and answer.truncation == "auto"


def test_the_one_model_is_listed_and_no_other_answers(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").object == "model"
    for ask in (
        lambda: client.models.retrieve("other/one"),
        lambda: client.chat.completions.create(**{**GREEDY, "model": "gpt"}),
    ):
        with pytest.raises(openai.NotFoundError, match="only 'demo'") as refused:
            ask()
        assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"functions": [{}]}, "functions", "unknown_parameter"),
        ({"mirostat": 2}, "mirostat", "unknown_parameter"),
        ({"mirostat": False}, "mirostat", "unknown_parameter"),
        ({"top_k": -2}, "top_k", "invalid_value"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 2.5}, "max_tokens", "invalid_value"),
        ({"store": 0}, "store", "invalid_value"),
        ({"max_tokens": 10**400}, "max_tokens", "invalid_value"),
        ({"temperature": -1}, "temperature", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_value"),
        ({"stop": ["a", 1]}, "stop.1", "invalid_value"),
        ({"logit_bias": {"12": 101}}, "logit_bias.12", "invalid_value"),
        ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ({"max_completion_tokens": 4}, "max_tokens", "invalid_value"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
         "response_format.json_schema.schema", "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": ""}]}, "messages.0", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages.0.content.0.type", "invalid_value"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": None}, "messages", "invalid_value"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, None, "invalid_value"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(url: str, change: dict[str, Any], param: str | None, code: str) -> None:
    status, error = error_of(url, CHAT, {**GREEDY, **change})
    assert (status, error["type"], error["code"]) == (400, "invalid_request_error", code)
    assert error["param"] == param
    assert (param or "enable_thinking") in error["message"]


def test_a_conversation_that_is_too_long(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{**GREEDY, "messages": [{"role": "user", "content": "word " * 5000}]})
    assert refused.value.code == "context_length_exceeded"


def test_too_many_requests_are_told_when_to_come_back(exact_model: Path) -> None:
    with EngineProcess.load(exact_model, EngineSettings(parallel=1, queue=1)) as engine, api_served(engine) as url:
        bodies = [{**STORY, "max_tokens": None, "temperature": 2, "stream": True}] * 2
        with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            first = client.chat.completions.create(**bodies[0])
            next(iter(first))
            status, headers, content = asked(url, CHAT, {**GREEDY, "n": 2})
            assert (status, json.loads(content)["error"]["code"]) == (503, "busy")
            assert int(headers["retry-after"]) >= 1
            first.close()
            deadline = time.monotonic() + 5
            while asked(url, CHAT, {**GREEDY, "max_tokens": 1, "n": 2})[0] != 200:
                assert time.monotonic() < deadline


def values(url: str) -> dict[str, float]:
    """What /metrics says, by name and labels."""
    text = asked(url, "/metrics")[2].decode()
    return {n: float(v) for n, v in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}


def test_metrics_count_what_was_answered(url: str) -> None:
    asked(url, CHAT, GREEDY)  # so that the next finds its prompt cached
    before = values(url)
    content = asked(url, CHAT, GREEDY)[2]
    usage = json.loads(content)["usage"]
    assert error_of(url, CHAT, {**GREEDY, "n": 0})[0] == 400
    after = values(url)
    names = ["answers_total{outcome=\"stop\"}", "completion_tokens_total", "prompt_tokens_total", "cached_tokens_total",
             "time_to_first_token_seconds_count", "time_per_token_seconds_count"]  # fmt: skip
    grown = [after[f"oga_chat_{name}"] - before.get(f"oga_chat_{name}", 0) for name in names]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert grown == [1, usage["completion_tokens"], usage["prompt_tokens"], cached, 1, 1]
    for status in ("200", "400"):
        name = f'oga_chat_http_requests_total{{path="{CHAT}",status="{status}"}}'
        assert after[name] == before.get(name, 0) + 1
    assert 0 < after["oga_chat_kv_bytes"] <= after["oga_chat_kv_limit_bytes"]
    assert after["oga_chat_running"] == after["oga_chat_waiting"] == 0


def test_other_addresses_and_methods(url: str) -> None:
    health = json.loads(asked(url, "/health")[2])
    assert (health["status"], health["model"], health["queue"]) == ("ok", "demo", {"running": 0, "waiting": 0})
    status, error = error_of(url, "/v1/nothing", None)
    assert (status, error["message"]) == (404, "there is nothing at /v1/nothing.")
    status, error = error_of(url, CHAT, None)
    assert (status, error["message"]) == (405, f"{CHAT} does not take GET.")
