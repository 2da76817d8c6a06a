"""Who asks a lot leaves time for others."""

import anyio
import pytest
from anyio.abc import TaskGroup
from starlette.requests import ClientDisconnect

from serving.http import pace
from serving.http.pace import Pace

pytestmark = pytest.mark.anyio
SPAN, GAP = 1.0, 0.1


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gap that a slow machine cannot be taken for."""
    monkeypatch.setattr(pace, "GAP_SECONDS", GAP)


@pytest.fixture
def anyio_backend() -> str:
    """The server's own."""
    return "asyncio"


async def there() -> bool:
    """A client that waits."""
    return False


async def hung_up() -> bool:
    """A client that has gone."""
    return True


async def begun(turns: Pace, client: str, count: int) -> list[str]:
    """Which of so many requests at once are begun within the span."""
    came: list[str] = []

    async def one() -> None:
        await turns.turn(client, there)
        came.append(client)

    with anyio.move_on_after(SPAN):
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)
    return came


async def test_who_is_alone_waits_for_nothing() -> None:
    """However many requests it has."""
    assert len(await begun(Pace(), "a", 500)) == 500


async def test_beside_another_requests_begin_one_after_the_other() -> None:
    """And the other's first one at once, however many wait."""
    turns = Pace()
    await turns.turn("b", there)
    async with anyio.create_task_group() as group:
        crowd = _running(group, turns)
        await anyio.sleep(GAP)
        with anyio.fail_after(GAP / 2):
            await turns.turn("b", there)
        await anyio.sleep(SPAN)
        group.cancel_scope.cancel()
    assert 3 <= len(crowd) <= (SPAN + 2 * GAP) / GAP + 1


def _running(group: TaskGroup, turns: Pace) -> list[int]:
    """What a crowd of one client's has begun; it grows."""
    came: list[int] = []

    async def one(number: int) -> None:
        await turns.turn("a", there)
        came.append(number)

    for number in range(200):
        group.start_soon(one, number)
    return came


async def test_what_has_hung_up_takes_no_time_of_those_that_wait() -> None:
    """It is not begun, and no gap follows it."""
    turns = Pace()
    await turns.turn("b", there)
    gone = 0

    async def dropped() -> None:
        nonlocal gone
        try:
            await turns.turn("a", hung_up)
        except ClientDisconnect:
            gone += 1

    with anyio.fail_after(SPAN):
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(dropped)
        await turns.turn("a", there)
    assert gone == 300


async def test_those_who_have_not_asked_for_a_while_are_forgotten() -> None:
    """So that nobody is slowed for somebody who has left, and no list of addresses grows."""
    turns = Pace()
    for number in range(50):
        await turns.turn(f"other {number}", there)
    await anyio.sleep(1.1)
    assert len(await begun(turns, "a", 100)) == 100
    assert len(turns._clients) == 1
