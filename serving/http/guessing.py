"""How fast keys and passwords may be guessed: a few wrong ones at once, then one in a while, by address and in all.

A right key would be refused with the wrong ones only where it could be a guess: it is short, it comes from an address
that has just been wrong, and it has not been right from there before.
"""

import hashlib
from collections import OrderedDict

_MOST_NAMES = 4096  # that are remembered; each takes about 200 bytes
_UNGUESSABLE = 12  # characters: at a thousand a second, ages, even if they were all digits
_FEWEST_KINDS = 6  # of characters among them, or it is a pattern


class Buckets:
    """Tokens by name. Each name has `burst` of them, and gets one back every `seconds`.

    Of more names than `most`, the one that was longest not seen is forgotten.
    """

    def __init__(self, burst: int, seconds: float, most: int = _MOST_NAMES) -> None:
        self.burst, self.seconds, self.most = burst, seconds, most
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was

    def __len__(self) -> int:
        return len(self._left)

    def wait(self, name: str, now: float) -> float:
        """Seconds until it has a token; 0 if it has one."""
        return max(0.0, (1 - self._tokens(name, now)) * self.seconds)

    def take(self, name: str, now: float) -> None:
        """Take a token, or what there is of one."""
        self._left[name] = max(0.0, self._tokens(name, now) - 1), now
        self._left.move_to_end(name)
        if len(self._left) > self.most:
            self._left.popitem(last=False)

    def _tokens(self, name: str, now: float) -> float:
        tokens, then = self._left.get(name, (self.burst, now))
        return min(self.burst, tokens + (now - then) / self.seconds)


class Guesses:
    """Wrong keys and passwords of late, and which addresses were right before. `now` is in seconds, of any clock."""

    def __init__(self, by_address: Buckets | None = None, in_all: Buckets | None = None) -> None:
        self._by_address = Buckets(8, 4.0) if by_address is None else by_address
        self._in_all = Buckets(100, 0.5) if in_all is None else in_all
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Seconds until a guess from there is looked at."""
        return max(self._by_address.wait(address, now), self._in_all.wait("", now))

    def was_wrong(self, address: str, now: float) -> None:
        """Count a guess that was looked at."""
        self._by_address.take(address, now)
        self._in_all.take("", now)

    def was_right(self, address: str, secret: str) -> None:
        """From now on this key is heard from there, whatever else comes from there."""
        self._right[address, digest(secret)] = None
        self._right.move_to_end((address, digest(secret)))
        if len(self._right) > _MOST_NAMES:
            self._right.popitem(last=False)

    def is_no_guess(self, address: str, secret: str) -> bool:
        """Whether a secret that is right can have been no guess: nobody guesses it, or it was right from there."""
        long = len(secret) >= _UNGUESSABLE and len(set(secret)) >= _FEWEST_KINDS
        return long or (address, digest(secret)) in self._right


def digest(secret: str) -> bytes:
    """Its SHA-256, to compare by: not even the length shows."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()
