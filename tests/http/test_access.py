"""Who may use the server: every route that the running app has, and what stands in front of them."""

import http.client
import json
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import pytest
from starlette.routing import BaseRoute

from serving.errors import LimitReached
from serving.http.access import COOKIE, MOST_BYTES, Access, Places, hosts_of
from serving.http.answers import AnswerEngine
from serving.http.api import Api
from serving.http.guessing import Buckets, Guesses
from serving.http.server import Server, make_app
from serving.page.mount import mount_chat
from serving.page.ui import build_chat
from tests.page.test_ui import Speaker
from tests.pages import tidy
from tests.servers import asked

UNLIMITED = Buckets(1 << 30, 1.0)
ACCESS = Access(
    ("anna", "s3cret"), ("key-1", "key-2"), ("https://chat.example",), hosts_of("127.0.0.1", ["Box.example"]),
    guesses=Guesses(UNLIMITED, UNLIMITED),
)  # fmt: skip
HTML = {"accept": "text/html,*/*"}


def walk(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of routers and mounted applications included."""
    for route in routes:
        inner: Any = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
        if inner:
            yield from walk(inner)
        for method in getattr(route, "methods", None) or ():
            path = re.sub(r"{[^}]*}", "x", cast(Any, route).path)
            yield method, path if path.startswith("/") else f"/{path}"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The address of page and API that ask for credentials, and every route that they have."""
    engine = Speaker("a")
    with tidy():
        application = make_app(Api(cast(AnswerEngine, engine), "demo").routes(), ACCESS.middleware())
        close = mount_chat(application, build_chat(engine, name="m", examples=["x"]))
    server = Server(application, "127.0.0.1", 0)
    try:
        yield server.url.rstrip("/"), sorted(set(walk(application.routes)))
    finally:
        close()
        server.close()
        with tidy():
            pass


@pytest.fixture(autouse=True)
def no_litter() -> Iterator[None]:
    with tidy():
        yield


@pytest.fixture
def url(running: tuple[str, list[tuple[str, str]]]) -> str:
    return running[0]


def key(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}"}


@contextmanager
def serving_api(access: Access) -> Iterator[Server]:
    server = Server(make_app(Api(cast(AnswerEngine, Speaker()), "m").routes(), access.middleware()), "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()


def test_no_route_answers_without_credentials(running: tuple[str, list[tuple[str, str]]]) -> None:
    url, routes = running
    paths = {path for _, path in routes}
    assert {"/", "/config", "/gradio_api/queue/join", "/gradio_api/upload", "/v1/chat/completions", "/health"} <= paths
    assert len(routes) > 40
    for method, path in [*routes, ("GET", "/nothing"), ("GET", "//config"), ("OPTIONS", "/config"), ("GET", "/login")]:
        wrong = [{"cookie": f"{COOKIE}=x.y"}, {"authorization": "key-1"}, {"x-api-key": "key-3"}, {"x-api-key": ""}]
        for headers in ({}, key(""), key("key-3"), key("key"), *wrong):
            if (method, path) == ("POST", "/login"):
                continue
            status, _, _ = asked(url, path, b"{}" if method == "POST" else None, headers, method)
            assert status == 401, (method, path, headers)


@pytest.mark.parametrize("value", ["key-1", "key-2", "s3cret"])
def test_a_key_opens_page_and_api(url: str, value: str) -> None:
    for path in ("/", "/config", "/v1/models", "/gradio_api/info"):
        for headers in (key(value), {"x-api-key": value}, {**key(value), "x-api-key": "key-3"}):
            assert asked(url, path, headers=headers)[0] == 200, (path, headers)
        assert asked(url, path, headers={**key("key-3"), "x-api-key": value})[0] == 401, path


def test_a_refusal_has_the_shape_that_clients_know(url: str) -> None:
    status, headers, content = asked(url, "/v1/models", headers=key("k\u00fcy"))
    error = json.loads(content)["error"]
    assert (status, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
    assert headers["www-authenticate"] == "Bearer" and "k\u00fcy" not in error["message"]


def log_in(url: str, **fields: str) -> tuple[int, dict[str, str], bytes]:
    return asked(
        url, "/login", urlencode(fields).encode(), {"content-type": "application/x-www-form-urlencoded", **HTML}
    )


def test_a_browser_gets_a_form_and_a_cookie(url: str) -> None:
    status, headers, content = asked(url, "/", headers=HTML)
    assert status == 401 and b"<form" in content and b"m &lt;" not in content
    assert "default-src 'none'" in headers["content-security-policy"]
    status, headers, _ = log_in(url, user="anna", password="s3cret")
    cookie = headers["set-cookie"]
    assert status == 303 and headers["location"] == "/"
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "s3cret" not in cookie
    held = {"cookie": cookie.partition(";")[0]}
    for path in ("/", "/config", "/v1/models"):
        assert asked(url, path, headers=held)[0] == 200
    forged = {"cookie": held["cookie"][:-1] + ("0" if held["cookie"][-1] != "0" else "1")}
    assert asked(url, "/config", headers=forged)[0] == 401
    elsewhere = {"cookie": f"{COOKIE}={Access(ACCESS.login).credentials.cookie()}"}  # of another run of the server
    assert asked(url, "/config", headers=elsewhere)[0] == 401


@pytest.mark.parametrize(
    "fields",
    [{}, {"user": "anna"}, {"user": "anna", "password": "x"}, {"user": "tom", "password": "x"},
     {"user": "anna", "password": ""}, {"password": "s3cret "}],
)  # fmt: skip
def test_a_wrong_login_is_the_form_again(url: str, fields: dict[str, str]) -> None:
    status, headers, content = log_in(url, **fields)
    assert status == 401 and b"not the login" in content and "set-cookie" not in headers


@pytest.mark.parametrize("garbage", [b"\xff\xfe", b"=&=", b"{}", b"user=%ff&password=%00"])
def test_a_login_that_is_no_form(url: str, garbage: bytes) -> None:
    assert asked(url, "/login", garbage)[0] == 401


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:7860", True), ("localhost", True), ("[::1]:80", True), ("192.168.1.7", True), ("box.example", True),
        ("box.example.", True), ("a.localhost", True), ("evil.example", False), ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False), ("evil.example:7860", False), ("", False), ("[", False),
        ("a@127.0.0.1x", False), ("evil@127.0.0.1", False), ("127.0.0.1@evil", False), ("127.0.0.1/x", False),
        ("127.0.0.1:0", False), ("127.0.0.1:99999", False), ("127.0.0.1:x", False), ("127.0.0.1:", False),
        ("[127.0.0.1]", False), ("[::1%25lo]", False), ("[::1", False), ("::1", False), ("localhost\\x", False),
        ("localhost x", False), ("localhost,x", False), ("0x7f.1", False), (".", False),
    ],
)  # fmt: skip
def test_a_name_that_nobody_gave_this_server_is_refused(url: str, host: str, known: bool) -> None:
    for path in ("/", "/v1/models", "/gradio_api/info"):
        status, _, content = asked(url, path, headers={**key("key-1"), "host": host})
        assert status == (200 if known else 403), path
        assert known or json.loads(content)["error"]["code"] == "unknown_host"


def test_pages_of_other_sites_are_refused(url: str) -> None:
    own = urlsplit(url).netloc
    for origin in (f"http://{own}", f"https://{own}"):
        assert asked(url, "/v1/models", headers={**key("key-1"), "origin": origin})[0] == 200
    for origin in ("https://evil.example", "null", "http://localhost:1", f"http://{own}.evil.example", "", "http://["):
        for method, path in (("POST", "/v1/chat/completions"), ("POST", "/gradio_api/queue/join"), ("GET", "/config"),
                             ("OPTIONS", "/v1/models"), ("POST", "/login")):  # fmt: skip
            status, headers, _ = asked(url, path, b"{}", {**key("key-1"), "origin": origin}, method)
            assert status == 403, (origin, path)
            assert "access-control-allow-origin" not in headers
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert asked(url, "/v1/models", headers={**key("key-1"), **image})[0] == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    for method in ("GET", "HEAD"):
        assert asked(url, "/", None, {**key("key-1"), **link}, method)[0] == 200
    for path in ("/login", "/v1/chat/completions", "/gradio_api/run/predict"):  # a form is no link
        assert asked(url, path, b"{}", {**key("key-1"), **link})[0] == 403, path
        assert asked(url, path, b"{}", {**key("key-1"), **link, "sec-fetch-site": "same-site"})[0] == 403, path


def test_pages_of_a_named_site_may_use_the_api(url: str) -> None:
    origin = {"origin": "https://chat.example"}
    preflight = {**origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    status, headers, _ = asked(url, "/v1/chat/completions", None, preflight, "OPTIONS")
    assert status == 200 and headers["access-control-allow-origin"] == "https://chat.example"
    status, headers, _ = asked(url, "/v1/models", headers={**key("key-1"), **origin})
    assert status == 200 and headers["access-control-allow-origin"] == "https://chat.example"
    assert "access-control-allow-credentials" not in headers  # it needs a key of its own, not the reader's login
    assert asked(url, "/v1/models", headers=origin)[0] == 401


def test_a_body_that_is_too_long(url: str) -> None:
    content = b" " * (MOST_BYTES + 1)
    status, _, said = asked(url, "/v1/chat/completions", content, key("key-1"))
    assert (status, json.loads(said)["error"]["code"]) == (413, "body_too_large")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    pieces = (b" " * 65536 for _ in range(MOST_BYTES // 65536 + 1))  # no length is named
    connection.request("POST", "/v1/chat/completions", pieces, key("key-1"), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_a_long_login_is_refused_by_its_length(url: str) -> None:
    head = "POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=30) as connection:
        connection.sendall(head.encode())  # and nothing of the body
        assert b"413" in connection.recv(12)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("POST", "/login", (b"x" * 1000 for _ in range(6)), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_without_login_and_keys_only_the_place_is_checked() -> None:
    with serving_api(Access()) as server:
        assert asked(server.url, "/v1/models")[0] == 200
        assert asked(server.url, "/v1/models", headers={"host": "evil.example"})[0] == 403
        assert asked(server.url, "/v1/models", headers={"origin": "https://chat.example"})[0] == 403


def test_a_client_has_so_many_places() -> None:
    places = Places(3)
    both = places.taken("a", 2), places.taken("a", 1), places.taken("b", 3)
    with both[0], both[1], both[2], pytest.raises(LimitReached, match="3 answers"):
        places.taken("a", 1).__enter__()
    with places.taken("a", 3):
        pass
    with pytest.raises(LimitReached):
        places.taken("a", 4).__enter__()
    with Places(None).taken("a", 1000):
        pass


def test_no_secret_is_shown() -> None:
    assert "s3cret" not in repr(ACCESS) and "key-1" not in repr(ACCESS)
