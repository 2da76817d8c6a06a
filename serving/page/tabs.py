"""The tabs that the page is open in, as far as the server must know them: so many, each of one client."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from serving.http.guessing import Buckets
from serving.http.problems import Problem

MOST_TABS, MOST_OF_ONE = 512, 32  # in all, and of one client
_NEW_AT_ONCE, _NEW_SECONDS = 32, 2.0  # tabs of one client: making one costs Gradio 20 ms
_MOST_PENDING, _MOST_STREAMS = 4, 2  # answers that one tab waits for, and connections that it reads them on
_MOST_UNREAD = 4  # answers that one client waits for and does not read: a tab begins to once it knows of one
_IDLE_SECONDS = 3600.0


class Answers(Protocol):
    """What Gradio makes for tabs, by their names."""

    def pending(self, name: str) -> int:
        """How many answers it makes for a tab, or has made and not sent."""

    async def forget(self, name: str) -> None:
        """End them, and keep nothing of the tab."""


@dataclass(slots=True)
class Tab:
    """joined: answers that it ever asked for. streams: connections that it reads them on now."""

    client: str
    used: float
    joined: int = 0
    streams: int = 0


class Tabs:
    """By the name that each gave itself. `now` is in seconds, of any clock."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._tabs: dict[str, Tab] = {}
        self._new = Buckets(_NEW_AT_ONCE, _NEW_SECONDS)

    async def enter(self, name: str, client: str, now: float) -> Tab:
        """The tab of a request, which may be new. Raises Problem."""
        if name in self._tabs:
            return self.known(name, client, now)
        if self._new.wait(client, now):
            raise _busy("too many new tabs: try again in a moment.")
        await self._make_room(client, now)
        self._new.take(client, now)
        return self._tabs.setdefault(name, Tab(client, now))

    def known(self, name: str, client: str, now: float) -> Tab:
        """A tab that is known already, and this client's. Raises Problem."""
        tab = self._tabs.get(name)
        if tab is None or tab.client != client:
            raise Problem(404, "this tab is not known here: load the page again.", "unknown_session")
        tab.used = now
        return tab

    def waits(self, name: str) -> bool:
        """Whether a tab waits for an answer. It may have read one before it has heard that it is to come."""
        return self._answers.pending(name) > 0

    def join(self, name: str, tab: Tab) -> int:
        """It asks for an answer: its how manyth. Raises Problem where it waits for too many."""
        if self._answers.pending(name) >= _MOST_PENDING:
            raise _busy("this tab waits for answers already: wait for one to end.")
        theirs = (other for other, each in self._tabs.items() if each.client == tab.client and not each.streams)
        if sum(map(self._answers.pending, theirs)) >= _MOST_UNREAD:
            raise _busy("answers are made already that nobody reads: try again in a moment.")
        tab.joined += 1
        return tab.joined

    async def streamed(self, name: str, tab: Tab, stream: Callable[[], Awaitable[None]]) -> None:
        """Read its answers. Raises Problem where it reads them already."""
        if tab.streams >= _MOST_STREAMS:
            raise _busy("this tab reads its answers already.")
        tab.streams += 1
        joined = tab.joined
        try:
            await stream()
        finally:
            tab.streams -= 1
            await self.unread(name, tab, joined)

    async def unread(self, name: str, tab: Tab, joined: int) -> None:
        """Unless it reads them, end the answers that it asked for up to `joined`; later ones may be read yet."""
        if not tab.streams and tab.joined == joined:
            await self._answers.forget(name)

    async def _make_room(self, client: str, now: float) -> None:
        tabs = self._tabs.items()
        idle = [(tab.used, name) for name, tab in tabs if not (tab.streams or self._answers.pending(name))]
        own = [name for _, name in sorted(idle) if self._tabs[name].client == client]
        gone = [name for used, name in idle if now - used > _IDLE_SECONDS]
        if not gone and sum(tab.client == client for tab in self._tabs.values()) >= MOST_OF_ONE:
            gone = own[:1]
            if not gone:
                raise _busy(f"one client may have the page open {MOST_OF_ONE} times: close a tab.")
        if not gone and len(self._tabs) >= MOST_TABS:
            gone = [min(idle)[1]] if idle else []
            if not gone:
                raise Problem(503, "the page is open too many times: try again in a moment.", "busy")
        for name in gone:
            del self._tabs[name]
        for name in gone:
            await self._answers.forget(name)


def _busy(message: str) -> Problem:
    return Problem(429, message, "rate_limit_exceeded", headers={"retry-after": "2"})
