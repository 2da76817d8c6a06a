"""Bodies that nobody means well with: each is answered, and the next request too."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from serving.http.access import MOST_BYTES
from serving.http.answers import AnswerEngine
from serving.http.document import SUMMARIES
from serving.http.problems import Problem
from serving.http.requests.chat import ChatRequest
from serving.http.requests.endpoints import REQUESTS
from serving.http.requests.wire import MOST_MESSAGES, MOST_VALUES, parse
from serving.text.prompt import Prompt
from tests.http.test_stream import Puppet, piece
from tests.servers import api_served, asked

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
SECONDS = 10


class Answering(Puppet):
    """A puppet with a real tokenizer and template, that answers at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.immediately = [[piece("so", "stop")]]
        self.real = Prompt.load(folder)
        self.prompt = cast(None, self.real)

    def tokens(self, messages: Any, options: Any, template: Any = None) -> Any:
        return self.real.tokens(messages, self.context_length, template)


@pytest.fixture(scope="module")
def url(demo_model: Path) -> Iterator[str]:
    with api_served(cast(AnswerEngine, Answering(demo_model))) as url:
        yield url


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def with_messages(messages: bytes) -> bytes:
    return b'{"model": "demo", "messages": ' + messages + b"}"


USER = b'{"role": "user", "content": "hi"}'
BODIES = {
    "nothing": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "not UTF-8 in a message": with_messages(b'[{"role": "user", "content": "\xc3\x28"}]'),
    "half a surrogate pair": with_messages(b'[{"role": "user", "content": "\\ud800"}]'),
    "deep": nested(100_000),
    "deep in a schema": b'{"model": "demo", "messages": [' + USER + b'], "response_format": {"type": "json_schema", '
    b'"json_schema": {"name": "n", "schema": {"a": ' + nested(5000) + b"}}}}",
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "NaN": b'{"model": "demo", "messages": [' + USER + b'], "temperature": NaN}',
    "NaN in a schema": b'{"model": "demo", "messages": [' + USER + b'], "response_format": {"type": "json_schema", '
    b'"json_schema": {"name": "n", "schema": {"maximum": NaN}}}}',
    "infinity": b'{"model": "demo", "messages": [' + USER + b'], "temperature": 1e999}',
    "minus infinity": b'{"model": "demo", "messages": [' + USER + b'], "top_p": -Infinity}',
    "a huge number": b'{"model": "demo", "messages": [' + USER + b'], "seed": ' + b"9" * 5000 + b"}",
    "a huge number of digits": b'{"model": "demo", "messages": [' + USER + b'], "max_tokens": 1' + b"0" * 10_000 + b"}",
    "a list": b"[]",
    "null": b"null",
    "a text": b'"x"',
    "a null character": with_messages(b'[{"role": "\\u0000", "content": "hi"}]'),
    "many fields": json.dumps({f"f{n}": n for n in range(100_000)}).encode(),
    "many faults": with_messages(b"[" + b",".join([b"1"] * 100_000) + b"]"),
    "a long name": b'{"' + b"x" * 1_000_000 + b'": 1}',
}  # fmt: skip


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("name", BODIES)
def test_it_is_refused_in_the_shape_that_clients_know(url: str, path: str, name: str) -> None:
    began = time.monotonic()
    status, _, content = asked(url, path, BODIES[name])
    assert time.monotonic() - began < SECONDS
    error = json.loads(content)["error"]
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["message"] and len(content) < 2000
    if path == CHAT:
        assert asked(url, path, GOOD)[0] == 200


@pytest.mark.parametrize("size", [10_000_000, MOST_BYTES + 1])
def test_ten_megabytes(url: str, size: int) -> None:
    status, _, content = asked(url, CHAT, with_messages(b'[{"role": "user", "content": "' + b"x" * size + b'"}]'))
    assert (status, json.loads(content)["error"]["code"]) == (413, "body_too_large")


def test_nearly_ten_thousand_messages(url: str) -> None:
    turns = [{"role": role, "content": "hi"} for _ in range(4999) for role in ("user", "assistant")]
    began = time.monotonic()
    status, _, content = asked(url, CHAT, {**GOOD, "messages": [*turns, *GOOD["messages"]]})
    assert time.monotonic() - began < SECONDS
    assert (status, json.loads(content)["error"]["code"]) == (400, "context_length_exceeded")
    assert asked(url, CHAT, GOOD)[0] == 200


def test_a_long_prompt_leaves_the_server_answering(url: str) -> None:
    status, _, content = asked(url, CHAT, {**GOOD, "messages": [{"role": "user", "content": "word " * 500_000}]})
    assert (status, json.loads(content)["error"]["code"]) == (400, "context_length_exceeded")


def test_schemathesis_finds_no_server_error_and_no_hang(url: str, tmp_path: Path) -> None:
    # Not positive_data_acceptance: no schema says which variables the model's template knows of.
    checks = (
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
        "negative_data_rejection,unsupported_method"
    )
    command = [
        "schemathesis", "run", f"{url}/openapi.json", "--checks", checks, "--phases", "fuzzing", "--seed", "1",
        "--max-examples", "20", "--request-timeout", str(SECONDS), "--generation-database", "none", "--no-color",
    ]  # fmt: skip
    scripts = str(Path(sys.executable).parent)
    result = subprocess.run(
        command,
        cwd=tmp_path,  # it keeps what it finds
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
    )
    assert result.returncode == 0, result.stdout
    assert f"Tested: {len(SUMMARIES)}" in result.stdout


MANY = 10_000
MESSAGE = {"role": "user", "content": "hi"}
FAULTY: dict[str, tuple[str, dict[str, Any]]] = {
    "messages": (CHAT, {"messages": [1] * MANY}),
    "empty messages": (CHAT, {"messages": [{}] * MANY}),
    "fields of a message": (CHAT, {"messages": [{**MESSAGE, **{f"f{n}": 1 for n in range(MANY)}}]}),
    "parts": (CHAT, {"messages": [{"role": "user", "content": [1] * MANY}]}),
    "calls": (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{}] * MANY}]}),
    "tools": (CHAT, {"messages": [MESSAGE], "tools": [{}] * 128}),
    "unknown fields": (CHAT, {"messages": [MESSAGE], **{f"f{n}": 1 for n in range(MANY)}}),
    "biases": (CHAT, {"messages": [MESSAGE], "logit_bias": {str(n): "x" for n in range(MANY)}}),
    "stop strings": (CHAT, {"messages": [MESSAGE], "stop": [1] * MANY}),
    "prompts": ("/v1/completions", {"prompt": [None] * MANY}),
    "mixed prompts": ("/v1/completions", {"prompt": [1, "x"] * MANY}),
    "prompts of tokens": ("/v1/completions", {"prompt": [["x"] * MANY] * 10}),
    "items": ("/v1/responses", {"input": [1] * MANY}),
    "parts of an item": ("/v1/responses", {"input": [{"role": "user", "content": [1] * MANY}]}),
    "metadata": ("/v1/responses", {"input": "hi", "metadata": {str(n): 1 for n in range(MANY)}}),
}


@pytest.mark.parametrize("case", FAULTY)
def test_of_thousands_of_faults_only_the_first_few_are_looked_for(case: str) -> None:
    """Each one that pydantic finds costs more than a thousand good values."""
    path, fields = FAULTY[case]
    with pytest.raises(ValidationError) as error:
        REQUESTS[path].model_validate({"model": "demo", **fields})
    assert error.value.error_count() <= 130  # of 128 tools, one each


def test_a_body_of_more_values_than_any_request_has_is_refused_before_it_is_read() -> None:
    with pytest.raises(Problem, match="more than 300,000 values"):
        parse(REQUESTS[CHAT], with_messages(b"[" + b"[]," * MOST_VALUES + b"[]]"))


CONVERSATIONS = {CHAT: "messages", "/v1/messages": "messages", "/v1/responses": "input", "/tokenize": "messages"}


@pytest.mark.parametrize("path", CONVERSATIONS)
def test_more_messages_than_any_window_has_room_for_are_refused_before_one_of_them_is_looked_at(path: str) -> None:
    fields = {"model": "demo", CONVERSATIONS[path]: [MESSAGE] * MOST_MESSAGES}
    if path == "/v1/messages":
        fields["max_tokens"] = 1
    body = json.dumps(fields).encode()
    assert parse(REQUESTS[path], body)
    with pytest.raises(Problem, match="should have at most 10,000 messages"):
        parse(REQUESTS[path], body.replace(b"[", b"[" + b"0, " * MANY, 1))


@pytest.mark.parametrize(
    "text", [b"," * MOST_VALUES, b"[{" * MOST_VALUES, b'\\",' * MOST_VALUES, b"\\\\,[" * MOST_VALUES]
)
def test_a_text_is_one_value_whatever_stands_in_it(text: bytes) -> None:
    body = with_messages(b'[{"role": "user", "content": "' + text + b'"}]')
    (message,) = parse(ChatRequest, body).messages
    assert len(message.content or "") >= MOST_VALUES


def test_a_client_that_goes_in_the_middle_of_its_body_is_no_fault(url: str, caplog: pytest.LogCaptureFixture) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n".encode()
    for _ in range(3):
        with socket.create_connection(
            (str(urlsplit(url).hostname), urlsplit(url).port or 0), timeout=SECONDS
        ) as client:
            client.sendall(head + b'{"model"')
    assert asked(url, CHAT, GOOD)[0] == 200
    assert not caplog.records
