"""Extra practice with what a model is weak at, for later, short stages of training.

Letters: BPE gives common words a token of their own, and a model knows the letters of a token only if it has spelled
it. The first stage of the shipped checkpoint kept some real words out of all letter skills; the second teaches them.

Manners: what the user never told is not to be invented, and a system prompt is to be followed in every answer.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from builder.demo import Conversation, Split
from builder.demo.training.corpus import conversations, messages, skilled, styled
from builder.demo.training.draw import Draw
from builder.demo.training.letters import letters
from builder.demo.training.lists import lists
from builder.demo.training.memory import Notebook, echo
from builder.demo.training.turns import Turn
from builder.demo.training.words import WORDS

T = TypeVar("T")

LATE_WORDS: tuple[str, ...] = tuple(sorted(WORDS, key=lambda word: (word[::-1], word))[5::6])
"""Every sixth real word, ordered by its ending."""


class _LateDraw(Draw):
    """A draw whose real words are the late ones."""

    def any(self, pool: Sequence[T]) -> T:
        if pool is WORDS:
            return super().any(LATE_WORDS)  # type: ignore[return-value]
        return super().any(pool)


@dataclass(frozen=True)
class Drills:
    """The share of each kind of drill among all conversations, from 0 to 1."""

    letters: float = 0.0
    manners: float = 0.0


def mixed(split: Split, seed: int, drills: Drills) -> Iterator[Conversation]:
    """Endless conversations of the corpus, with drills among them."""
    ordinary = conversations(split, seed)
    rng = random.Random(f"drills/{split}/{seed}")
    while True:
        kind = rng.random()
        if kind < drills.letters:
            yield messages(_letters(_LateDraw(split, rng)))
        elif kind < drills.letters + drills.manners:
            yield _manners(Draw(split, rng))
        else:
            yield next(ordinary)


def _manners(draw: Draw) -> Conversation:
    if draw.chance(0.5):
        return styled(draw)
    notebook = Notebook(draw)
    turns: list[Turn] = []
    for _ in range(draw.rng.randint(1, 6)):
        kind = draw.rng.random()
        if kind < 0.45:
            turns.append(notebook.missing())
        elif kind < 0.6:
            turns.append(notebook.state())
        elif kind < 0.75 and len(notebook):
            turns.append(notebook.recall())
        else:
            turns.append(skilled(draw))
    return messages(turns)


def _letters(draw: Draw) -> list[Turn]:
    notebook = Notebook(draw)
    turns: list[Turn] = []
    for _ in range(draw.rng.randint(2, 8)):
        kind = draw.rng.random()
        if kind < 0.55:
            turns.append(letters(draw))
        elif kind < 0.75:
            turns.append(echo(draw))
        elif kind < 0.85:
            turns.append(lists(draw))
        else:
            turns += [notebook.state(), notebook.recall()]
    return turns
