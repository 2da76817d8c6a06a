"""Around the whole application: headers that tell a browser what it may do, and faults without a word of content."""

import logging
import traceback
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.problems import Problem

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
_OURS = Path(__file__).parents[2]


class Wrapper:
    """Gives every answer the headers that it does not have yet, and every fault an answer and a line on stderr."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except ClientDisconnect:  # it went while it was still sending: nobody is there to be told, and it is no fault
            return
        except Exception as error:
            logger.error("error: %s %s: %s", scope["method"], ascii(scope["path"][:100]), told(error))
            if begun:
                raise Aborted from None
            await Problem.of(error).response()(scope, receive, with_headers)


class Aborted(Exception):
    """An answer that had begun cannot be ended: its connection is closed, so that the client sees that."""


def told(error: BaseException) -> str:
    """What kind of error it is and where it came from. Its message may have a conversation in it, and is left out."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_OURS)] or frames
    if not ours:
        return type(error).__name__
    last = ours[-1]
    return f"{type(error).__name__} in {last.name}, {Path(last.filename).name}:{last.lineno}"
