"""What is measured: the lengths of prompts and answers, how many users at once, how often. Decides, and asks nobody."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from serving.errors import InvalidRequest
from serving.types import RuntimeName, TokenIds

RUNTIMES: tuple[RuntimeName, ...] = ("oga", "ort")
CONTEXTS = (128, 512, 1024)  # those that fit, unless others are asked for
FOLLOW_UP = 16  # tokens that a follow-up adds to prompt and answer
MOST_USERS = 64

Kind = Literal["context", "users"]


@dataclass(frozen=True, slots=True)
class Case:
    """What every runner is asked for in turn.

    kind: "context" is one answer, and one to a follow-up; "users" are answers to so many users at once.
    context: tokens of a prompt.
    """

    kind: Kind
    context: int
    users: int = 1

    def weight(self, answer: int) -> int:
        """About how long it takes, for the time that is left: a token that is decoded counts as two of a prompt."""
        asked = self.users * (self.context + 2 * answer)
        return asked + (FOLLOW_UP if self.kind == "context" else 0)


@dataclass(frozen=True, slots=True)
class Plan:
    """contexts: tokens of prompts; None for CONTEXTS. answer: tokens of each. users: answers at once. rounds: of all.

    Raises InvalidRequest, by the names of the flags.
    """

    contexts: tuple[int, ...] | None = None
    answer: int = 64
    users: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 3

    def __post_init__(self) -> None:
        for length in self.contexts or ():
            _require("--context", length, length >= 1, "1 token or more")
        _require("--n-gen", self.answer, self.answer >= 2, "2 tokens or more: decoding begins after the first")
        for users in self.users:
            _require("--users", users, 1 <= users <= MOST_USERS, f"from 1 to {MOST_USERS}")
        _require("--repetitions", self.rounds, self.rounds >= 1, "1 or more")

    @property
    def most_users(self) -> int:
        """Answers that are made at once, at most."""
        return max(self.users, default=1)

    def fitted(self, window: int) -> tuple[int, ...]:
        """The contexts, in ascending order, for a window of so many tokens. Raises InvalidRequest where none fits."""
        room = window - self.answer - FOLLOW_UP - 1
        wanted = sorted(set(CONTEXTS if self.contexts is None else self.contexts))
        fits = tuple(length for length in wanted if length <= room)
        if self.contexts is not None and len(fits) < len(wanted):
            raise InvalidRequest(
                f"--context {wanted[-1]} does not fit: the window has {window} tokens, of which the answer (--n-gen) "
                f"and a follow-up take {window - room}. Give it {max(room, 0)} at most."
            )
        if not fits:
            raise InvalidRequest(f"a window of {window} tokens is too short: give --context and --n-gen smaller ones.")
        return fits

    def cases(self, window: int) -> Iterator[Case]:
        """All cases of a round. Users have prompts of the shortest length."""
        contexts = self.fitted(window)
        for length in contexts:
            yield Case("context", length)
        for users in sorted(set(self.users)):
            yield Case("users", contexts[0], users)

    def longest(self, window: int) -> int:
        """Tokens that a prompt, its answer and a follow-up take together."""
        return self.fitted(window)[-1] + self.answer + FOLLOW_UP + 1


def random_prompt(length: int, vocabulary: int, *seed: int) -> TokenIds:
    """Token ids [length], the same for the same seed: speed does not depend on them, and nothing of them is cached.

    From the middle of the vocabulary, where ordinary words are and no control tokens.
    """
    low, high = vocabulary // 4, max(vocabulary // 4 + 1, vocabulary * 3 // 4)
    return np.random.default_rng(seed).integers(low, high, length).astype(np.int32)


def _require(name: str, value: int, holds: bool, want: str) -> None:
    if not holds:
        raise InvalidRequest(f"{name} must be {want}, not {value}.")
