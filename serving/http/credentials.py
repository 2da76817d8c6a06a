"""Keys, the login, and the cookie that remembers who has logged in until the server ends."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from serving.http.guessing import digest

COOKIE = "oga-chat"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is asked for. The password is a key too, and a key opens the page as a password does."""

    login: tuple[str, str] | None = field(default=None, repr=False)
    keys: tuple[str, ...] = field(default=(), repr=False)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def asked(self) -> bool:
        """Whether there are any."""
        return bool(self.login or self.keys)

    def know_key(self, given: str) -> bool:
        """Whether it is one of the keys, in a time that does not depend on it."""
        keys = (*self.keys, *([self.login[1]] if self.login else []))
        return any([_same(given, key) for key in keys])  # every one is compared

    def know_login(self, user: str, password: str) -> bool:
        """Whether they open the page."""
        names = self.login is not None and _same(user, self.login[0])
        return (names and _same(password, self.login[1] if self.login else "")) or self.know_key(password)

    def cookie(self) -> str:
        """What a browser keeps once its reader has logged in. It is worth nothing to another run of the server."""
        name = secrets.token_urlsafe(12)
        return f"{name}.{self._mac(name)}"

    def holder(self, cookie: str) -> str | None:
        """The name in a cookie of this run; None for any other. Nobody guesses one."""
        name, _, proof = cookie.partition(".")
        return name if name and _same(proof, self._mac(name)) else None

    def name_of(self, key: str, address: str) -> str:
        """Whoever uses a key from an address, by a name that tells neither."""
        return self._mac(f"{key}\0{address}")[:16]

    def _mac(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(digest(a), digest(b))
