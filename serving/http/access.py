"""Who may use the server: in front of every route, the page's included.

1. Host: a page on the internet can make a browser resolve its own name to this machine (DNS rebinding). Its requests
   then carry that name, which nobody gave this server.
2. Origin: a page elsewhere may not use the reader's browser, or login, to ask this server.
3. Credentials: an API key, or a login that a cookie remembers until the server ends.
4. How long a body may be.

And, where answers are made, how many of them one client may have at a time.
"""

import secrets
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Scope

from serving.errors import LimitReached
from serving.http.addresses import Network
from serving.http.credentials import COOKIE, Credentials
from serving.http.guessing import Guesses
from serving.http.person import Person
from serving.http.place import MOST_BYTES, Place
from serving.http.wrapper import REQUEST_ID

__all__ = ["COOKIE", "MOST_BYTES", "Access", "Places", "client_of", "hosts_of"]


@dataclass(frozen=True)
class Access:
    """What is asked of a client.

    login: user and password. keys: API keys; the password is one too, and a key opens the page as a password does.
    Without either, whoever passes the other checks may do everything.
    origins: of web pages elsewhere that may use the API, as https://chat.example. hosts: names that this server is
    reached by, besides localhost, this machine's own name and plain addresses.
    proxies: whose X-Forwarded-For is believed. guesses: how fast keys may be guessed.
    """

    login: tuple[str, str] | None = field(default=None, repr=False)
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    hosts: set[str] = field(default_factory=set)
    proxies: tuple[Network, ...] = ()
    guesses: Guesses = field(default_factory=Guesses, repr=False)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def credentials(self) -> Credentials:
        """Keys, login and cookies."""
        return Credentials(self.login, self.keys, self.secret)

    def middleware(self) -> list[Middleware]:
        """What stands in front of an application, outermost first."""
        cors = Middleware(
            CORSMiddleware, allow_origins=self.origins, allow_methods=["GET", "POST"], allow_headers=["*"],
            expose_headers=[REQUEST_ID],
        )  # fmt: skip
        return [
            Middleware(Place, self.hosts, self.origins, self.proxies),
            *([cors] if self.origins else []),
            Middleware(Person, self.credentials, self.guesses),
        ]


def hosts_of(host: str, more: Sequence[str] = ()) -> set[str]:
    """The names that a server listening on `host` is reached by, lower case."""
    machine = socket.gethostname().lower()
    bare = host.strip("[]").lower()
    return {machine, f"{machine}.local", *([bare] if bare else []), *(name.lower() for name in more)}


class Places:
    """How many answers each client has or waits for, of `limit` at most; None lets everybody have all."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()  # the page's answers are made on threads

    @contextmanager
    def taken(self, client: str, places: int) -> Iterator[None]:
        """Places for as long as the answers take. Raises LimitReached where the client has too many."""
        with self._lock:
            if self.limit is not None and self._taken[client] + places > self.limit:
                most = f"one client may have {self.limit} answers at a time, those that wait included"
                raise LimitReached(f"{most}: wait for one to end.")
            self._taken[client] += places
        try:
            yield
        finally:
            with self._lock:
                self._taken[client] -= places
                self._taken += Counter()  # drops those who have none


def client_of(scope: Scope) -> str:
    """The name that the request's sender was given on the way in."""
    return str(scope.get("state", {}).get("client", ""))
