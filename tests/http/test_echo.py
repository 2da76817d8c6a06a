"""Prompts that are echoed with their log-probabilities, in the form in which lm-evaluation-harness asks for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import OpenAI

from serving.engine.process import EngineProcess
from serving.http.shapes.text import Places
from serving.text.prompt import Prompt
from serving.types import EngineSettings
from tests.engine.test_prompt_logprobs import whole_pass
from tests.servers import api_served, asked, error_of, events_of

PATH = "/v1/completions"
# What lm-evaluation-harness 0.4 sends for a log-likelihood, beside the prompts.
HARNESS: Any = {"model": "demo", "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
QUESTION = "<|im_start|>user\nwhat is 17+25?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def url(exact_model: Path) -> Iterator[str]:
    with EngineProcess.load(exact_model, EngineSettings(queue=8)) as worker, api_served(worker) as url:
        yield url


@pytest.fixture(scope="module")
def prompt(exact_model: Path) -> Prompt:
    return Prompt.load(exact_model)


def answer(url: str, body: dict[str, Any]) -> dict[str, Any]:
    status, _, content = asked(url, PATH, body)
    assert status == 200, content
    found: dict[str, Any] = json.loads(content)
    return found


@pytest.fixture(scope="module")
def said(url: str) -> str:
    """What the model answers, up to the end of its turn."""
    (choice,) = answer(url, {"model": "demo", "prompt": QUESTION, "temperature": 0})["choices"]
    assert choice["finish_reason"] == "stop" and choice["text"]
    return str(choice["text"])


def harness(choice: dict[str, Any], context: int) -> tuple[float, bool]:
    """The log-likelihood of what follows `context` tokens, and whether it is the greedy answer, as it is read there."""
    told = choice["logprobs"]
    each = told["token_logprobs"][context:-1]
    best = [max(top.values()) for top in told["top_logprobs"][context:-1]]
    return sum(each), each == best


def test_the_harness_finds_the_likelihoods_of_a_forward_pass(
    url: str, prompt: Prompt, exact_model: Path, said: str
) -> None:
    """Several encoded prompts at once: a context, with the model's own answer and another one."""
    context = prompt.encode(QUESTION).tolist()
    answers = [prompt.encode(text).tolist() for text in (said, f"{said[:-2]}53<|im_end|>")]
    body = answer(url, {**HARNESS, "prompt": [context + each for each in answers]})
    found = [harness(choice, len(context)) for choice in sorted(body["choices"], key=lambda c: c["index"])]
    for (likelihood, greedy), each in zip(found, answers, strict=True):
        tokens = np.asarray(context + each, dtype=np.int32)
        rows = whole_pass(exact_model, tokens)[len(context) - 1 : -1]
        assert likelihood == pytest.approx(float(rows[np.arange(len(each)), each].sum()), abs=1e-3)
        assert greedy == (rows.argmax(axis=1).tolist() == each)
    assert [greedy for _, greedy in found] == [True, False]


def test_every_token_is_listed_the_end_of_the_turn_too(url: str, prompt: Prompt, said: str) -> None:
    """Who counts from both ends would take the last token of the prompt for the answer otherwise."""
    tokens = prompt.encode(QUESTION + said).tolist()
    (choice,) = answer(url, {**HARNESS, "prompt": tokens})["choices"]
    told = choice["logprobs"]
    assert [len(told[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")] == [
        len(tokens) + 1
    ] * 4
    assert told["tokens"][-1] == "<|im_end|>" and choice["finish_reason"] == "stop"
    assert (told["token_logprobs"][0], told["top_logprobs"][0]) == (None, None)
    assert choice["text"] == QUESTION + said


def test_a_text_comes_back_as_it_was_with_the_places_of_its_tokens(url: str) -> None:
    text = "<|im_start|>user\nWhere is the h\u00e9llo \U0001f44d of 17?"
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        completion = client.completions.create(
            model="demo", prompt=text, echo=True, logprobs=2, max_tokens=4, seed=1, logit_bias={"2": -100}
        )
    (choice,) = completion.choices
    assert choice.text.startswith(text) and len(choice.text) > len(text)
    assert choice.logprobs and choice.logprobs.tokens and choice.logprobs.text_offset
    pairs = list(zip(choice.logprobs.tokens, choice.logprobs.text_offset, strict=True))
    whole = [(token, at) for token, at in pairs if token and "\ufffd" not in token]
    assert len(whole) > 8 and all(choice.text[at:].startswith(token) for token, at in whole)
    assert completion.usage and completion.usage.completion_tokens == 4


def test_a_prompt_is_only_read_where_nothing_is_to_be_answered(url: str) -> None:
    body = {"model": "demo", "prompt": ["hello there", "what is 2+2?"], "echo": True, "max_tokens": 0}
    found = answer(url, {**body, "logprobs": 0})
    assert [choice["text"] for choice in found["choices"]] == body["prompt"]
    assert found["usage"]["completion_tokens"] == 0
    told = found["choices"][0]["logprobs"]
    assert told["top_logprobs"] is None and all(logprob < 0 for logprob in told["token_logprobs"][1:])
    assert answer(url, body)["choices"][0]["logprobs"] is None


def test_a_stream_carries_the_same(url: str) -> None:
    body = {**HARNESS, "prompt": [f"{QUESTION}the answer is", "and what"], "max_tokens": 5, "logprobs": 2, "n": 2}
    whole = answer(url, body)["choices"]
    events = events_of(asked(url, PATH, {**body, "stream": True})[2])[:-1]
    for choice in whole:
        pieces = [event["choices"][0] for event in events if event["choices"][0]["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        for name in ("tokens", "token_logprobs", "text_offset"):
            parts = [each for piece in pieces if piece["logprobs"] for each in piece["logprobs"][name]]
            assert parts == choice["logprobs"][name]


def test_what_gives_nothing_or_is_no_switch_is_refused(url: str) -> None:
    for more, param in (
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -2, "echo": True}, "max_tokens"),
        ({"echo": 1}, "echo"),
    ):
        status, error = error_of(url, PATH, {"model": "demo", "prompt": "hi", **more})
        assert (status, error["param"]) == (400, param)


def test_tokens_that_are_not_in_the_text_take_no_place_in_it() -> None:
    """One before the text, a dropped blank, a character in three pieces; then what is answered."""
    places = Places("a \u4f60 b")
    tokens = ["<s>", "a", "\ufffd", "\ufffd", "\ufffd", "b"]
    assert [places.next(token, of_prompt=True) for token in tokens] == [0, 0, 1, 1, 1, 4]
    assert [places.next(token, of_prompt=False) for token in ("cd", "e")] == [5, 7]
