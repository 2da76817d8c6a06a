"""Who may use the server: in front of every route, the page's included.

1. Host: a page on the internet can make a browser resolve its own name to this machine (DNS rebinding). Its requests
   then carry that name, which nobody gave this server.
2. Origin: a page elsewhere may not use the reader's browser, or login, to ask this server.
3. Credentials: an API key, or a login that a cookie remembers until the server ends.
4. How long a body may be.

And, where answers are made, how many of them one client may have at a time.
"""

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import LimitReached
from serving.http.problems import Problem

MOST_BYTES = 8 << 20  # a body; a conversation that fills a window of a million tokens is shorter
COOKIE = "oga-chat"
LOGIN_PATH = "/login"
_MOST_WRONG = 8
_UNAUTHENTICATED = {"www-authenticate": "Bearer"}


@dataclass(frozen=True)
class Access:
    """What is asked of a client.

    login: user and password. keys: API keys; the password is one too, and a key opens the page as a password does.
    Without either, whoever passes the other checks may do everything.
    wrong_seconds: what a wrong key or password waits for its answer. A few may wait at a time; then, for as long, no
    other is looked at. So guessing goes at a few a second, however many ask.
    origins: of web pages elsewhere that may use the API, as https://chat.example. hosts: names that this server is
    reached by, besides localhost, this machine's own name and plain addresses.
    """

    login: tuple[str, str] | None = field(default=None, repr=False)
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: set[str] = field(default_factory=set)
    wrong_seconds: float = 1.0
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def asks(self) -> bool:
        """Whether credentials are asked for."""
        return bool(self.login or self.keys)

    def middleware(self) -> list[Middleware]:
        """What stands in front of an application, outermost first."""
        cors = Middleware(
            CORSMiddleware, allow_origins=self.origins, allow_methods=["GET", "POST"], allow_headers=["*"],
        )  # fmt: skip
        return [Middleware(_Place, self), *([cors] if self.origins else []), Middleware(_Person, self)]

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this server. A plain address cannot have been rebound."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        return name in {"localhost", *self.hosts} or name.endswith(".localhost") or _is_address(name)

    def knows_origin(self, headers: Headers) -> bool:
        """Whether a request comes from this server's own page, from no page, or from one that is allowed."""
        origin, host = headers.get("origin"), headers.get("host", "")
        if origin is not None:
            return origin in self.origins or origin in (f"http://{host}", f"https://{host}")
        # A browser that sends no Origin (an image, a link) says by this whose page it was; links may be followed.
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
        return site in {"none", "same-origin"} or mode == "navigate"

    def knows_key(self, given: str) -> bool:
        """Whether it is one of the keys, in a time that does not depend on it."""
        return any([_same(given, key) for key in self._keys()])  # every one is compared

    def knows_login(self, user: str, password: str) -> bool:
        """Whether they open the page."""
        names = self.login is not None and _same(user, self.login[0])
        return (names and _same(password, self.login[1] if self.login else "")) or self.knows_key(password)

    def client(self, connection: HTTPConnection) -> str | None:
        """A name for whoever asks, the same for each request; None if it has no credentials and needs some."""
        address = connection.client.host if connection.client else ""
        if not self.asks:
            return address
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._named(given.strip() + address) if self.knows_key(given.strip()) else None
        cookie = connection.cookies.get(COOKIE, "")
        name, _, proof = cookie.partition(".")
        return name if name and _same(proof, self._proof(name)) else None

    def cookie(self) -> str:
        """What a browser keeps once its reader has logged in. It is worth nothing to another run of the server."""
        name = secrets.token_urlsafe(12)
        return f"{name}.{self._proof(name)}"

    def _keys(self) -> Iterable[str]:
        return (*self.keys, *([self.login[1]] if self.login else []))

    def _proof(self, name: str) -> str:
        return hmac.new(self.secret, name.encode(), hashlib.sha256).hexdigest()

    def _named(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()[:16]


def hosts_of(host: str, more: Sequence[str] = ()) -> set[str]:
    """The names that a server listening on `host` is reached by, lower case."""
    machine = socket.gethostname().lower()
    bare = host.strip("[]").lower()
    return {machine, f"{machine}.local", *([bare] if bare else []), *(name.lower() for name in more)}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(a: str, b: str) -> bool:
    # Digests, so that not even the length shows.
    return hmac.compare_digest(hashlib.sha256(_bytes(a)).digest(), hashlib.sha256(_bytes(b)).digest())


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


class Places:
    """How many answers each client has or waits for, of `limit` at most; None lets everybody have all."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str, places: int) -> Iterator[None]:
        """Places for as long as the answers take. Raises LimitReached where the client has too many."""
        if self.limit is not None and self._taken[client] + places > self.limit:
            raise LimitReached(
                f"one client may have {self.limit} answers at a time, those that wait included: wait for one to end."
            )
        self._taken[client] += places
        try:
            yield
        finally:
            self._taken[client] -= places
            self._taken += Counter()  # drops those who have none


def client_of(scope: Scope) -> str:
    """The name that `Access.client` gave whoever made a request."""
    return str(scope.get("state", {}).get("client", ""))


class _Place:
    """Refuses what comes from elsewhere, and bodies that are too long."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # nothing here speaks WebSocket
            return await send({"type": "websocket.close", "code": 1008})
        headers = Headers(scope=scope)
        if problem := self._problem(headers):
            return await problem.response()(scope, receive, send)
        await self._app(scope, _bounded(receive), send)

    def _problem(self, headers: Headers) -> Problem | None:
        host, length = headers.get("host", ""), headers.get("content-length", "0")
        if not self._access.knows_host(host):
            return Problem(403, f"this server is not known as {host!r}: start it with --allow-host.", "unknown_host")
        if not self._access.knows_origin(headers):
            origin = headers.get("origin", "another site")
            return Problem(
                403, f"a page of {origin} may not use this server: start it with --allow-origin.", "unknown_origin"
            )
        if length.isdecimal() and len(length) < 20 and int(length) > MOST_BYTES:
            return _too_long()
        return None


def _too_long() -> Problem:
    return Problem(413, f"the body is longer than {MOST_BYTES >> 20} MiB: send less.", "body_too_large")


def _bounded(receive: Receive) -> Receive:
    """`receive`, where a body that names no length ends in a Problem once it is too long."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MOST_BYTES:
            raise _too_long()
        return message

    return bounded


class _Person:
    """Asks for credentials, gives browsers a form to send them with, and says who a request is from."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access
        self._wrong = 0  # keys and passwords that wait for their answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request, asks = Request(scope, receive), self._access.asks
        login = await _sent(request) if asks and (scope["path"], scope["method"]) == (LOGIN_PATH, "POST") else None
        tries = asks and (login is not None or "authorization" in request.headers)
        if tries and self._wrong >= _MOST_WRONG:  # nothing is awaited from here to where the wrong ones are counted
            return await _too_many_wrong().response()(scope, receive, send)
        client = self._access.client(request) if login is None else None
        if client is not None:
            scope.setdefault("state", {})["client"] = client
            return await self._app(scope, receive, send)
        response = self._refused(request) if login is None else self._logged_in(request, *login)
        if tries and response.status_code == 401:
            await self._wait()
        await response(scope, receive, send)

    async def _wait(self) -> None:
        self._wrong += 1
        try:
            await asyncio.sleep(self._access.wrong_seconds)
        finally:
            self._wrong -= 1

    def _logged_in(self, request: Request, user: str, password: str) -> Response:
        if not self._access.knows_login(user, password):
            return _form("That is not the login.")
        response = RedirectResponse("/", 303)
        secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        same_site: Literal["strict"] = "strict"
        response.set_cookie(COOKIE, self._access.cookie(), httponly=True, samesite=same_site, secure=secure)
        return response

    def _refused(self, request: Request) -> Response:
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return _form("")
        given = "authorization" in request.headers
        message = "this key is not known here." if given else "credentials are needed: Authorization: Bearer KEY."
        return Problem(401, message, "invalid_api_key", headers=_UNAUTHENTICATED).response()


async def _sent(request: Request) -> tuple[str, str]:
    """User and password as the form sends them."""
    try:
        form = parse_qs((await request.body()).decode(), strict_parsing=True)
    except (Problem, ValueError):
        form = {}
    return form.get("user", [""])[0].strip(), form.get("password", [""])[0]


def _too_many_wrong() -> Problem:
    message = "too many wrong keys or passwords: try again in a moment."
    return Problem(429, message, "rate_limit_exceeded", headers={"retry-after": "1"})


def _form(fault: str) -> HTMLResponse:
    page = _PAGE.replace("FAULT", escape(fault)).replace("PATH", LOGIN_PATH)
    policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"}
    return HTMLResponse(page, 401, {**policy, "cache-control": "no-store"})


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>oga-chat</title><style>
:root { color-scheme: light dark; font-family: system-ui, sans-serif }
form { max-width: 20rem; margin: 15vh auto; display: grid; gap: .75rem }
input, button { font: inherit; padding: .5rem }
</style></head><body><form method="post" action="PATH"><h1>oga-chat</h1><p role="alert">FAULT</p>
<label>User <input name="user" autocomplete="username" autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required></label>
<button>Log in</button></form></body></html>
"""
