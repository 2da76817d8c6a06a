"""Seeded choice: every wording and value comes from the train part or from the held-out part of its pool."""

import random
import re
import zlib
from collections.abc import Sequence
from typing import TypeVar

from builder.demo import Split
from builder.demo.training.wording import (
    CLOSERS,
    OPENERS,
    Pool,
    divide,
    framings,
    held_keys,
    train_wordings,
    wording_key,
)

T = TypeVar("T")

_HELD_EVERY = 6
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"(\{\w+\})")
_FILLERS = (
    "please",
    "um",
    "just",
    "well",
    "like",
    "really",
    "maybe",
    "so",
    "kindly",
    "now",
    "then",
    "actually",
    "you know",
    "eh",
    "simply",
    "also",
)
_SHORTER = (
    ("What is", "What's"),
    ("What is", "Whats"),
    ("what is", "what's"),
    ("I am", "I'm"),
    ("Who is", "Who's"),
    ("do not", "don't"),
    ("Can you", "Could you"),
    ("you are", "you're"),
    ("cannot", "can't"),
    ("Please", "Pls"),
    ("colour", "color"),
    ("favourite", "favorite"),
    ("you", "u"),
    ("I would", "I'd"),
    ("Do you", "Do u"),
    ("tell me", "tell me pls"),
)


def is_held(index: int, size: int) -> bool:
    """Which values of a pool are held out: every sixth, or the last one of a short pool. The first never is."""
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
        self._typo_rate = 0.3 if rng.random() < 0.15 else 0.0
        self._chatty = 0.3 if rng.random() < 0.35 else 0.05
        # Only training is this rough: leaving words out teaches not to hang on any single one.
        self._rough = 0.4 if split == "train" and rng.random() < 0.25 else 0.0

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.rng.random() < probability

    def any(self, pool: Sequence[T]) -> T:
        """An entry that both splits share: wordings of answers, and facts of the world."""
        return self.rng.choice(pool)

    def some(self, pool: Sequence[T], count: int) -> list[T]:
        """`count` different values of this split."""
        chosen: list[T] = []
        while len(chosen) < count:
            entry = self.value(pool)
            if entry not in chosen:
                chosen.append(entry)
        return chosen

    def value(self, pool: Sequence[T]) -> T:
        """A value of this split; the other split never gets it from this pool."""
        size = len(pool)
        if size < 2:
            raise ValueError(f"a pool of {size} cannot be divided into train and held-out: {pool!r}")
        wanted = self.split == "heldout"
        while True:
            index = self.rng.randrange(size)
            if is_held(index, size) == wanted:
                return pool[index]

    def wording(self, pool: Pool) -> str:
        """A wording of this split, as it is."""
        train, held = divide(pool)
        return self.rng.choice(held if self.split == "heldout" else train)

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high (both included) that belongs to this split."""
        while True:
            number = self.rng.randint(low, high)
            if high - low < 8 or value_split("number", number) == self.split:
                return number

    def phrase(self, pool: Pool, **slots: object) -> str:
        """A user's wording of this split: `[a|b]` chosen, `{slot}` filled, typed the way this user types.

        Some are put into a frame ("Can you tell me ...?"). A held-out wording has a held-out template, or a held-out
        frame around a template of the train split.
        """
        return self.typed(self._filled(self._framed(pool, told=False), slots, self._typo_rate))

    def told(self, pool: Pool, **slots: object) -> str:
        """The same for a pool that states something instead of asking."""
        return self.typed(self._filled(self._framed(pool, told=True), slots, self._typo_rate))

    def reply(self, pool: Sequence[str], **slots: object) -> str:
        """An assistant's wording (shared by both splits): `[a|b]` chosen and `{slot}` filled."""
        return self.fill(self.rng.choice(pool), **slots)

    def fill(self, template: str, **slots: object) -> str:
        """Choose every `[a|b]` and fill every `{slot}`."""
        return self._filled(template, slots, typo_rate=0.0)

    def _filled(self, template: str, slots: dict[str, object], typo_rate: float) -> str:
        text = _CHOICE.sub(lambda found: self.rng.choice(found[1].split("|")), template)
        if typo_rate and self.chance(typo_rate):
            text = self._mistyped(text)  # before the slots are filled: values stay as they are
        return text.format_map(slots) if "{" in text else text

    def _framed(self, pool: Pool, told: bool) -> str:
        train, held = divide(pool)
        framed = train_wordings(pool, told)
        while True:
            if self.split == "train":
                template = self.rng.choice(train)
                template = self.rng.choice(framings(template, told, 0)) if self.chance(0.45) else template
            elif self.chance(0.6):
                template = self.rng.choice(held)
                template = self.rng.choice(framings(template, told, 0)) if self.chance(0.4) else template
            else:
                template = self.rng.choice(framings(self.rng.choice(train), told, 1))
            template = self._roughened(template)
            # A frame can turn one wording into another: "Tell me" around "the capital of ...". The splits stay apart.
            if wording_key(template) not in (held_keys(pool) if self.split == "train" else framed):
                return template

    def _roughened(self, template: str) -> str:
        """Sometimes leave out or insert a word outside the slots."""
        if not self.chance(self._rough):
            return template
        words = template.split()
        loose = [i for i, word in enumerate(words) if not any(c in word for c in "{}[]|")]
        if len(loose) < 4 or self.chance(0.4):
            words.insert(self.rng.randrange(len(words) + 1) if "[" not in template else 0, self.rng.choice(_FILLERS))
        else:
            del words[self.rng.choice(loose)]
        return " ".join(words)

    def typed(self, text: str) -> str:
        """The text the way this user types: shortened, chatty, without punctuation or capitals."""
        for full, short in _SHORTER:
            if full in text and self.chance(0.12):
                text = re.sub(rf"\b{re.escape(full)}\b", short, text, count=1)
        text = text[:1].upper() + text[1:]
        if self.chance(self._chatty):
            text = self._with_extras(text)
        if self._unpunctuated:
            text = text.rstrip(".?!")
        return text.lower() if self._lower else text

    def _with_extras(self, text: str) -> str:
        if self.chance(0.6):
            opener = self.wording(OPENERS)
            return opener + (text if opener.endswith((": ", "! ", ". ")) else text[:1].lower() + text[1:])
        closer = self.wording(CLOSERS)
        mark = text[-1] if text[-1] in ".?!" else ""
        body = text.rstrip(".?!")
        return f"{body}{mark}{closer}" if closer.strip()[0].isupper() or closer[1] in ":;" else f"{body}{closer}{mark}"

    def _mistyped(self, text: str) -> str:
        """Swap, drop or double one letter of one longer word outside the slots."""
        pieces = _SLOT.split(text)
        words = [(i, m) for i, piece in enumerate(pieces) if i % 2 == 0 for m in re.finditer(r"[A-Za-z]{4,}", piece)]
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
