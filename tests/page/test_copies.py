"""What is made once for all who ask for the same."""

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.page import copies
from serving.page.copies import Copies


class Page:
    """A page that says at which address it is, and that counts how often it was made."""

    def __init__(self) -> None:
        self.made = 0

    async def answer(self, request: Request) -> Response:
        self.made += 1
        await asyncio.sleep(0)
        missing = request.headers["host"] == "nowhere"
        return Response(f"{self.made} at {request.headers['host']}", 404 if missing else 200, {"x-made": "here"})


def client_of(page: Page) -> TestClient:
    return TestClient(Copies(Starlette(routes=[Route("/{name}", page.answer)])))


def told(client: TestClient, host: str, path: str = "/a") -> str:
    return client.get(path, headers={"host": host}).text


def test_what_is_asked_for_again_is_made_once_for_each_address() -> None:
    client = client_of(Page())
    assert [told(client, host) for host in ("x", "x", "y", "x", "y")] == [
        "1 at x",
        "1 at x",
        "2 at y",
        "1 at x",
        "2 at y",
    ]
    assert told(client, "x", "/b") == "3 at x"


def test_a_copy_has_status_headers_and_body_of_what_was_made() -> None:
    client = client_of(Page())
    for _ in range(2):
        answer = client.get("/a", headers={"host": "x"})
        assert (answer.status_code, answer.headers["x-made"], answer.headers["content-length"]) == (200, "here", "6")
    assert client.head("/a", headers={"host": "x"}).content == b""


def test_what_failed_is_made_again() -> None:
    client = client_of(Page())
    assert [client.get("/a", headers={"host": "nowhere"}).status_code for _ in range(2)] == [404, 404]
    assert told(client, "x") == "3 at x"


def test_the_oldest_copy_goes_first_and_one_in_use_stays() -> None:
    page = Page()
    client = client_of(page)
    assert told(client, "kept") == "1 at kept"
    for number in range(2 * copies._MOST):
        told(client, f"host{number}")
        assert told(client, "kept") == "1 at kept"
    made = page.made
    told(client, "host0")
    assert page.made == made + 1


def test_those_who_ask_at_once_get_what_one_of_them_waited_for() -> None:
    page = Page()
    app = Copies(Starlette(routes=[Route("/{name}", page.answer)]))
    bodies: list[bytes] = []

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            bodies.append(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "scheme": "http", "path": "/a", "query_string": b""}
        await app(scope | {"headers": [(b"host", b"x")]}, receive, send)

    async def all_ask() -> None:
        await asyncio.gather(*(ask() for _ in range(9)))

    asyncio.run(all_ask())
    assert page.made == 1 and bodies.count(b"1 at x") == 9
