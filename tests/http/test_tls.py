"""HTTPS, with certificates of an authority of our own."""

import argparse
import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from openai import DefaultHttpxClient, OpenAI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from serving.errors import InvalidRequest
from serving.flags import is_readable_on_the_way, tls_from
from serving.http.access import Access
from serving.http.answers import AnswerEngine
from serving.http.api import Api
from serving.http.crowd import Limits
from serving.http.server import Server, make_app
from tests.page.test_ui import Speaker


class Authority:
    """Files of a certificate for localhost, and a context that trusts it."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.certificate, self.key, self.both = (str(folder / name) for name in ("cert.pem", "key.pem", "both.pem"))
        issued.cert_chain_pems[0].write_to_path(self.certificate)
        issued.private_key_pem.write_to_path(self.key)
        issued.private_key_and_cert_chain_pem.write_to_path(self.both)
        self.trusting = ssl.create_default_context()
        authority.configure_trust(self.trusting)
        self.context = tls_from(flags(self.certificate, self.key))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def flags(certificate: str | None, key: str | None, **more: object) -> argparse.Namespace:
    return argparse.Namespace(**{"ssl_certfile": certificate, "ssl_keyfile": key, "share": False, **more})


async def pieces(_: Request) -> Response:
    async def each() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    return StreamingResponse(each())


@contextlib.contextmanager
def served(context: ssl.SSLContext | None, limits: Limits | None = None) -> Iterator[Server]:
    api = Api(cast(AnswerEngine, Speaker()), "m")
    server = Server(make_app([*api.routes(), Route("/pieces", pieces)]), "127.0.0.1", 0, limits, context)
    try:
        yield server
    finally:
        server.close()


def got(authority: Authority, server: Server, path: str) -> bytes:
    """What a client that trusts the authority gets."""
    asked = http.client.HTTPSConnection("localhost", server.port, context=authority.trusting, timeout=30)
    with contextlib.closing(asked):
        asked.request("GET", path)
        answer = asked.getresponse()
        assert answer.status == 200
        return answer.read()


@pytest.mark.parametrize("in_one_file", [False, True])
def test_a_client_that_trusts_the_certificate_gets_answers(authority: Authority, in_one_file: bool) -> None:
    context = tls_from(flags(authority.both, None) if in_one_file else flags(authority.certificate, authority.key))
    with served(context) as server:
        assert server.url == f"https://127.0.0.1:{server.port}/"
        with OpenAI(
            base_url=f"{server.url}v1", api_key="-", http_client=DefaultHttpxClient(verify=authority.trusting)
        ) as client:
            assert [model.id for model in client.models.list()] == ["m"]
        assert got(authority, server, "/pieces") == b"x" * 2_000_000


def test_a_request_that_comes_with_the_end_of_the_handshake_is_heard(authority: Authority) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with (
        served(authority.context) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
    ):
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
        client.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        connection.sendall(outgoing.read())  # the client's last word of the handshake, and the request
        said = b""
        while b'"m"' not in said:
            incoming.write(received := connection.recv(65536))
            assert received
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    said += client.read(65536)
    assert said.startswith(b"HTTP/1.1 200")


def test_plain_http_and_who_does_not_trust_it_get_nothing_and_others_go_on(authority: Authority) -> None:
    strange = ssl.create_default_context()
    with served(authority.context) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert b"HTTP" not in plain.recv(1000)
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        with connection, pytest.raises(ssl.SSLCertVerificationError):
            strange.wrap_socket(connection, server_hostname="localhost").close()
        assert got(authority, server, "/v1/models")


def test_who_never_shakes_hands_is_one_of_the_crowd_and_ended(authority: Authority) -> None:
    with (
        served(authority.context, Limits(connections=8, from_address=4, head=0.5)) as server,
        contextlib.ExitStack() as open_,
    ):
        silent = [
            open_.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30)) for _ in range(12)
        ]
        began = time.monotonic()
        assert got(authority, server, "/v1/models")
        for connection in silent:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        assert time.monotonic() - began < 20


def test_what_cannot_be_served_with_is_refused_at_once(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    encrypted = tmp_path / "encrypted.pem"
    key = serialization.load_pem_private_key(Path(authority.key).read_bytes(), None)
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    empty = tmp_path / "empty.pem"
    empty.touch()
    for wrong, said in {
        (authority.certificate, other.key): "cannot be used .*the certificate's own",
        (authority.certificate, None): "cannot be used",
        (str(empty), authority.key): "cannot be used",
        (authority.certificate, str(encrypted)): "is encrypted",
        ("nowhere.pem", authority.key): "--ssl-certfile nowhere.pem is not a file",
        (authority.certificate, "nowhere.pem"): "--ssl-keyfile nowhere.pem is not a file",
        (None, authority.key): "needs --ssl-certfile",
    }.items():
        with pytest.raises(InvalidRequest, match=said):
            tls_from(flags(*wrong))
    with pytest.raises(InvalidRequest, match="--share has HTTPS of its own"):
        tls_from(flags(authority.certificate, authority.key, share=True))


@pytest.mark.parametrize(
    ("host", "certificate", "access", "readable"),
    [
        ("0.0.0.0", None, Access(keys=("k",)), True),
        ("0.0.0.0", None, Access(login=("a", "b")), True),
        ("0.0.0.0", "cert.pem", Access(keys=("k",)), False),
        ("0.0.0.0", None, Access(), False),
        ("127.0.0.1", None, Access(keys=("k",)), False),
    ],
)
def test_it_is_known_when_a_password_can_be_read_on_the_way(
    host: str, certificate: str | None, access: Access, readable: bool
) -> None:
    assert is_readable_on_the_way(flags(certificate, None, host=host), access) is readable
