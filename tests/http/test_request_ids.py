"""Every answer has an id by which a client and we can speak of it."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest

from serving.http.access import Access
from serving.http.answers import AnswerEngine
from tests.http.test_hostile import CHAT, GOOD, Answering
from tests.servers import api_served, asked

OURS = r"req_[0-9a-f]{24}"


@pytest.fixture(scope="module")
def url(demo_model: Path) -> Iterator[str]:
    with api_served(cast(AnswerEngine, Answering(demo_model)), access=Access(keys=("key-1",))) as url:
        yield url


@pytest.mark.parametrize(
    ("path", "body", "key", "status"),
    [
        (CHAT, GOOD, "key-1", 200),
        (CHAT, {**GOOD, "stream": True}, "key-1", 200),
        (CHAT, {}, "key-1", 400),
        (CHAT, GOOD, "wrong", 401),
        ("/nothing", None, "key-1", 404),
        ("/v1/models", None, "key-1", 200),
    ],
)
def test_every_answer_has_an_id_and_the_clients_own_where_it_is_sane(
    url: str, path: str, body: object, key: str, status: int
) -> None:
    def id_of(sent: str | None = None) -> str:
        headers = {"authorization": f"Bearer {key}"} | ({} if sent is None else {"x-request-id": sent})
        got, answered, _ = asked(url, path, body, headers)
        assert got == status
        return answered["x-request-id"]

    first, second = id_of(), id_of()
    assert re.fullmatch(OURS, first) and re.fullmatch(OURS, second) and first != second
    assert id_of("trace-1/a.b:c") == "trace-1/a.b:c"
    for strange in ("x" * 129, "a b", "<script>", "caf\u00e9", ""):
        assert re.fullmatch(OURS, id_of(strange))


def test_what_is_no_request_has_an_id_too(url: str) -> None:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        answered = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    assert re.search(rf"\r\nx-request-id: {OURS}\r\n", answered)


def test_pages_of_allowed_sites_may_read_it(demo_model: Path) -> None:
    access = Access(origins=("https://chat.example",))
    with api_served(cast(AnswerEngine, Answering(demo_model)), access=access) as url:
        _, headers, _ = asked(url, "/v1/models", None, {"origin": "https://chat.example"})
        assert headers["access-control-expose-headers"] == "x-request-id"
