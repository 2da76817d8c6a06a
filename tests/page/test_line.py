"""Who posts a lot waits for its place, and is refused only where too many wait."""

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect
from starlette.types import Message

from serving.http.problems import Problem
from serving.page.line import Line

pytestmark = pytest.mark.anyio
MANY = 20  # turns of the event loop: more than any of these takes


@pytest.fixture
def anyio_backend() -> str:
    """The server's own."""
    return "asyncio"


class Sender:
    """Somebody whose post comes in pieces, who may hang up, and what became of the post."""

    def __init__(self, line: Line, client: str = "a", pieces: tuple[bytes, ...] = (b"one", b"two")) -> None:
        self._line, self._client, self._pieces = line, client, list(pieces)
        self.leave, self.done = anyio.Event(), anyio.Event()
        self.state, self.body = "waits", b""

    async def receive(self) -> Message:
        if self._pieces:
            return {"type": "http.request", "body": self._pieces.pop(0), "more_body": bool(self._pieces)}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def post(self) -> None:
        try:
            async with self._line.place(self._client, self.receive) as received:
                self.state, more = "has it", True
                while more:
                    message = await received()
                    self.body, more = self.body + message["body"], message["more_body"]
                await self.done.wait()
            self.state = "answered"
        except Problem as problem:
            self.state = str(problem.status)
        except ClientDisconnect:
            self.state = "gone"


async def settled() -> None:
    for _ in range(MANY):
        await checkpoint()


async def test_who_comes_when_all_places_are_taken_waits_and_is_answered_in_turn() -> None:
    line = Line(places=2, waiting=3)
    senders = [Sender(line) for _ in range(5)]
    async with anyio.create_task_group() as group:
        for sender in senders:
            group.start_soon(sender.post)
        await settled()
        assert [sender.state for sender in senders] == ["has it"] * 2 + ["waits"] * 3
        senders[1].done.set()
        await settled()
        assert [sender.state for sender in senders] == ["has it", "answered", "has it", "waits", "waits"]
        other = Sender(line, "b")  # another client has places of its own
        group.start_soon(other.post)
        await settled()
        assert other.state == "has it"
        for sender in (*senders, other):
            sender.done.set()
    assert all((sender.state, sender.body) == ("answered", b"onetwo") for sender in senders)
    assert not line._clients  # nothing is kept of who has gone


async def test_who_hangs_up_leaves_the_line() -> None:
    line = Line(places=1, waiting=2)
    first, gone, last, refused, later = (Sender(line) for _ in range(5))
    async with anyio.create_task_group() as group:
        for sender in (first, gone, last, refused):
            group.start_soon(sender.post)
            await settled()
        assert (last.state, refused.state) == ("waits", "429")
        gone.leave.set()
        await settled()
        group.start_soon(later.post)  # its place in the line is free again
        await settled()
        assert (gone.state, later.state) == ("gone", "waits")
        first.done.set()
        await settled()
        assert (last.state, later.state) == ("has it", "waits")
        last.done.set()
        later.done.set()
    assert (last.state, later.state) == ("answered", "answered") and not line._clients


async def test_of_a_long_body_little_is_held_while_it_waits() -> None:
    line = Line(places=1, waiting=1)
    first, long = Sender(line), Sender(line, pieces=(b"x" * (40 << 10),) * 5)
    async with anyio.create_task_group() as group:
        group.start_soon(first.post)
        await settled()
        group.start_soon(long.post)
        await settled()
        assert long.state == "waits" and len(long._pieces) == 3
        first.done.set()
        long.done.set()
    assert long.state == "answered" and len(long.body) == 5 * (40 << 10)
