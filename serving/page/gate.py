"""What stands in front of Gradio: of its routes those that the chat needs, and to each only what the page sends."""

import asyncio
import re
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.access import client_of
from serving.http.pace import Pace
from serving.http.problems import Problem
from serving.page.copies import Copies
from serving.page.events import Events, Sent, read_cancel, read_event, read_queued, read_reset, session_in
from serving.page.line import Line
from serving.page.tabs import Answers, Tab, Tabs

# The browser itself refuses what another host offers: an image in an answer could otherwise carry the chat away.
CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; base-uri 'self'; "
    "object-src 'none'; frame-ancestors 'none'"
)
PREDICT, JOIN, DATA = "/gradio_api/run/predict", "/gradio_api/queue/join", "/gradio_api/queue/data"
CANCEL, RESET = "/gradio_api/cancel", "/gradio_api/reset"
# Not among them: upload, files of this machine, a proxy for other hosts, monitoring, a login of its own.
# By app_id the page sees, once it has lost the server, that there is one again.
_PAGES = {"/", "/config", "/gradio_api/info", "/gradio_api/app_id", "/theme.css", "/favicon.ico"}
_FILE = re.compile(r"/(static|assets)(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
_MADE = {"/", "/config", "/gradio_api/info"}  # by Gradio for each request, and always the same
_FRESH = _MADE | {"/gradio_api/app_id"}
_READS: dict[str, Callable[[bytes, Events, frozenset[int]], Sent]] = {
    PREDICT: read_event,
    JOIN: read_queued,
    CANCEL: read_cancel,
    RESET: read_reset,
}
# What Gradio gets to see of a request's headers: it would believe others about who asks and where the page is.
_HEADERS = {b"host", b"accept", b"accept-encoding", b"if-none-match", b"if-modified-since", b"x-forwarded-proto"}
_HEADERS_OF_A_PAGE = {b"host", b"x-forwarded-proto"}  # by them it says where it is
_UNREAD_SECONDS = 15.0  # that an answer is made for a tab that does not read it
_READING = 2  # bodies that are read at a time: a long one takes a hundred times its size in memory for a moment
_NO_ANSWERS = b'data: {"msg":"close_stream"}\n\n'  # as Gradio ends a stream
_MOST_AT_ONCE, _MOST_WAITING = 8, 32  # posts of one client


@dataclass(frozen=True, slots=True)
class Page:
    """What the page sends. events: by Gradio's number. triggers: components that they come from.

    most_bytes: of a body.
    """

    events: Events
    triggers: frozenset[int]
    most_bytes: int


class Gate:
    """Lets through to Gradio what the page sends."""

    def __init__(self, app: ASGIApp, page: Page, answers: Answers) -> None:
        self._app, self._copies, self._page, self._tabs = app, Copies(app), page, Tabs(answers)
        self._reading = asyncio.Semaphore(_READING)
        self._posting = Line(_MOST_AT_ONCE, _MOST_WAITING)
        self._later: set[asyncio.Task[None]] = set()
        self._pace = Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            if not _FILE.fullmatch(scope["path"]):
                await self._turn(scope, receive)
            if scope["path"] in _READS:
                await self._post(scope, receive, _with_headers(send))
            elif scope["path"] == DATA:
                await self._stream(scope, receive, _with_headers(send))
            else:
                passed = _page_or_file(scope)
                app = self._copies if scope["path"] in _MADE else self._app
                await app(passed, receive, _with_headers(send, kept=scope["path"] not in _FRESH))
        except Problem as problem:
            # As Gradio's page shows it to its reader.
            said = {"error": problem.message, "detail": problem.message}
            await JSONResponse(said, problem.status, problem.headers)(scope, receive, send)

    async def _turn(self, scope: Scope, receive: Receive) -> None:
        """Wait until this client may begin one more: Gradio makes its page anew for each who asks for it."""
        request = Request(scope, receive)

        async def gone() -> bool:
            return scope["method"] == "GET" and await request.is_disconnected()  # which takes a body's first piece

        await self._pace.turn(client_of(scope), gone)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check_method(scope, "GET")
        names = QueryParams(scope["query_string"]).getlist("session_hash")
        name = session_in(names[0] if len(names) == 1 else None)
        tab = self._tabs.known(name, client_of(scope), time.monotonic())
        if not self._tabs.waits(name):  # an error would lock the page
            return await Response(_NO_ANSWERS, media_type="text/event-stream")(scope, receive, send)
        passed = _for_gradio(scope, f"session_hash={name}".encode())
        await self._tabs.streamed(name, tab, lambda: self._app(passed, receive, send))

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        _check_method(scope, "POST")
        client = client_of(scope)
        # One that is refused may be the one that makes the page ready again.
        async with self._posting.place(client, receive) as received:
            body = await self._read(scope["path"], await self._body(scope, received), client)
            passed = _for_gradio(scope, b"", [(b"content-type", b"application/json")])
            await self._app(passed, _received(body, received), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem(415, "content-type must be application/json.", "invalid_header")
        pieces, size = [], 0
        async for piece in Request(scope, receive).stream():
            pieces.append(piece)
            size += len(piece)
            if size > self._page.most_bytes:
                raise Problem(413, "this chat is too long for the page: start a new one.", "body_too_large")
        return b"".join(pieces)

    async def _read(self, path: str, body: bytes, client: str) -> bytes:
        """The body for Gradio, of a tab that may send it. Raises Problem."""
        page, now = self._page, time.monotonic()
        async with self._reading:
            sent = await to_thread.run_sync(_READS[path], body, page.events, page.triggers)
        if path == CANCEL:
            self._tabs.known(sent.session, client, now)
        elif path != RESET:
            tab = await self._tabs.enter(sent.session, client, now)
            if path == JOIN:
                joined = self._tabs.join(sent.session, tab)
                task = asyncio.create_task(self._unread(sent.session, tab, joined))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
        return sent.body

    async def _unread(self, name: str, tab: Tab, joined: int) -> None:
        await asyncio.sleep(_UNREAD_SECONDS)
        await self._tabs.unread(name, tab, joined)


def _page_or_file(scope: Scope) -> Scope:
    """A request for the page or a file of it. Raises Problem for any other."""
    path = scope["path"]
    if not (path in _PAGES or _FILE.fullmatch(path)):
        raise Problem(404, f"there is nothing at {path[:200]}.")
    _check_method(scope, "GET", "HEAD")
    return _for_gradio(scope, headers=_HEADERS_OF_A_PAGE if path in _MADE else _HEADERS)


def _check_method(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        raise Problem(405, f"{scope['path']} does not take {scope['method']}.", headers={"allow": ", ".join(methods)})


def _for_gradio(
    scope: Scope, query: bytes = b"", more: Sequence[tuple[bytes, bytes]] = (), headers: Container[bytes] = _HEADERS
) -> Scope:
    """A request with what Gradio needs of it. Its page repeats its own query everywhere, for the browser alone."""
    passed = [(name, value) for name, value in scope["headers"] if name in headers]
    return {**scope, "query_string": query, "headers": [*passed, *more]}


def _received(body: bytes, receive: Receive) -> Receive:
    """A body that has been read already, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return messages.pop() if messages else await receive()

    return received


def _with_headers(send: Send, kept: bool = False) -> Send:
    """`send`, with the page's policy; and whether the browser may keep what it gets."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["content-security-policy"] = CONTENT_POLICY
            headers["cache-control"] = "private, max-age=86400" if kept and message["status"] == 200 else "no-store"
        await send(message)

    return with_headers
