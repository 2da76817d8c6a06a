"""Asks for credentials, gives browsers a form to send them with, and says who a request is from."""

import math
import time
from html import escape
from typing import Literal
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.credentials import COOKIE, Credentials
from serving.http.guessing import Guesses
from serving.http.place import LOGIN_PATH
from serving.http.problems import Problem

_UNAUTHENTICATED = {"www-authenticate": "Bearer"}


class Person:
    """Lets in whoever has a key or has logged in; everybody, where nothing is asked for."""

    def __init__(self, app: ASGIApp, credentials: Credentials, guesses: Guesses) -> None:
        self._app, self._credentials, self._guesses = app, credentials, guesses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = Request(scope, receive)
        address: str = scope["state"]["address"]  # as Place has it
        if not self._credentials.asked:
            found: str | Response = address
        elif (scope["path"], scope["method"]) == (LOGIN_PATH, "POST"):
            found = await self._logged_in(request, address)
        else:
            found = self._found(request, address)
        if isinstance(found, Response):
            return await found(scope, receive, send)
        scope["state"]["client"] = found
        await self._app(scope, receive, send)

    def _found(self, request: Request, address: str) -> str | Response:
        """A name for whoever asks, the same for each request; or why they may not."""
        key = _key_of(request)
        if key is None:
            return self._credentials.holder(request.cookies.get(COOKIE, "")) or _refused(request)
        if wait := self._wait(address, key, self._credentials.know_key(key)):
            return _too_many_wrong(wait).response(request.url.path)
        if not self._credentials.know_key(key):
            return _refused(request)
        self._guesses.was_right(address, key)
        return self._credentials.name_of(key, address)

    async def _logged_in(self, request: Request, address: str) -> Response:
        try:
            user, password = await _sent(request)
        except Problem as problem:
            return problem.response(LOGIN_PATH)
        right = self._credentials.know_login(user, password)
        if wait := self._wait(address, password, right):
            return _form(_too_many_wrong(wait).message, 429)
        if not right:
            return _form("That is not the login.")
        response = RedirectResponse("/", 303)
        secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        same_site: Literal["strict"] = "strict"
        response.set_cookie(COOKIE, self._credentials.cookie(), httponly=True, samesite=same_site, secure=secure)
        return response

    def _wait(self, address: str, secret: str, right: bool) -> float:
        """Seconds until it is looked at; 0 if it has been now, and counted where it was wrong."""
        now = time.monotonic()
        wait = self._guesses.wait(address, now)
        if wait and not (right and self._guesses.is_no_guess(address, secret)):
            return wait
        if not right:
            self._guesses.was_wrong(address, now)
        return 0.0


def _key_of(request: Request) -> str | None:
    """The one key that is looked at: of `Authorization: Bearer`, or else of `x-api-key`."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    given = key if scheme.lower() == "bearer" else request.headers.get("x-api-key")
    return None if given is None else given.strip()


async def _sent(request: Request) -> tuple[str, str]:
    """User and password as the form sends them. Raises Problem for a body that is too long."""
    try:
        form = parse_qs((await request.body()).decode(), strict_parsing=True, max_num_fields=10)
    except ValueError:
        form = {}
    return form.get("user", [""])[0].strip(), form.get("password", [""])[0]


def _refused(request: Request) -> Response:
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return _form("")
    given = "authorization" in request.headers or "x-api-key" in request.headers
    needed = "credentials are needed: Authorization: Bearer KEY, or x-api-key: KEY."
    message = "this key is not known here." if given else needed
    return Problem(401, message, "invalid_api_key", headers=_UNAUTHENTICATED).response(request.url.path)


def _too_many_wrong(wait: float) -> Problem:
    message = f"too many wrong keys or passwords: try again in {math.ceil(wait)} s."
    return Problem(429, message, "rate_limit_exceeded", headers={"retry-after": str(math.ceil(wait))})


def _form(fault: str, status: int = 401) -> HTMLResponse:
    page = _PAGE.replace("FAULT", escape(fault)).replace("PATH", LOGIN_PATH)
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(page, status, {"content-security-policy": policy})


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
