"""Memory for bodies of requests: who sends many long ones, or halves of them, waits; nobody else does."""

import asyncio
from collections import Counter

from serving.http.problems import Problem

MOST_HELD = 128 << 20  # bytes of long bodies that have not been answered yet, all of them together
OF_ONE = 8 << 20  # of one address, or one /64 of IPv6
SHORT = 64 << 10  # not counted: connections are
PATIENCE_SECONDS = 10.0  # that a long body is not read for want of room


class Room:
    """What long bodies have taken of it, by address. A body is let in whole: none waits for room for its rest."""

    def __init__(self) -> None:
        self._all = 0
        self._of: Counter[str] = Counter()
        self._left = asyncio.Condition()

    async def enter(self, address: str, size: int) -> None:
        """Wait for so many bytes. Raises Problem where there is no room for too long."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._left:
                await self._left.wait_for(lambda: self._has_room(address, size))
                self._all += size
                self._of[address] += size
        except TimeoutError:
            message = "too many long requests at a time: try again in a moment."
            raise Problem(503, message, "busy", headers={"retry-after": "1"}) from None

    async def leave(self, address: str, size: int) -> None:
        """So many bytes are free again."""
        async with self._left:
            self._all -= size
            self._of[address] -= size
            self._of += Counter()  # drops those who have none
            self._left.notify_all()

    def _has_room(self, address: str, size: int) -> bool:
        return self._all + size <= MOST_HELD and self._of[address] + size <= OF_ONE
