"""Extra practice with the letters of some real words, for a second, short stage of training.

BPE gives common words a token of their own, and a model knows the letters of a token only if it has spelled it. The
first stage of the shipped checkpoint kept these words out of all letter skills; the second one teaches them.
"""

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

from builder.demo.corpus import Conversation, conversations, messages
from builder.demo.draw import Draw, Split
from builder.demo.letters import letters
from builder.demo.lists import lists
from builder.demo.memory import Notebook, echo
from builder.demo.turns import Turn
from builder.demo.words import WORDS

T = TypeVar("T")

LATE_WORDS: tuple[str, ...] = tuple(sorted(WORDS, key=lambda word: (word[::-1], word))[5::6])
"""Every sixth real word, ordered by its ending."""


class _LateDraw(Draw):
    """A draw whose real words are the late ones."""

    def any(self, pool: Sequence[T]) -> T:
        if pool is WORDS:
            return super().any(LATE_WORDS)  # type: ignore[return-value]
        return super().any(pool)


def mixed(split: Split, seed: int, share: float) -> Iterator[Conversation]:
    """Endless conversations of the corpus, with a share of drills among them."""
    ordinary = conversations(split, seed)
    rng = random.Random(f"drills/{split}/{seed}")
    while True:
        if share and rng.random() < share:
            yield messages(_drill(_LateDraw(split, rng)))
        else:
            yield next(ordinary)


def _drill(draw: Draw) -> list[Turn]:
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
