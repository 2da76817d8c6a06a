"""A place among so many of one client, and the line of those who wait for one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from serving.http.problems import Problem

_HELD_BYTES = 64 << 10  # of a body that comes while its sender waits; who sends more is not watched any further


@dataclass
class _Client:
    places: asyncio.Semaphore  # first come, first served
    there: int = 0  # who has a place, and who waits


@dataclass
class Line:
    """For requests of one event loop. places: of one client at a time. waiting: how many more of it may wait."""

    places: int
    waiting: int
    _clients: dict[str, _Client] = field(default_factory=dict)

    @asynccontextmanager
    async def place(self, client: str, receive: Receive) -> AsyncIterator[Receive]:
        """Wait for one, and have it; what is yielded receives the request from its beginning.

        Raises Problem where too many wait, and ClientDisconnect for who hangs up meanwhile.
        """
        mine = self._clients.setdefault(client, _Client(asyncio.Semaphore(self.places)))
        if mine.there >= self.places + self.waiting:
            raise Problem(429, "too many requests at a time.", "rate_limit_exceeded", headers={"retry-after": "1"})
        mine.there += 1
        try:
            received = await _turn(mine.places, receive) if mine.places.locked() else await _at_once(mine.places)
            try:
                yield _after(received, receive)
            finally:
                mine.places.release()
        finally:
            mine.there -= 1
            if not mine.there:
                del self._clients[client]


async def _at_once(places: asyncio.Semaphore) -> list[Message]:
    await places.acquire()
    return []


async def _turn(places: asyncio.Semaphore, receive: Receive) -> list[Message]:
    """What came of a request until its turn. Raises ClientDisconnect for who is not there any more."""
    received: list[Message] = []
    has_place = False

    async def watch(scope: anyio.CancelScope) -> None:
        held = 0
        while held < _HELD_BYTES:
            received.append(await receive())
            held += len(received[-1].get("body", b""))
            if received[-1]["type"] == "http.disconnect":
                return scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        await places.acquire()
        has_place = True
        group.cancel_scope.cancel()
    if not has_place:
        raise ClientDisconnect
    if received and received[-1]["type"] == "http.disconnect":
        places.release()
        raise ClientDisconnect
    return received


def _after(received: list[Message], receive: Receive) -> Receive:
    """What has come already, then what comes."""
    waiting = received[::-1]

    async def both() -> Message:
        return waiting.pop() if waiting else await receive()

    return both
