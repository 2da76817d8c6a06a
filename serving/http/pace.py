"""How fast one client's requests are begun while others ask as well.

To read a request and to write its prompt takes milliseconds of the one thread that serves HTTP. Who asks and hangs up
without a pause would have nearly all of them: no other limit counts requests that have gone.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from anyio import Lock, sleep
from starlette.requests import ClientDisconnect

GAP_SECONDS = 0.05  # from one beginning to the next of the same client
_OTHERS_SECONDS = 1.0  # who has asked within them counts as there


@dataclass
class _Client:
    lock: Lock = field(default_factory=Lock)  # first come, first served
    asked: float = 0.0
    free: float = 0.0  # when the next may begin
    waiting: int = 0


class Pace:
    """Lets one client's requests begin one after the other, with a gap between them, while it is not the only one.

    For one event loop.
    """

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}

    async def turn(self, client: str, gone: Callable[[], Awaitable[bool]]) -> None:
        """Wait for it. gone: whether nobody waits for the answer any more; then ClientDisconnect is raised."""
        now = time.monotonic()
        mine = self._clients.setdefault(client, _Client())
        mine.asked = now
        self._clients = {
            name: each for name, each in self._clients.items() if each.waiting or now - each.asked < _OTHERS_SECONDS
        }
        if len(self._clients) == 1:
            return
        mine.waiting += 1
        try:
            async with mine.lock:
                if await gone():
                    raise ClientDisconnect
                await sleep(max(0.0, mine.free - time.monotonic()))
                mine.free = time.monotonic() + GAP_SECONDS
        finally:
            mine.waiting -= 1
