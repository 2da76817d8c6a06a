"""Seeded choice: every pool of wordings and values is divided into a train part and a held-out part, here."""

import random
import re
import zlib
from collections.abc import Sequence
from typing import Literal, TypeVar

Split = Literal["train", "heldout"]
T = TypeVar("T")

_HELD_EVERY = 6
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"(\{\w+\})")

_OPENERS = ("Please: ", "Hey, ", "Ok, ", "So, ", "Quick question: ", "Now then, ", "Hi! ", "And ", "Um, ", "Alright, ",
            "Next: ", "One more thing. ")
_CLOSERS = (" please", " Thanks!", " thanks", " :)", " please?", " pls", " if you can", " for me", " right now", " ok?",
            " Thank you!", " now")
_SHORTER = (("What is", "What's"), ("What is", "Whats"), ("what is", "what's"), ("I am", "I'm"), ("Who is", "Who's"),
            ("do not", "don't"), ("Can you", "Could you"), ("Tell me", "Please tell me"), ("you are", "you're"),
            ("cannot", "can't"), ("What are", "What're"), ("Please", "Pls"))


def is_held(index: int, size: int) -> bool:
    """Which entries of a pool are held out: every sixth, or the last one of a short pool. The first never is."""
    return index % _HELD_EVERY == _HELD_EVERY - 1 or (size < _HELD_EVERY and index == size - 1)


def value_split(*parts: object) -> Split:
    """The split that a made-up value (a word, a pair of numbers) belongs to: one in eight is held out."""
    key = "\x1f".join(map(str, parts)).lower()
    return "heldout" if zlib.crc32(key.encode()) % 8 == 0 else "train"


class Draw:
    """Random choices for one conversation: values and wordings of one split, and one user's typing habits."""

    def __init__(self, split: Split, rng: random.Random) -> None:
        self.split: Split = split
        self.rng = rng
        self._lower = rng.random() < 0.35
        self._unpunctuated = rng.random() < 0.4
        self._typo_rate = 0.25 if rng.random() < 0.15 else 0.0
        self._chatty = 0.3 if rng.random() < 0.35 else 0.05

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.rng.random() < probability

    def any(self, pool: Sequence[T]) -> T:
        """An entry that both splits share: wordings of answers, and facts of the world."""
        return self.rng.choice(pool)

    def some(self, pool: Sequence[T], count: int) -> list[T]:
        """`count` different entries of this split."""
        chosen: list[T] = []
        while len(chosen) < count:
            entry = self.value(pool)
            if entry not in chosen:
                chosen.append(entry)
        return chosen

    def value(self, pool: Sequence[T]) -> T:
        """An entry of this split; the other split never gets it from this pool."""
        size = len(pool)
        if size < 2:
            raise ValueError(f"a pool of {size} cannot be divided into train and held-out: {pool!r}")
        wanted = self.split == "heldout"
        while True:
            index = self.rng.randrange(size)
            if is_held(index, size) == wanted:
                return pool[index]

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high (both included) that belongs to this split."""
        while True:
            number = self.rng.randint(low, high)
            if high - low < 8 or value_split("number", number) == self.split:
                return number

    def phrase(self, pool: Sequence[str], **slots: object) -> str:
        """A user's wording of this split: `[a|b]` chosen, `{slot}` filled, typed the way this user types."""
        return self._typed(self.fill(self.value(pool), typo_rate=self._typo_rate, **slots))

    def reply(self, pool: Sequence[str], **slots: object) -> str:
        """An assistant's wording (shared by both splits): `[a|b]` chosen and `{slot}` filled."""
        return self.fill(self.rng.choice(pool), **slots)

    def fill(self, template: str, typo_rate: float = 0.0, **slots: object) -> str:
        """Choose every `[a|b]` and fill every `{slot}`; typos never touch a slot's value."""
        text = _CHOICE.sub(lambda found: self.rng.choice(found[1].split("|")), template)
        if typo_rate and self.chance(typo_rate):
            text = self._mistyped(text)
        return text.format_map(slots) if "{" in text else text

    def _typed(self, text: str) -> str:
        for full, short in _SHORTER:
            if full in text and self.chance(0.2):
                text = text.replace(full, short, 1)
        text = text[:1].upper() + text[1:]
        if self.chance(self._chatty):
            text = self._with_extras(text)
        if self._unpunctuated:
            text = text.rstrip(".?!")
        return text.lower() if self._lower else text

    def _with_extras(self, text: str) -> str:
        if self.chance(0.5):
            opener = self.value(_OPENERS)
            return opener + (text if opener.endswith((": ", "! ", ". ")) else text[:1].lower() + text[1:])
        closer = self.value(_CLOSERS)
        mark = text[-1] if text[-1] in ".?!" else ""
        body = text.rstrip(".?!")
        return f"{body}{mark}{closer}" if closer.strip()[0].isupper() else f"{body}{closer}{mark}"

    def _mistyped(self, text: str) -> str:
        """Swap, drop or double one letter of one longer word outside the slots."""
        pieces = _SLOT.split(text)
        words = [(i, m) for i, piece in enumerate(pieces) if i % 2 == 0 for m in re.finditer(r"[A-Za-z]{5,}", piece)]
        if not words:
            return text
        where, found = self.rng.choice(words)
        word, at = found[0], self.rng.randrange(1, len(found[0]) - 1)
        kind = self.rng.randrange(3)
        if kind == 0:
            wrong = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        elif kind == 1:
            wrong = word[:at] + word[at + 1 :]
        else:
            wrong = word[:at] + word[at] + word[at:]
        pieces[where] = pieces[where][: found.start()] + wrong + pieces[where][found.end() :]
        return "".join(pieces)
