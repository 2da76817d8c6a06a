"""What a stream looks like on the wire, and what becomes of the answer of a client that goes away."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from openai import OpenAI

import serving.http.replies
from serving.engine.process import EngineProcess
from serving.engine.wire import Batch, Wanted
from serving.errors import Busy, EngineStopped
from serving.http.access import Places
from serving.http.answers import AnswerEngine
from serving.types import Chunk, EngineStatus, FinishReason, Kind, Message, SamplingOptions, TemplateOptions, TokenIds
from tests.page.test_ui import Speaker
from tests.servers import api_served, asked, events_of

CHAT = "/v1/chat/completions"
BODY: Any = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": True}


class Puppet(Speaker):
    """An engine whose answers the test makes: it gets the sink of each, and sees when one is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: list[Callable[[Batch], None]] = []
        self.clients: list[str] = []
        self.asked_for, self.cancelled_ones = threading.Event(), threading.Event()
        self.immediately: list[Batch] = []

    def tokens(
        self, messages: Sequence[Message], options: SamplingOptions, template: TemplateOptions | None = None
    ) -> tuple[TokenIds, int]:
        return cast(TokenIds, [1, 2, 3]), 0

    def start(
        self, wanted: Wanted, sink: Callable[[int, Batch], None], client: str = "", session: str = ""
    ) -> Callable[[], None]:
        self.clients.append(client)
        for index, _ in enumerate(wanted):
            self.sinks.append(partial(sink, index))
            for batch in self.immediately:
                sink(index, batch)
        self.asked_for.set()
        return self.cancelled_ones.set

    def status(self) -> EngineStatus:
        return EngineStatus(0, 0, 0, 0)

    prompt = None
    places = 1000


def piece(text: str, finish: FinishReason | None = None, kind: Kind = "answer") -> Chunk:
    return Chunk(text, 3, 0, 3, 1, finish_reason=finish, kind=kind)


READING = Chunk("", 1000, 0, 64)


@pytest.fixture
def puppet() -> Puppet:
    return Puppet()


@pytest.fixture
def url(puppet: Puppet) -> Iterator[str]:
    with api_served(cast(AnswerEngine, puppet)) as url:
        yield url


def opened(url: str, body: Any = BODY) -> socket.socket:
    """A request that has been sent, and whose answer nobody has read."""
    content = json.dumps(body).encode()
    connection = socket.create_connection(cast(tuple[str, int], (urlsplit(url).hostname, urlsplit(url).port)))
    head = f"POST {CHAT} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\ncontent-length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    connection.settimeout(10)
    return connection


def read_until(connection: socket.socket, text: bytes) -> bytes:
    content = b""
    while text not in content:
        content += connection.recv(65536)
    return content


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_while_it_waits_ends_its_answer(puppet: Puppet, url: str, stream: bool) -> None:
    connection = opened(url, {**BODY, "stream": stream})
    assert puppet.asked_for.wait(5)
    assert not puppet.cancelled_ones.wait(0.1)
    connection.close()
    assert puppet.cancelled_ones.wait(0.5)


@pytest.mark.parametrize("batch", [[READING], [piece("so")]])
def test_and_while_its_prompt_is_read_or_its_answer_made(puppet: Puppet, url: str, batch: list[Chunk]) -> None:
    puppet.immediately = [batch]
    connection = opened(url)
    read_until(connection, b"text/event-stream")
    assert not puppet.cancelled_ones.wait(0.1)
    connection.close()
    assert puppet.cancelled_ones.wait(0.5)


def test_an_answer_that_has_ended_is_not_cancelled(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("so", "stop")]]
    assert events_of(asked(url, CHAT, BODY)[2])[-1] == "[DONE]"
    assert not puppet.cancelled_ones.wait(0.1)


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_the_lengths_of_padded_events_tell_little(puppet: Puppet, url: str, path: str) -> None:
    puppet.immediately = [[piece("a")], [piece("b" * 150)], [piece("c" * 400)], [piece("d", "stop")]]
    said = BODY if path == CHAT else {"model": "demo", "input": "hi", "stream": True}

    def pieces(padded: bool) -> dict[str, int]:
        content = asked(url, path, {**said, "stream_options": {"include_obfuscation": padded}})[2]
        lines = [line.removeprefix(b"data: ") for line in content.splitlines() if b'"obfuscation"' in line]
        return {json.dumps(json.loads(line).get("delta") or json.loads(line)["choices"]): len(line) for line in lines}

    assert not pieces(padded=False)
    lengths = [
        size for text, size in pieces(padded=True).items() if any(each in text for each in ('"a"', "bb", "cc", '"d"'))
    ]
    assert len(lengths) == 4 and not any(size % serving.http.replies.PADDED_BYTES for size in lengths)
    assert lengths[0] == lengths[3] < lengths[1] < lengths[2]


def test_silence_has_a_heartbeat(puppet: Puppet, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.replies, "HEARTBEAT_SECONDS", 0.1)
    puppet.immediately = [[READING]]
    connection = opened(url)
    read_until(connection, b": still at it\n\n")
    puppet.sinks[0]([READING])  # it reads on, which says nothing to a client
    read_until(connection, b": still at it\n\n")
    puppet.sinks[0]([piece("so")])
    assert b'"content":"so"' in read_until(connection, b"so")
    puppet.sinks[0]([piece("", "stop")])
    read_until(connection, b"[DONE]")
    connection.close()


def test_a_queue_that_is_slow_has_one_too(puppet: Puppet, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.replies, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(serving.http.replies, "GRACE_SECONDS", 0.1)
    connection = opened(url)
    read_until(connection, b": still at it\n\n")
    connection.close()


def test_the_first_token_does_not_wait_for_the_second(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("so")]]
    connection = opened(url)
    first = read_until(connection, b'"content":"so"')
    assert b'"role":"assistant"' in first
    connection.close()


def test_an_error_has_its_status_before_the_stream_and_is_an_event_in_it(puppet: Puppet, url: str) -> None:
    puppet.immediately = [Busy("busy.", 2.5)]
    status, headers, _ = asked(url, CHAT, BODY)
    assert (status, headers["retry-after"]) == (503, "3")
    puppet.immediately = [[piece("so")], EngineStopped("the engine ended.")]
    status, _, content = asked(url, CHAT, BODY)
    *_, last = events_of(content)
    assert status == 200 and last["error"]["message"] == "the engine ended." and last["error"]["code"]
    assert not puppet.cancelled_ones.is_set()


def test_one_client_may_have_so_many_answers(puppet: Puppet) -> None:
    with api_served(cast(AnswerEngine, puppet), places=Places(2)) as url:
        connection = opened(url)
        assert puppet.asked_for.wait(5)
        status, headers, content = asked(url, CHAT, {**BODY, "n": 2})
        error = json.loads(content)["error"]
        assert (status, error["type"], error["code"]) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert headers["retry-after"] == "1"
        connection.close()
        assert puppet.cancelled_ones.wait(1)
        puppet.immediately = [[piece("so", "stop")]]
        assert asked(url, CHAT, {**BODY, "n": 2})[0] == 200
        assert set(puppet.clients) == {"127.0.0.1"}  # by which the engine shares out its slots


def test_one_of_several_that_fails_ends_the_others(puppet: Puppet, url: str) -> None:
    connection = opened(url, {**BODY, "stream": False, "n": 2})
    while len(puppet.sinks) < 2:
        time.sleep(0.01)
    puppet.sinks[1](EngineStopped("the engine ended."))
    assert b"503" in read_until(connection, b"\r\n")
    assert puppet.cancelled_ones.wait(1)
    connection.close()


def test_reasoning_has_a_field_of_its_own(puppet: Puppet, url: str) -> None:
    puppet.immediately = [[piece("hm", kind="reasoning"), piece("so\n"), piece("\n\u2028data: x \U0001f98a", "stop")]]
    events = events_of(asked(url, CHAT, BODY)[2])
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    assert deltas == [
        {"role": "assistant", "reasoning_content": "hm"}, {"content": "so\n\n\u2028data: x \U0001f98a"}, {},
    ]  # fmt: skip
    message = json.loads(asked(url, CHAT, {**BODY, "stream": False})[2])["choices"][0]["message"]
    assert message["reasoning_content"] == "hm" and message["content"] == "so\n\n\u2028data: x \U0001f98a"


def test_a_proxy_that_holds_everything_back_changes_nothing(puppet: Puppet, url: str) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, headers, content = asked(url, self.path, body)
            self.send_response(status)
            self.send_header("content-type", headers["content-type"])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    puppet.immediately = [[piece("so ")], [READING], [piece("on"), piece(".", "stop")]]
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        with OpenAI(base_url=f"http://127.0.0.1:{proxy.server_port}/v1", api_key="none", max_retries=0) as client:
            texts = [chunk.choices[0].delta.content for chunk in client.chat.completions.create(**BODY)]
        proxy.shutdown()
    assert texts == ["so ", "on.", None]


def test_the_server_ends_while_an_answer_is_made(puppet: Puppet) -> None:
    began = time.monotonic()
    with api_served(cast(AnswerEngine, puppet)) as url:
        connection = opened(url)
        assert puppet.asked_for.wait(5)
    assert time.monotonic() - began < 5
    assert puppet.cancelled_ones.wait(1)
    puppet.sinks[0]([piece("late")])  # the engine may not have heard yet
    connection.close()


def test_two_hundred_clients_that_go_away_leave_a_whole_engine(exact_model: Path) -> None:
    """They go while they wait, while their prompt is read, and while their answer is made."""
    body = {**BODY, "messages": [{"role": "user", "content": "tell me a story about a fox " * 8}], "temperature": 2}
    final = {**BODY, "stream": False, "max_tokens": 60, "temperature": 0}
    with EngineProcess.load(exact_model) as engine, api_served(engine) as url:
        choices = json.loads(asked(url, CHAT, final)[2])["choices"]

        def fastest() -> float:
            seconds = []
            for _ in range(5):
                began = time.perf_counter()
                assert json.loads(asked(url, CHAT, final)[2])["choices"] == choices
                seconds.append(time.perf_counter() - began)
            return min(seconds)

        alone = fastest()
        for n in range(200):
            connection = opened(url, body)
            if n % 3:
                read_until(connection, b"text/event-stream" if n % 3 == 1 else b'"content"')
            connection.close()
        deadline = time.monotonic() + 30
        while engine.status().running + engine.status().waiting:
            assert time.monotonic() < deadline
        assert fastest() < 2 * alone
