"""Guesses at the next tokens: what followed the last time the same few tokens were there (prompt lookup decoding).

A guess costs a forward pass over a few tokens instead of one, which takes little longer while weights are what is read.
Whether it was right is for the sampler to say, so the answer is what it would be without. Pure.
"""

from serving.prefix import TokenIds

NGRAM = 3  # tokens that must be the same for a guess
SHORTEST, LONGEST = 3, 15  # guessed at once: few to begin with, twice as many after each guess that was all right
FIRST_PAUSE, LONGEST_PAUSE = 16, 512  # tokens without a guess after a wrong one, twice as many after each further one


class Drafter:
    """What one conversation has said so far, and how well guesses at it go."""

    def __init__(self, tokens: TokenIds) -> None:
        self._tokens: list[int] = []
        self._last: dict[tuple[int, ...], int] = {}  # where an n-gram was followed by something, the last time
        self._open: list[int] = []  # what was guessed and has not been said yet
        self._right = 0
        self._length = SHORTEST
        self._pause, self._wait = FIRST_PAUSE, 0
        for token in tokens.tolist():
            self._add(token)

    def add(self, token: int) -> None:
        """The next token, as it was chosen."""
        self._wait = max(0, self._wait - 1)
        if self._open:
            if token == self._open[0]:
                self._open.pop(0)
                self._right += 1
                if not self._open:
                    self._length, self._pause = min(2 * self._length, LONGEST), FIRST_PAUSE
            else:
                self._wrong()
        self._add(token)

    def draft(self, most: int) -> list[int]:
        """A guess at the next tokens, at most `most`; empty where nothing is known or guessing does not pay."""
        self._open, self._right = [], 0
        at = self._last.get(tuple(self._tokens[-NGRAM:]))
        if at is not None and not self._wait:
            self._open = self._tokens[at : at + min(self._length, most)]
        return list(self._open)

    def _wrong(self) -> None:
        self._open = []
        if self._right >= SHORTEST // 2:
            self._length = max(SHORTEST, self._right)
        else:
            self._length = SHORTEST
            self._wait, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)

    def _add(self, token: int) -> None:
        if len(self._tokens) >= NGRAM:
            self._last[tuple(self._tokens[-NGRAM:])] = len(self._tokens)
        self._tokens.append(token)
