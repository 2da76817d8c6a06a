"""What a connection may cost: time, memory and places, whoever opens it and whatever is sent on it."""

import asyncio
import contextlib
import gc
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

import serving.http.connections
import serving.http.crowd
from serving.errors import InvalidRequest
from serving.http.access import MOST_BYTES, Access
from serving.http.addresses import networks_in
from serving.http.crowd import Crowd, Limits, Notes, limits_for
from serving.http.server import Server, make_app
from tests.servers import asked, ended
from tests.waiting import eventually as waited

eventually = partial(waited, seconds=30)

GET = b"GET /fast HTTP/1.1\r\nhost: localhost\r\n\r\n"
QUICK = Limits(head=0.5, body=0.5, body_rate=1 << 20, idle=0.5, lingering=0.5, stalled=0.5)


class Endless:
    """Answers of every kind, and which of them are still being made."""

    def __init__(self) -> None:
        self.making = 0
        self.go = threading.Event()

    def has_ended(self) -> bool:
        """Whether no stream is being made. A generator that was left ends when it is collected."""
        gc.collect()
        return self.making == 0

    def routes(self) -> list[Route]:
        return [
            Route("/fast", self.fast, methods=["GET", "POST"]), Route("/slow", self.slow), Route("/large", self.large),
            Route("/stream", self.stream), Route("/fault", self.fault), Route("/blocked", self.blocked),
        ]  # fmt: skip

    async def fast(self, request: Request) -> Response:
        return JSONResponse({"bytes": len(await request.body())})

    async def slow(self, _: Request) -> Response:
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        return PlainTextResponse("at last")

    async def large(self, _: Request) -> Response:
        return PlainTextResponse("x" * (32 << 20))

    async def fault(self, _: Request) -> Response:
        raise RuntimeError("the zebra's name is Quagmire")

    def blocked(self, _: Request) -> Response:
        self.go.wait()
        return PlainTextResponse("")

    async def stream(self, _: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            self.making += 1
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                self.making -= 1

        return StreamingResponse(pieces())


@contextlib.contextmanager
def serving_with(limits: Limits | None = None, access: Access | None = None) -> Iterator[tuple[Endless, Server]]:
    endless = Endless()
    server = Server(make_app(endless.routes(), (access or Access()).middleware()), "127.0.0.1", 0, limits)
    try:
        yield endless, server
    finally:
        endless.go.set()
        server.close()


@pytest.fixture(autouse=True)
def swept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.connections, "SWEEP_SECONDS", 0.05)


OPENED: list[socket.socket] = []


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    yield
    for connection in OPENED:
        connection.close()
    OPENED.clear()
    gc.collect()  # what is left open shows here, and not in the middle of another test


def connected(server: Server, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    OPENED.append(connection)
    connection.sendall(sent)
    return connection


def all_of(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection; it does, or this fails."""
    content = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            content += piece
    return content


def ends(connection: socket.socket, sent: bytes) -> bool:
    """Whether the server ends a connection on which a byte comes now and then."""
    connection.settimeout(0.05)
    for n in range(600):
        try:
            connection.sendall(sent[n % len(sent) : n % len(sent) + 1])
            if connection.recv(65536) == b"":
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def notes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_who_sends_nothing_or_a_byte_at_a_time_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with serving_with(QUICK) as (_, server):
        post = b"POST /fast HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n"
        assert all_of(connected(server)) == b""  # nothing at all
        assert ends(connected(server), b"GET /fast HTTP/1.1\r\nhost: localhost\r\n" + b"x-a: b\r\n" * 100)
        assert ends(connected(server, post), b"x")
        chunked = post.replace(b"content-length: 100000", b"transfer-encoding: chunked")
        assert ends(connected(server, chunked), b"1\r\nx\r\n")
        keeping = connected(server, GET)
        assert b"200" in keeping.recv(65536)
        assert ends(keeping, GET[:20])  # the second request on a connection
        assert asked(server.url, "/fast")[0] == 200
    said = notes(caplog)
    assert len(said) == 2 and "no request came" in said[0] and "rest of a body" in said[1]


def test_a_connection_that_is_kept_is_let_go_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with serving_with(QUICK) as (_, server):
        content = all_of(connected(server, GET))
        assert content.startswith(b"HTTP/1.1 200")
    assert not notes(caplog)


def test_the_defaults_are_longer_than_clients_keep_connections() -> None:
    limits = Limits()
    assert limits.idle > 60 and limits.head <= 30 and limits.stalled <= 60


def test_the_rest_of_a_body_that_was_refused_is_not_waited_for() -> None:
    with serving_with(QUICK) as (_, server):
        head = f"POST /fast HTTP/1.1\r\nhost: localhost\r\ncontent-length: {MOST_BYTES + 1}\r\n\r\n"
        connection = connected(server, head.encode())
        assert b"413" in connection.recv(12)
        assert ends(connection, b"x")


def test_who_sends_more_than_is_taken_reads_why() -> None:
    with serving_with() as (_, server):
        for path, length in ((b"/fast", MOST_BYTES + 1), (b"/login", 7 << 20)):
            for more in (b"", b"connection: close\r\n"):
                head = b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n%s\r\n" % (path, length, more)
                connection = connected(server, head + b" " * length)
                assert connection.recv(12).endswith(b"413"), (path, more)
        endless_body = connected(server, POST + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(100):
                endless_body.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")


def test_who_does_not_read_is_not_written_to_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    with serving_with(QUICK) as (endless, server):
        connected(server, b"GET /stream HTTP/1.1\r\nhost: localhost\r\n\r\n")
        large = [
            connected(server, b"GET /large HTTP/1.1\r\nhost: localhost\r\n" + more + b"\r\n")
            for more in (b"", b"connection: close\r\n")
        ]
        eventually(lambda: endless.making == 1)
        eventually(endless.has_ended)
        assert all(len(all_of(connection)) < 32 << 20 for connection in large)
    assert [note for note in notes(caplog) if "read nothing" in note]


def test_who_reads_slowly_gets_it_all() -> None:
    with serving_with(Limits(stalled=0.5, progress=1 << 10)) as (_, server):
        connection = connected(server, b"GET /large HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        size = 0
        while piece := connection.recv(1 << 20):
            size += len(piece)
            if size < 20 << 20:
                time.sleep(0.02)
        connection.close()
        assert size > 32 << 20


def test_idle_connections_of_one_address_give_way_to_its_next(caplog: pytest.LogCaptureFixture) -> None:
    with serving_with(Limits(connections=100, from_address=5)) as (_, server):
        crowd = [connected(server, GET[:10] if n % 2 else b"") for n in range(60)]
        for _ in range(5):
            assert asked(server.url, "/fast")[0] == 200
        eventually(lambda: len(server._server.server_state.connections) <= 5)
        assert sum(all_of(connection) == b"" for connection in crowd[:50]) == 50
    assert len(notes(caplog)) == 1 and "more than 5 connections from 127.0.0.1" in notes(caplog)[0]


def test_those_that_are_being_answered_do_not(caplog: pytest.LogCaptureFixture) -> None:
    with serving_with(Limits(connections=100, from_address=5)) as (endless, server):
        busy = [connected(server, GET.replace(b"/fast", b"/slow")) for _ in range(5)]
        eventually(lambda: len(server._server.server_state.tasks) == 5)
        refused = all_of(connected(server, GET))
        assert refused.startswith(b"HTTP/1.1 503") and b'"busy"' in refused and b"nosniff" in refused
        endless.go.set()
        assert all(b"200" in connection.recv(65536) for connection in busy)
        assert asked(server.url, "/fast")[0] == 200
    assert len(notes(caplog)) == 1


def test_a_trusted_proxy_may_have_all_connections_and_no_more() -> None:
    limits = Limits(connections=20, from_address=2, proxies=networks_in(["127.0.0.0/8"], "-"))
    with serving_with(limits) as (endless, server):
        busy = [connected(server, GET.replace(b"/fast", b"/slow")) for _ in range(20)]
        eventually(lambda: len(server._server.server_state.tasks) == 20)
        assert all_of(connected(server, GET)).startswith(b"HTTP/1.1 503")
        endless.go.set()
        assert all(b"200" in connection.recv(65536) for connection in busy)


class Counted:
    def __init__(self) -> None:
        self.ended = 0

    def make_room(self) -> None:
        self.ended += 1

    def sweep(self, now: float) -> None:
        pass


def test_a_crowd_counts_by_address_and_by_network_and_forgets_who_has_left() -> None:
    crowd = Crowd(Limits(connections=6, from_address=2))
    neighbours = [Counted() for _ in range(3)]
    for n, member in enumerate(neighbours):
        assert crowd.enter(member, f"2001:db8::{n}")
    assert [member.ended for member in neighbours] == [1, 0, 0]
    crowd.set_idle(neighbours[1], False)
    crowd.set_idle(neighbours[2], False)
    assert not crowd.enter(Counted(), "2001:db8::9")
    assert crowd.enter(other := Counted(), "2001:db8:0:1::9") and crowd.enter(Counted(), "::ffff:10.0.0.1")
    assert crowd.enter(Counted(), "10.0.0.1") and crowd.enter(Counted(), "10.0.0.2")
    assert crowd.enter(Counted(), "10.0.0.3") and other.ended == 1  # the longest idle of all
    for member in crowd.members:
        crowd.leave(member)
        crowd.leave(member)
    assert not crowd.members and not crowd._near and not crowd._all.idle and crowd._all.count == 0


def test_the_same_is_said_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    said = Notes(lambda: now)
    for _ in range(1000):
        said.note("too many")
    now = 31.0
    said.note("too many")
    assert notes(caplog) == ["note: too many", "note: too many (1000 times since it was last said)"]
    for n in range(1000):
        said.note(f"{n}")
    assert len(said._said) <= 64


def test_how_many_connections_there_may_be_follows_the_system() -> None:
    assert (limits_for(20000, None, None).connections, limits_for(20000, None, None).from_address) == (1024, 256)
    assert limits_for(1024, None, None).connections == 704 and limits_for(256, None, None).connections == 128
    assert limits_for(1024, 100, 3) == Limits(100, 3)
    for wrong in ((0, None), (None, 0), (1000, None)):
        with pytest.raises(InvalidRequest, match="--max-connections"):
            limits_for(1024, *wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are no files there")
def test_without_descriptors_the_server_waits_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving_with() as (_, server):
        assert asked(server.url, "/fast")[0] == 200
        waiting = [socket.socket() for _ in range(20)]
        OPENED.extend(waiting)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (waiting[-1].fileno() + 1, hard))
            for connection in waiting:
                connection.settimeout(30)
                connection.connect(("127.0.0.1", server.port))
                connection.sendall(GET)
            eventually(lambda: bool(notes(caplog)))
            time.sleep(1.5)  # it tries again
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert all(b"200" in connection.recv(65536) for connection in waiting)
    (said,) = (note for note in notes(caplog) if "out of system resource" in note)
    assert "OSError" in said and len(notes(caplog)) == 1 and len(caplog.text) < 500


@pytest.mark.parametrize("wait", [0.0, 1.5])
def test_a_client_that_sends_no_more_gets_its_answer(wait: float) -> None:
    with serving_with() as (endless, server):
        connection = connected(server, GET.replace(b"/fast", b"/slow"))
        connection.shutdown(socket.SHUT_WR)
        threading.Timer(wait, endless.go.set).start()
        content = all_of(connection)
        interim, _, answer = content.rpartition(b"HTTP/1.1 ")
        assert answer.startswith(b"200") and answer.endswith(b"at last")
        assert interim.replace(b"HTTP/1.1 100 \r\n\r\n", b"") == b""
        assert interim or not wait  # which told whether the client was still there


def test_and_all_its_answers() -> None:
    with serving_with() as (_, server):
        connection = connected(server, GET * 3)
        connection.shutdown(socket.SHUT_WR)
        assert all_of(connection).count(b'{"bytes":0}') == 3


@pytest.mark.parametrize("begun", [False, True])
def test_and_a_stream_begun_before_that_was_heard_or_not(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.connections, "_CROSSING_SECONDS", 30.0)
    with serving_with() as (endless, server):
        stream = connected(server, GET.replace(b"/fast", b"/stream"))
        if begun:
            eventually(lambda: endless.making == 1)
        stream.shutdown(socket.SHUT_WR)
        for _ in range(50):
            assert stream.recv(65536)
        stream.close()
        eventually(endless.has_ended)


def test_in_the_middle_of_a_stream_it_is_taken_to_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.connections, "_CROSSING_SECONDS", 0.0)
    with serving_with() as (endless, server):
        stream = connected(server, GET.replace(b"/fast", b"/stream"))
        eventually(lambda: endless.making == 1)
        stream.shutdown(socket.SHUT_WR)
        eventually(endless.has_ended)


HEAD = b"GET /fast HTTP/1.1\r\nhost: localhost\r\n"


def test_one_address_begins_so_many_requests_at_once_and_then_one_after_the_other() -> None:
    """While another asks. Who is alone, and a proxy, waits for nothing."""
    crowd = Crowd(Limits(proxies=networks_in(["10.0.0.1"], "--trusted-proxy")))
    assert [crowd.turn("10.0.0.2", 5.0) for _ in range(500)] == [0.0] * 500
    assert crowd.turn("10.0.0.3", 5.5) == 0.0
    waits = [crowd.turn("10.0.0.2", 5.5) for _ in range(40)]
    assert waits[:16] == [0.0] * 16 and waits[16:] == pytest.approx([0.005 * n for n in range(1, 25)])
    assert crowd.turn("10.0.0.3", 5.5) == 0.0 and [crowd.turn("10.0.0.1", 5.5) for _ in range(99)] == [0.0] * 99
    assert crowd.turn("10.0.0.2", 5.6) == pytest.approx(0.025)
    assert crowd.turn("10.0.0.2", 7.0) == 0.0, "the others have gone"


def test_who_waits_for_a_turn_is_answered_then_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.crowd, "_AT_ONCE", 2)
    monkeypatch.setattr(serving.http.crowd, "_OTHERS_SECONDS", 60.0)

    def gets(client: str, within: float) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), within, (client, 0)) as connection:
            connection.sendall(GET)
            try:
                return connection.recv(12)
            except TimeoutError:
                return b""

    with serving_with() as (_, server):
        assert gets("127.0.0.2", 20) == b"HTTP/1.1 200"
        assert [gets("127.0.0.3", 20) for _ in range(20)] == [b"HTTP/1.1 200"] * 20
        monkeypatch.setattr(serving.http.crowd, "_GAP_SECONDS", 60.0)
        assert [gets("127.0.0.3", 1) for _ in range(3)][2] == b""
        assert gets("127.0.0.2", 20) == b"HTTP/1.1 200"


POST = b"POST /fast HTTP/1.1\r\nhost: localhost\r\n"
RAW: dict[str, tuple[bytes, bytes]] = {
    "many headers": (HEAD + b"".join(b"x-%d: y\r\n" % n for n in range(500)) + b"\r\n", b"431"),
    "a long header": (HEAD + b"x: " + b"y" * 60_000 + b"\r\n\r\n", b"431"),
    "headers without end": (HEAD + b"x: y\r\n" * 20_000, b"431"),
    "a long target": (GET.replace(b"/fast", b"/" + b"x" * 60_000), b"4"),
    "no host": (b"GET /fast HTTP/1.1\r\n\r\n", b"400"),
    "two hosts": (HEAD + b"host: localhost\r\n\r\n", b"400"),
    "two lengths": (POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxx", b"400"),
    "the same length twice": (POST + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx", b"200"),
    "length and chunks": (POST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    "another coding": (POST + b"transfer-encoding: gzip\r\n\r\n", b"501"),
    "no length": (POST + b"content-length: -1\r\n\r\n", b"400"),
    "a long length": (POST + b"content-length: " + b"9" * 30 + b"\r\n\r\n", b"4"),
    "bad chunks": (POST + b"transfer-encoding: chunked\r\n\r\nnope\r\n", b"400"),
    "a body in crumbs": (POST + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000, b"400"),
    "a body that begins in crumbs": (
        POST + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n" + b"1\r\nx\r\n" * 100
        + (b"40\r\n" + b"x" * 64 + b"\r\n") * 2000 + b"0\r\n\r\n", b"200"
    ),
    "a chunk that says too little": (POST + b"transfer-encoding: chunked\r\n\r\n1\r\nxxxx\r\n", b"400"),
    "two keys": (HEAD + b"authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", b"400"),
    "two origins": (HEAD + b"origin: http://localhost\r\norigin: http://evil.example\r\n\r\n", b"400"),
    "an address for a target": (GET.replace(b"/fast", b"http://localhost/fast"), b"400"),
    "an address elsewhere": (GET.replace(b"/fast", b"http://evil.example/fast"), b"400"),
    "a target that is a name": (GET.replace(b"/fast", b"fast"), b"400"),
    "a star": (GET.replace(b"GET /fast", b"OPTIONS *"), b"400"),
    "CONNECT": (GET.replace(b"GET /fast", b"CONNECT evil.example:80"), b"405"),
    "TRACE": (GET.replace(b"GET", b"TRACE"), b"405"),
    "a method of its own": (GET.replace(b"GET", b"BREW"), b"405"),
    "WebSocket": (
        HEAD + b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        b"200",
    ),
    "HTTP/2": (HEAD + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n\r\n", b"200"),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"405"),
    "HTTP/1.0": (b"GET /fast HTTP/1.0\r\nhost: localhost\r\n\r\n", b"200"),
    "HTTP/1.0 without a host": (b"GET /fast HTTP/1.0\r\n\r\n", b"403"),
    "HTTP/0.9": (b"GET /fast\r\n\r\n", b"400"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\r\n\r\n", b"400"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"400"),
    "a null in a header": (HEAD + b"x: \x00\r\n\r\n", b"400"),
    "a folded header": (HEAD + b"x: y\r\n z\r\n\r\n", b"200"),
    "a bare line feed in a header": (HEAD + b"x: y\nz: w\r\n\r\n", b""),
    "a space before the colon": (HEAD + b"x : y\r\n\r\n", b"400"),
    "it expects to be asked": (POST + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\nxx", b"100"),
    "a form from elsewhere": (
        POST + b"sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\ncontent-length: 0\r\n\r\n", b"403",
    ),
    "a user in the host": (GET.replace(b"localhost", b"evil@127.0.0.1"), b"403"),
}  # fmt: skip


def test_whatever_is_sent_is_answered_or_refused_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving_with() as (_, server):
        for name, (sent, status) in RAW.items():
            first = connected(server, sent).recv(65536)
            assert first.startswith(b"HTTP/1.1 " + status), (name, first[:100])
            if status[:1] == b"4" and len(status) == 3:
                assert b"nosniff" in first and b"no-store" in first, name
            assert asked(server.url, "/fast")[0] == 200, name
    assert not notes(caplog) and capfd.readouterr() == ("", "")


def test_an_error_of_the_loop_is_told_without_what_it_was_about(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Request) -> Response:
        def fail(said: str) -> None:
            raise RuntimeError(said)

        asyncio.get_running_loop().call_soon(fail, "the zebra's name is Quagmire")
        return PlainTextResponse("")

    server = Server(make_app([Route("/", broken)]), "127.0.0.1", 0)
    assert asked(server.url, "/")[0] == asked(server.url, "/")[0] == 200
    server.close()
    (note,) = notes(caplog)
    assert note.startswith("note: a callback failed (RuntimeError in fail, test_connections.py")
    assert "zebra" not in caplog.text


def test_many_requests_at_once_on_one_connection_are_answered_in_turn() -> None:
    with serving_with() as (_, server):
        last = HEAD + b"connection: close\r\n\r\n"
        content = all_of(connected(server, (POST + b"content-length: 2\r\n\r\nxx") * 200 + last))
        assert content.count(b'{"bytes":2}') == 200 and content.count(b'{"bytes":0}') == 1


def test_a_body_that_goes_wrong_after_its_answer_has_begun_ends_that(caplog: pytest.LogCaptureFixture) -> None:
    with serving_with() as (endless, server):
        head = HEAD.replace(b"/fast", b"/stream") + b"transfer-encoding: chunked\r\n\r\n"
        connection = connected(server, head)
        assert b"200" in connection.recv(65536)
        connection.sendall(b"nope\r\n")
        assert b"HTTP/1.1" not in all_of(connection)
        eventually(endless.has_ended)
    assert not notes(caplog)


def test_a_fault_is_one_line_that_tells_nothing_of_the_request(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving_with() as (_, server):
        status, headers, content = asked(server.url, "/fault")
        assert (status, json.loads(content)["error"]["code"]) == (500, "internal_error")
        assert headers["x-content-type-options"] == "nosniff"
    (note,) = notes(caplog)
    assert note.startswith("error: GET '/fault': RuntimeError in fault, test_connections.py:") and "\n" not in note
    assert "zebra" not in caplog.text and not any(record.exc_info for record in caplog.records)
    assert capfd.readouterr() == ("", "")


def test_the_server_ends_whatever_state_its_connections_are_in() -> None:
    with serving_with() as (endless, server):
        crowd = [connected(server, GET[: n % 30]) for n in range(60)]
        crowd += [connected(server, POST + b"content-length: 100\r\n\r\n") for _ in range(10)]
        for path in (b"/stream", b"/large", b"/slow", b"/blocked"):
            crowd += [connected(server, GET.replace(b"/fast", path)) for _ in range(5)]
        eventually(lambda: len(server._server.server_state.tasks) >= 25 and endless.making == 5)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < 20  # not for ever
        endless.go.set()


BLOCKED = """
import sys, time
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from builder.console import signals_call
from serving.http.server import Server, make_app

def thread(request):
    time.sleep(3600)

async def loop(request):
    time.sleep(3600)

server = Server(make_app([Route("/thread", thread), Route("/loop", loop)]), "127.0.0.1", 0)
with signals_call(server.stop, 2.0):
    print(server.port, flush=True)
    server.wait()
server.close()
"""


@pytest.mark.parametrize("path", ["/thread", "/loop"])
def test_a_handler_that_is_blocked_does_not_keep_the_program(path: str) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", BLOCKED], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    port = int(process.stdout.readline())
    connection = socket.create_connection(("127.0.0.1", port))
    OPENED.append(connection)
    connection.sendall(GET.replace(b"/fast", path.encode()))
    time.sleep(0.5)
    assert ended(process, signal.SIGTERM)[1] == "\nstopped.\n"
    assert process.returncode == 130
    connection.close()


def test_what_browsers_are_told_stands_on_every_answer() -> None:
    access = Access(("anna", "s3cret"))
    key = {"authorization": "Bearer s3cret"}
    with serving_with(access=access) as (_, server):
        answers: list[tuple[str, Any, dict[str, str], str | None]] = [
            ("/fast", None, key, None), ("/fast", None, {}, None), ("/", None, {"accept": "text/html"}, None),
            ("/nothing", None, key, None), ("/fault", None, key, None), ("/fast", None, key, "PUT"),
            ("/fast", b" " * (MOST_BYTES + 1), key, None), ("/login", b"user=anna&password=x", {}, None),
            ("/login", b"user=anna&password=s3cret", {}, None), ("/login", b"x" * 5000, {}, None),
            ("/fast", None, {**key, "host": "evil.example"}, None), ("/large", None, key, None),
        ]  # fmt: skip
        seen = set()
        for path, body, headers, method in answers:
            status, given, _ = asked(server.url, path, body, headers, method)
            seen.add(status)
            assert given["x-content-type-options"] == "nosniff", (path, status)
            assert given["referrer-policy"] == "same-origin" and given["x-frame-options"] == "DENY"
            policy = given["content-security-policy"]
            assert "frame-ancestors 'none'" in policy and "form-action" in policy and "base-uri" in policy
            assert given["cache-control"] == "no-store", (path, status)
        assert seen == {200, 303, 401, 403, 404, 405, 413, 500}
