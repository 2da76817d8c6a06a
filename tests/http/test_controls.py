"""The controls that vLLM and llama.cpp have, over a socket, on the real demo model."""

import json
import re
from typing import Any

import pytest

from serving.engine.process import EngineProcess
from tests.servers import asked, error_of

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES: Any = [{"role": "user", "content": "what is 17+25?"}]
CHAT_BODY: Any = {"model": "demo", "messages": MESSAGES, "temperature": 0, "max_tokens": 40}
TEXT_BODY: Any = {"model": "demo", "prompt": "once upon a time", "temperature": 0, "max_tokens": 40}
SCHEMA: Any = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}
BOTH = pytest.mark.parametrize(("path", "body"), [(CHAT, CHAT_BODY), (TEXT, TEXT_BODY)])


def answer(url: str, path: str, body: dict[str, Any]) -> tuple[str, str, int]:
    """Text, finish reason and number of tokens."""
    status, _, content = asked(url, path, body)
    assert status == 200, content
    said = json.loads(content)
    choice = said["choices"][0]
    text = choice["message"]["content"] if path == CHAT else choice["text"]
    return text, choice["finish_reason"], said["usage"]["completion_tokens"]


@BOTH
def test_an_answer_that_does_not_end_by_itself_has_all_its_tokens(url: str, path: str, body: Any) -> None:
    assert answer(url, path, {**body, "ignore_eos": True})[1:] == ("length", 40)
    short = answer(url, path, {**CHAT_BODY, **body})[2] if path == CHAT else 40
    assert answer(url, path, {**body, "min_tokens": short, "stop": ["a", "e", "1", "2"]})[2] >= short


def test_ends_that_are_asked_for(url: str, worker: EngineProcess) -> None:
    whole = answer(url, TEXT, TEXT_BODY)[0]
    word = whole.split()[3]
    cut, finish, _ = answer(url, TEXT, {**TEXT_BODY, "stop": word, "include_stop_str_in_output": True})
    assert (cut, finish) == (whole[: whole.index(word) + len(word)], "stop")
    assert word not in answer(url, TEXT, {**TEXT_BODY, "bad_words": [word]})[0]
    logprobs = json.loads(asked(url, TEXT, {**TEXT_BODY, "logprobs": 0})[2])["choices"][0]["logprobs"]
    texts = list(worker.prompt.spelling.texts)
    token, place = texts.index(logprobs["tokens"][5]), logprobs["tokens"].index(logprobs["tokens"][5])
    ended = answer(url, TEXT, {**TEXT_BODY, "stop_token_ids": [token]})
    assert ended[1:] == ("stop", place + 1) and ended[0] == "".join(logprobs["tokens"][:place])


@BOTH
@pytest.mark.parametrize(
    ("field", "wanted", "pattern"),
    [
        ("guided_choice", ["yes", 'no "never"', "n\u00f3"], 'yes|no "never"|n\u00f3'),
        ("guided_regex", "[a-c]{3}[0-9]", "[a-c]{3}[0-9]"),
        ("guided_json", SCHEMA, r'\{"n": [12]\}'),
        ("guided_json", json.dumps(SCHEMA), r'\{"n": [12]\}'),
        ("json_schema", SCHEMA, r'\{"n": [12]\}'),
        ("guided_grammar", 'root ::= "a" b?\nb ::= [0-9]', "a[0-9]?"),
        ("guided_grammar", "start: /a+b/", "a+b"),
        ("grammar", 'root ::= "a" | "b"', "a|b"),
        ("structured_outputs", {"choice": ["one", "two"]}, "one|two"),
        ("structured_outputs", {"json": SCHEMA}, r'\{"n": [12]\}'),
        ("structured_outputs", {"regex": "x+y"}, "x+y"),
        ("structured_outputs", {"grammar": "start: /a+b/"}, "a+b"),
    ],
)
def test_the_answer_is_what_is_asked_for(url: str, path: str, body: Any, field: str, wanted: Any, pattern: str) -> None:
    text, finish, _ = answer(url, path, {**body, field: wanted})
    assert re.fullmatch(pattern, text) or (finish == "length" and len(text) > 30)


def test_any_json_object_is_one_of_the_outputs(url: str) -> None:
    body = {**CHAT_BODY, "max_tokens": 200, "temperature": 1, "seed": 3, "structured_outputs": {"json_object": True}}
    text, finish, _ = answer(url, CHAT, body)
    assert finish == "length" or isinstance(json.loads(text), dict)
    assert text.startswith("{")


@BOTH
@pytest.mark.parametrize(
    ("change", "param", "message"),
    [
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice", "guided_regex and guided_choice both say"),
        ({"guided_regex": "a", "structured_outputs": {"regex": "b"}}, "structured_outputs.regex", "send one"),
        ({"structured_outputs": {"whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern", "None"),
        ({"guided_choice": []}, "guided_choice", "at least 1 item"),
        ({"guided_regex": "("}, None, "this regex cannot be used"),
        ({"guided_grammar": 'root ::= "a" nothing'}, None, "this gbnf cannot be used: Rule 'nothing' not found"),
        ({"guided_json": "{"}, None, "this json_schema is not JSON"),
        ({"stop_token_ids": [10**6]}, None, "stop_token_ids names token 1000000"),
        ({"stop_token_ids": [-1]}, "stop_token_ids.0", "greater than or equal to 0"),
        ({"min_tokens": 41}, None, "min_tokens must be at most max_tokens (40)"),
        ({"min_tokens": -1}, "min_tokens", "greater than or equal to 0"),
        ({"bad_words": [""]}, "bad_words.0", "at least 1 character"),
        ({"ignore_eos": True, "guided_regex": "a"}, None, "ignore_eos must be false where a grammar ends the answer"),
    ],
)
def test_what_cannot_be_is_refused(
    url: str, path: str, body: Any, change: Any, param: str | None, message: str
) -> None:
    status, error = error_of(url, path, {**body, **change})
    assert (status, error["param"]) == (400, param), error
    assert message in error["message"]


def test_a_response_is_chosen_as_a_chats_answer_is(url: str) -> None:
    common = {"model": "demo", "temperature": 1, "seed": 5, "top_k": 20, "stop": ["e"], "logit_bias": {"7": -5}}
    whole = json.loads(asked(url, "/v1/responses", {**common, "input": MESSAGES, "max_output_tokens": 40})[2])
    text = answer(url, CHAT, {**common, "messages": MESSAGES, "max_tokens": 40})[0]
    assert whole["output"][0]["content"][0]["text"] == text and "e" not in text
    chosen = {"model": "demo", "input": "hi", "guided_choice": ["left", "right"]}
    said = json.loads(asked(url, "/v1/responses", chosen)[2])["output"][0]["content"][0]["text"]
    assert said in ("left", "right")


def test_what_is_switched_off_asks_for_nothing(url: str) -> None:
    off = {
        "dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1, "xtc_probability": 0,
        "dry_sequence_breakers": ["\n"], "xtc_threshold": 0.1, "mirostat": 0, "mirostat_tau": 5, "mirostat_eta": 0.1,
        "dynatemp_range": 0, "dynatemp_exponent": 1, "functions": None, "use_beam_search": None, "bad_words": [],
        "guided_decoding_backend": "auto", "stop_token_ids": [], "ignore_eos": False, "min_tokens": 0, "stop": [],
        "repetition_penalty": 1, "min_p": 0, "top_k": 0, "presence_penalty": 0, "frequency_penalty": 0,
    }  # fmt: skip
    assert answer(url, CHAT, {**CHAT_BODY, **off}) == answer(url, CHAT, CHAT_BODY)
    status, error = error_of(url, CHAT, {**CHAT_BODY, **off, "dry_multiplier": 0.8})
    assert (status, error["param"]) == (400, "dry_multiplier")
