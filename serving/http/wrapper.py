"""Around the whole application: headers that tell a browser what it may do, and faults without a word of content."""

import asyncio
import logging
import re
import secrets
import traceback
from contextlib import suppress
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("oga_chat")
# The page and the login form have a policy of their own; nothing else is to be drawn at all.
_NOTHING = "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none at all, a browser sends forms with no origin either
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": _NOTHING,
    "cache-control": "no-store",
}
REQUEST_ID = "x-request-id"  # the client's own, where it has sent one, so that it finds the answer in what it keeps
ITS_OTHER_NAME = "request-id"  # as Anthropic's clients look for it
_SANE = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
_MOST_REST, _REST_SECONDS = 16 << 20, 5.0  # of a body that was refused
_OURS = Path(__file__).parents[2]


class Wrapper:
    """Gives every answer the headers that it does not have yet, and tells of every fault in a line on stderr.

    The application itself answers its faults; what it had begun before is cut short.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        sent = Headers(scope=scope)
        request_id = id_of(sent.get(REQUEST_ID, ""))
        unread = sent.get("content-length", "0") != "0" or "transfer-encoding" in sent

        async def noted() -> Message:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**HEADERS, REQUEST_ID: request_id, ITS_OTHER_NAME: request_id}.items():
                    headers.setdefault(name, value)
            elif unread and not message.get("more_body"):
                await send({**message, "more_body": True})
                await _rest(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            await self._app(scope, noted, with_headers)
        except ClientDisconnect:
            return  # nobody is left to be told
        except Exception as error:
            logger.error("error: %s %s: %s", scope["method"], ascii(scope["path"][:100]), told(error))
            raise Aborted from None


def id_of(asked: str = "") -> str:
    """The id of a request: what the client asked for, where that can stand in a log, or one of ours."""
    return asked if _SANE.fullmatch(asked) else f"req_{secrets.token_hex(12)}"


async def _rest(receive: Receive) -> None:
    """Take what is left of a body that was refused: who is cut off while still sending never reads why."""
    left = _MOST_REST
    with suppress(TimeoutError):
        async with asyncio.timeout(_REST_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return


class Aborted(Exception):
    """Closes the connection once what has been written is sent: a client sees by it that an answer was cut short."""


def told(error: BaseException) -> str:
    """What kind of error it is and where it came from. Its message may have a conversation in it, and is left out."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_OURS)] or frames
    if not ours:
        return type(error).__name__
    last = ours[-1]
    return f"{type(error).__name__} in {last.name}, {Path(last.filename).name}:{last.lineno}"
