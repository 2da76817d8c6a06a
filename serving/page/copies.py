"""Copies of what Gradio makes anew for each who asks, and always the same: the page and what it consists of."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST = 16  # copies: they differ by the address that the page is asked for at
_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Copy:
    start: Message
    body: bytes


class Copies:
    """An application whose answers are made once, for requests that are equal in all that it can see of them.

    For requests without a body whose answer does not depend on when they come. What is not a 200 is not kept.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._copies: OrderedDict[_Key, _Copy] = OrderedDict()
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key(scope)
        if key not in self._copies:
            async with self._making:  # who asks for the same meanwhile gets it too
                copy = self._copies.get(key) or await self._made(scope, receive)
            if copy.start["status"] == 200:
                self._copies[key] = copy
                while len(self._copies) > _MOST:
                    self._copies.popitem(last=False)
        else:
            copy = self._copies[key]
            self._copies.move_to_end(key)
        await send(dict(copy.start, headers=list(copy.start["headers"])))
        await send({"type": "http.response.body", "body": copy.body})

    async def _made(self, scope: Scope, receive: Receive) -> _Copy:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        return _Copy(messages[0], b"".join(message.get("body", b"") for message in messages[1:]))


def _key(scope: Scope) -> _Key:
    return (scope["method"], scope["scheme"], scope.get("root_path"), scope["path"], *sorted(scope["headers"]))
