"""Refuses what comes from elsewhere, what is no plain HTTP request, and bodies that are too long."""

from collections.abc import Sequence, Set

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.addresses import Network, from_here, is_address, name_in, sender
from serving.http.problems import Problem
from serving.http.room import SHORT, Room

MOST_BYTES = 4 << 20  # a body; a conversation that fills a window of 400,000 tokens is shorter, escaped as it may be
LOGIN_PATH = "/login"
_LOGIN_BYTES = 4 << 10  # a name and a password, however they are encoded
_MOST_HEADERS, _HEADER_BYTES = 100, 32 << 10
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
# Two of one of these, and a proxy in between may read another than this server.
_ONCE = (
    "host",
    "origin",
    "authorization",
    "x-api-key",
    "content-type",
    "content-length",
    "transfer-encoding",
    "sec-fetch-site",
)


class Place:
    """What stands in front of everything, and says at which address the sender is.

    hosts: names that the server is reached by, which may grow. origins: of web pages elsewhere that may use it.
    proxies: who may say for whom they ask.
    """

    def __init__(
        self, app: ASGIApp, hosts: Set[str], origins: tuple[str, ...], proxies: Sequence[Network] = ()
    ) -> None:
        self._app, self._hosts, self._origins, self._proxies = app, hosts, origins, proxies
        self._room = Room()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # nothing here speaks WebSocket
            return await send({"type": "websocket.close", "code": 1008})
        headers = Headers(scope=scope)
        most = _LOGIN_BYTES if scope["path"] == LOGIN_PATH else MOST_BYTES
        problem = _malformed(scope, headers) or self._foreign(scope, headers) or _too_long(headers, most)
        if problem:
            return await problem.response(scope["path"])(scope, receive, send)
        address = sender((scope.get("client") or ("",))[0], headers, self._proxies)
        scope.setdefault("state", {})["address"] = address
        length = headers.get("content-length", "")
        body = _Body(self._room, address, receive, send, most, int(length) if length.isdecimal() else most)
        try:
            await self._app(scope, body.receive, body.send)
        finally:
            await body.let_go()

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this server. A plain address cannot have been rebound."""
        name = name_in(host)
        return name is not None and (
            name in {"localhost", *self._hosts} or name.endswith(".localhost") or is_address(name)
        )

    def _foreign(self, scope: Scope, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if not self.knows_host(host):
            known = f"this server is not known as {host[:100]!r}: start it with --allow-host."
            return Problem(403, known, "unknown_host")
        if not from_here(headers, scope["method"], self._origins):
            origin = headers.get("origin", "another site")[:100]
            return Problem(
                403, f"a page of {origin} may not use this server: start it with --allow-origin.", "unknown_origin"
            )
        return None


class _Body:
    """One request's body as it comes, of at most `most` bytes. A long one has room until its answer begins.

    expected: bytes that it will have at most.
    """

    def __init__(self, room: Room, address: str, receive: Receive, send: Send, most: int, expected: int) -> None:
        self._room, self._address, self._receive, self._send = room, address, receive, send
        self._most, self._expected = most, expected
        self._received = self._held = 0
        self._begun = False  # the answer

    async def receive(self) -> Message:
        """A piece of it. Raises Problem once it is too long."""
        message = await self._receive()
        self._received += len(message.get("body", b""))
        if self._received > self._most:
            raise _longer_than(self._most)
        if self._received > SHORT and not self._held and not self._begun:
            await self._room.enter(self._address, self._expected)
            self._held = self._expected
        return message

    async def send(self, message: Message) -> None:
        """A piece of the answer."""
        self._begun = True
        await self.let_go()
        await self._send(message)

    async def let_go(self) -> None:
        """It needs no room any more."""
        if held := self._held:
            self._held = 0
            await self._room.leave(self._address, held)


def _malformed(scope: Scope, headers: Headers) -> Problem | None:
    names = [name.decode("latin-1") for name, _ in scope["headers"]]
    if len(names) > _MOST_HEADERS or sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
        return Problem(431, f"more than {_MOST_HEADERS} headers or {_HEADER_BYTES >> 10} KiB: send fewer.")
    if scope["method"] not in _METHODS:
        allow = ", ".join(_METHODS)
        return Problem(405, f"{scope['method'][:20]} is not known here, only {allow}.", headers={"allow": allow})
    if not scope["path"].startswith("/") or "\0" in scope["path"]:
        return Problem.invalid("the request's target must be a path.", code="invalid_target")
    if twice := next((name for name in _ONCE if names.count(name) > 1), None):
        return Problem.invalid(f"there is more than one {twice} header: send one.", code="invalid_header")
    if "content-length" in headers and "transfer-encoding" in headers:
        return Problem.invalid("a body has a length or comes in chunks, not both.", code="invalid_header")
    return None


def _too_long(headers: Headers, most: int) -> Problem | None:
    length = headers.get("content-length", "0")
    return _longer_than(most) if len(length) > 19 or (length.isdecimal() and int(length) > most) else None


def _longer_than(most: int) -> Problem:
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    return Problem(413, f"the body is longer than {size}: send less.", "body_too_large")
