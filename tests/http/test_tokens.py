"""/tokenize and /detokenize, and answers that are gone on with, on the real demo model."""

import json
from pathlib import Path
from typing import Any

import pytest

from serving.text.prompt import Prompt
from serving.types import Message, TemplateOptions
from tests.servers import asked, error_of

CHAT = "/v1/chat/completions"
USER: Any = {"role": "user", "content": "what is 17+25?"}
BEGUN: Any = {"role": "assistant", "content": "17+25 is"}
BODY: Any = {"model": "demo", "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def prompt(exact_model: Path) -> Prompt:
    return Prompt.load(exact_model)


def told(url: str, path: str, body: Any) -> Any:
    status, _, content = asked(url, path, body)
    assert status == 200, content
    return json.loads(content)


def test_a_text_goes_there_and_back(url: str, prompt: Prompt) -> None:
    text = "h\u00e9llo <|im_start|> \U0001f30d"
    ids = prompt.text_ids(text, special=False).tolist()
    assert told(url, "/tokenize", {"content": text}) == {"count": len(ids), "max_model_len": 2048, "tokens": ids}
    assert told(url, "/tokenize", {"model": "demo", "prompt": text})["tokens"] == prompt.raw_ids(text, 2048).tolist()
    assert told(url, "/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"] == ids
    assert told(url, "/tokenize", {"content": ""})["count"] == 0
    assert told(url, "/detokenize", {"tokens": ids}) == {"prompt": text, "content": text}
    assert told(url, "/detokenize", {"tokens": []})["content"] == ""
    long = told(url, "/tokenize", {"content": text * 2000})  # longer than the window, which is what one wants to know
    assert long["count"] > long["max_model_len"]


def test_pieces_are_texts_or_the_bytes_of_one(url: str) -> None:
    text = "h\u00e9llo \U0001f30d"
    said = told(url, "/tokenize", {"content": text, "with_pieces": True, "return_token_strs": True})
    pieces = [token["piece"] for token in said["tokens"]]
    assert b"".join(bytes(piece) if isinstance(piece, list) else piece.encode() for piece in pieces) == text.encode()
    assert any(isinstance(piece, list) for piece in pieces) and said["tokens"][0]["id"] >= 0
    assert said["token_strs"][0] == pieces[0] and len(said["token_strs"]) == said["count"]


def test_a_conversation_is_encoded_as_it_is_asked_for(url: str, prompt: Prompt) -> None:
    said = [Message("user", USER["content"])]
    assert told(url, "/tokenize", {"messages": [USER]})["tokens"] == prompt.conversation_ids(said).tolist()
    closed = prompt.conversation_ids(said, TemplateOptions(ending="nothing")).tolist()
    assert told(url, "/tokenize", {"messages": [USER], "add_generation_prompt": False})["tokens"] == closed
    usage = told(url, CHAT, {**BODY, "messages": [USER, BEGUN]})["usage"]
    assert told(url, "/tokenize", {"messages": [USER, BEGUN]})["count"] == usage["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [USER]}, "messages"),
        ("/tokenize", {"prompt": "a", "parse_special": False}, "parse_special"),
        ("/tokenize", {"messages": [USER], "continue_final_message": True}, "continue_final_message"),
        ("/detokenize", {"tokens": [10**6]}, None),
        ("/detokenize", {"tokens": [-1]}, None),
        ("/detokenize", {"tokens": ["a"]}, "tokens.0"),
    ],
)
def test_what_is_wrong_is_named(url: str, path: str, body: Any, param: str | None) -> None:
    status, error = error_of(url, path, body)
    assert (status, error["param"]) == (400, param)
    assert (param or "1000000 -1").split(".")[0] in error["message"] or "names token" in error["message"]


def test_another_model_is_not_here(url: str) -> None:
    assert error_of(url, "/tokenize", {"model": "gpt", "prompt": "a"})[0] == 404


def answer(url: str, **change: Any) -> tuple[str, int]:
    """Its text, and how many tokens were read for it."""
    said = told(url, CHAT, {**BODY, **change})
    return said["choices"][0]["message"]["content"], said["usage"]["prompt_tokens"]


def test_an_answer_is_gone_on_with(url: str, prompt: Prompt) -> None:
    whole, read = answer(url, messages=[USER])
    begun = {"role": "assistant", "content": whole[:9]}
    vllm = {"continue_final_message": True, "add_generation_prompt": False}
    rest, with_begun = answer(url, messages=[USER, begun], **vllm)
    assert with_begun == read + prompt.text_ids(whole[:9], special=False).size
    assert (whole[:9] + rest).startswith(whole)
    for same in ({}, {"continue_final_message": True}):
        assert answer(url, messages=[USER, begun], **same) == (rest, with_begun)
    for anew in ({"continue_final_message": False}, {"add_generation_prompt": True}):
        assert answer(url, messages=[USER, begun], **anew)[1] > with_begun


@pytest.mark.parametrize(
    ("messages", "change"),
    [
        ([USER, BEGUN], {"continue_final_message": True, "add_generation_prompt": True}),
        ([USER], {"continue_final_message": True}),
    ],
)
def test_what_cannot_be_gone_on_with_says_why(url: str, messages: Any, change: Any) -> None:
    status, error = error_of(url, CHAT, {**BODY, "messages": messages, **change})
    assert (status, error["param"]) == (400, "continue_final_message")
    assert "continue_final_message" in error["message"]
