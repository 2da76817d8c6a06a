"""The API being served, and what one does to it without a client library."""

import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from serving.engine.process import EngineProcess
from serving.http.access import Access, Places
from serving.http.answers import AnswerEngine
from serving.http.api import Api
from serving.http.metrics import Metrics
from serving.http.server import Server, make_app


@contextmanager
def api_served(
    engine: AnswerEngine,
    name: str = "demo",
    access: Access | None = None,
    places: Places | None = None,
    metrics: Metrics | None = None,
) -> Iterator[str]:
    """Serve the API alone on a free port of this machine; gives its address."""
    server = Server(
        make_app(Api(engine, name, places, metrics).routes(), (access or Access()).middleware()), "127.0.0.1", 0
    )
    try:
        yield server.url.rstrip("/")
    finally:
        server.close()


def asked(
    url: str, path: str, body: Any = None, headers: dict[str, str] | None = None, method: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower case) and body of one request. A body that is not bytes goes as JSON."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, content, headers or {})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def error_of(url: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that is refused."""
    status, _, content = asked(url, path, body)
    error = json.loads(content)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return status, error


def events_of(content: bytes) -> list[Any]:
    """What the events of a stream carry; comments are left out."""
    blocks = content.decode().split("\n\n")
    assert blocks.pop() == "" and all(block.startswith((": ", "data: ")) and "\n" not in block for block in blocks)
    data = [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in data]


def kill(engine: EngineProcess) -> None:
    """Kill the engine's process, and wait until another one has been started."""
    first, deadline = engine.pid, time.monotonic() + 30
    assert first
    os.kill(first, signal.SIGKILL)
    while engine.pid in (first, None):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(process: "subprocess.Popen[str]", number: int = signal.SIGINT) -> tuple[str, str]:
    """Stop a program by a signal; what it wrote since on stdout, and all of stderr. One that goes on is killed."""
    process.send_signal(number)
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
