"""Room for long bodies: by address and in all."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

import serving.http.room
from serving.http.addresses import networks_in
from serving.http.place import MOST_BYTES, Place
from serving.http.problems import Problem
from serving.http.room import MOST_HELD, OF_ONE, SHORT

AT_ONCE = OF_ONE // MOST_BYTES
Ask = Callable[..., Awaitable[None]]


class Bodies:
    """Requests to a place whose bodies are read, and which are not answered before `ended`."""

    def __init__(self) -> None:
        self.told: list[str] = []  # of each body: who sent it, and how far it came
        self.ended = asyncio.Event()
        self._place = Place(self._app, set(), (), networks_in(["10.0.0.1"], "--proxy"))

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = scope["name"]
        self.told.append(f"{who} asks")
        with suppress(Problem):
            await Request(scope, receive).body()
            self.told.append(f"{who} read")
            await self.ended.wait()
            return
        self.told.append(f"{who} 503")

    async def ask(
        self, address: str, size: int = MOST_BYTES, chunked: bool = False, behind: str = "", half: bool = False
    ) -> None:
        """One request with a body of `size` bytes; half: the rest of which never comes."""
        name = behind or address
        headers = [(b"host", b"localhost"), (b"x-forwarded-for", name.encode())]
        headers += [] if chunked else [(b"content-length", str(size).encode())]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": headers,
            "client": (address, 1),
            "name": name,
        }
        pieces = [b" " * (size // 2), b" " * (size - size // 2)]

        async def receive() -> Message:
            if half and len(pieces) == 1:
                await self.ended.wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Message) -> None:
            pass

        await self._place(scope, receive, send)

    async def all_wait(self) -> None:
        """Until nothing goes on any more without something from outside."""
        for _ in range(20 + 4 * len(self.told)):
            await asyncio.sleep(0)


def run(go: Callable[[Bodies, asyncio.TaskGroup], Awaitable[None]]) -> list[str]:
    async def all_of_it() -> list[str]:
        bodies = Bodies()
        async with asyncio.TaskGroup() as group:
            await go(bodies, group)
            bodies.ended.set()
        return bodies.told

    return asyncio.run(all_of_it())


@pytest.mark.parametrize("half", [False, True])
def test_an_address_with_many_long_bodies_waits_and_others_do_not(half: bool) -> None:
    seen: dict[str, list[str]] = {}

    async def go(bodies: Bodies, group: asyncio.TaskGroup) -> None:
        for _ in range(AT_ONCE + 3):
            group.create_task(bodies.ask("1.1.1.1", half=half))
        await bodies.all_wait()
        group.create_task(bodies.ask("2.2.2.2"))
        group.create_task(bodies.ask("1.1.1.1", size=SHORT))
        await bodies.all_wait()
        seen["before"] = list(bodies.told)

    told = run(go)
    assert seen["before"].count("1.1.1.1 read") == (0 if half else AT_ONCE) + 1  # the short one
    assert seen["before"].count("2.2.2.2 read") == 1
    assert told.count("1.1.1.1 read") == AT_ONCE + 4  # each had its turn


def test_chunked_bodies_take_room_for_as_much_as_may_come() -> None:
    seen: list[str] = []

    async def go(bodies: Bodies, group: asyncio.TaskGroup) -> None:
        for _ in range(AT_ONCE + 2):
            group.create_task(bodies.ask("1.1.1.1", size=4 * SHORT, chunked=True))
        await bodies.all_wait()
        seen.extend(bodies.told)

    run(go)
    assert seen.count("1.1.1.1 read") == AT_ONCE


def test_who_waits_for_too_long_is_told_so_and_room_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.room, "PATIENCE_SECONDS", 0.01)

    async def go(bodies: Bodies, group: asyncio.TaskGroup) -> None:
        for _ in range(AT_ONCE):
            group.create_task(bodies.ask("1.1.1.1"))
        await bodies.all_wait()
        await bodies.ask("1.1.1.1")
        bodies.ended.set()
        await bodies.all_wait()
        await bodies.ask("1.1.1.1")

    told = [each for each in run(go) if "asks" not in each]
    assert told == [*["1.1.1.1 read"] * AT_ONCE, "1.1.1.1 503", "1.1.1.1 read"]


def test_all_addresses_together_have_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.http.room, "PATIENCE_SECONDS", 0.01)

    async def go(bodies: Bodies, group: asyncio.TaskGroup) -> None:
        for number in range(MOST_HELD // MOST_BYTES):
            group.create_task(bodies.ask(f"1.1.1.{number}"))
        await bodies.all_wait()
        await bodies.ask("2.2.2.2")

    told = run(go)
    assert sum("read" in each for each in told) == MOST_HELD // MOST_BYTES
    assert told[-1] == "2.2.2.2 503"


def test_behind_a_proxy_each_has_room_of_their_own() -> None:
    seen: list[str] = []

    async def go(bodies: Bodies, group: asyncio.TaskGroup) -> None:
        for behind in ["3.3.3.3"] * (AT_ONCE + 1) + ["4.4.4.4"]:
            group.create_task(bodies.ask("10.0.0.1", behind=behind))
        await bodies.all_wait()
        seen.extend(bodies.told)

    run(go)
    assert (seen.count("3.3.3.3 read"), seen.count("4.4.4.4 read")) == (AT_ONCE, 1)
