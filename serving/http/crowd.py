"""How many connections there may be, in all and from one address, and which of them makes room for another."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from serving.errors import InvalidRequest
from serving.http.addresses import Network, network_of, within

MOST_CONNECTIONS = 1024  # where the system lets a process have so many files
_SHARE = 4  # one address may have a quarter of them
_KEPT = 64  # descriptors for everything else: the engine's pipes, files, libraries
_FEWEST = 8
_GAP_SECONDS, _AT_ONCE = 0.005, 16  # between what one address begins while others ask, after so many that it may
_OTHERS_SECONDS = 1.0  # who has asked within them counts as there
_QUIET_SECONDS = 30.0  # between two lines about the same thing
logger = logging.getLogger("oga_chat")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may cost. Times are in seconds.

    connections: in all; from_address: from one address, or one /64 of IPv6. proxies: addresses that may have all.
    head: from a connection's or a request's first byte to the end of its headers. body: for a whole body, and one more
    for each `body_rate` bytes of it. idle: between two requests; longer than the pools of clients keep a connection.
    lingering: for the rest of a body that has been answered already.
    stalled: without `progress` bytes taken by a client that has more to read.
    """

    connections: int = MOST_CONNECTIONS
    from_address: int = MOST_CONNECTIONS // _SHARE
    proxies: tuple[Network, ...] = ()
    head: float = 20.0
    body: float = 30.0
    body_rate: int = 8 << 10
    idle: float = 75.0
    lingering: float = 5.0
    stalled: float = 30.0
    progress: int = 16 << 10


def limits_for(
    descriptors: int, connections: int | None, from_address: int | None, proxies: Sequence[Network] = ()
) -> Limits:
    """Limits for a process that may have so many descriptors; None takes the default. Raises InvalidRequest."""
    most = max(_FEWEST, min(MOST_CONNECTIONS, descriptors * 3 // 4 - _KEPT))
    for flag, given in (("--max-connections", connections), ("--max-connections-per-client", from_address)):
        if given is not None and given < 1:
            raise InvalidRequest(f"{flag} must be 1 or more, not {given}.")
    if connections is not None and connections > descriptors - _KEPT:
        raise InvalidRequest(
            f"--max-connections {connections} needs more files than this process may have open ({descriptors}): "
            f"raise the limit (ulimit -n), or take at most {max(1, descriptors - _KEPT)}."
        )
    total = connections or most
    return Limits(total, from_address or max(1, total // _SHARE), tuple(proxies))


def descriptors() -> int:
    """How many files this process may have open."""
    try:
        import resource
    except ImportError:  # Windows: sockets are no files there
        return 1 << 16
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else soft


class Member(Protocol):
    """A connection, to the crowd."""

    def make_room(self) -> None:
        """End now: nothing of this connection's is being answered."""

    def sweep(self, now: float) -> None:
        """End if anything takes longer than it may."""


class Crowd:
    """The connections that there are. Those that wait for a request, or for the rest of one, are idle.

    An idle one gives way, the longest idle first, when there are too many.
    """

    def __init__(self, limits: Limits, notes: "Notes | None" = None) -> None:
        self.limits = limits
        self.notes = notes or Notes()
        self._all = _Group()
        self._near: dict[str, _Group] = {}
        self._network: dict[Member, str] = {}
        self._free: dict[str, float] = {}  # from when on an address may begin as many as any
        self._asked: dict[str, float] = {}  # when it last began one

    @property
    def members(self) -> list[Member]:
        """Those that there are now."""
        return list(self._network)

    def enter(self, member: Member, address: str) -> bool:
        """Take one in, which is idle; False if there is no room, and none can be made."""
        network = network_of(address)
        near, limits = self._near.get(network, _Group()), self.limits
        if not within(address, limits.proxies) and not self._has_room(near, limits.from_address, f"from {network}"):
            return False
        if not self._has_room(self._all, limits.connections, "in all"):
            return False
        self._network[member] = network
        for group in (self._all, self._near.setdefault(network, near)):
            group.count += 1
            group.idle[member] = None
        return True

    def leave(self, member: Member) -> None:
        """One has gone, or is about to."""
        network = self._network.pop(member, None)
        if network is None:
            return
        for group in (self._all, self._near[network]):
            group.count -= 1
            group.idle.pop(member, None)
        if not self._near[network].count:
            del self._near[network]

    def set_idle(self, member: Member, idle: bool) -> None:
        """Whether it can be ended without a loss to an answer."""
        network = self._network.get(member)
        for group in (self._all, self._near[network]) if network is not None else ():
            if idle:
                group.idle.setdefault(member, None)
            else:
                group.idle.pop(member, None)

    def turn(self, address: str, now: float) -> float:
        """Seconds until an address may begin one more request: many at once would hold up all others for as long.

        0 where nobody else asks, and for a proxy.
        """
        network = network_of(address)
        self._asked = {name: at for name, at in self._asked.items() if now - at < _OTHERS_SECONDS} | {network: now}
        self._free = {name: at for name, at in self._free.items() if at > now}
        if len(self._asked) == 1 or within(address, self.limits.proxies):
            return 0.0
        free = self._free.get(network, now) + _GAP_SECONDS
        self._free[network] = free
        return max(0.0, free - _AT_ONCE * _GAP_SECONDS - now)

    def _has_room(self, group: "_Group", most: int, whose: str) -> bool:
        if group.count < most:
            return True
        self.notes.note(f"more than {most} connections {whose}")
        oldest = next(iter(group.idle), None)
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.make_room()
        return True


class _Group:
    """How many connections there are, and the idle ones in the order in which they became idle."""

    def __init__(self) -> None:
        self.count = 0
        self.idle: dict[Member, None] = {}


class Notes:
    """Lines on stderr, at most one in a while about the same thing, and about few things."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}  # when last, and how many times since

    def note(self, text: str) -> None:
        """Say it, or count it."""
        now = self._clock()
        then, times = self._said.get(text, (-_QUIET_SECONDS, 0))
        if now - then < _QUIET_SECONDS:
            self._said[text] = then, times + 1
            return
        if len(self._said) >= 64:
            self._said.clear()
        self._said[text] = now, 0
        logger.warning("note: %s%s", text, f" ({times + 1} times since it was last said)" if times else "")
