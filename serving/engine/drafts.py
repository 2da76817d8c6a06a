"""Guesses at the next tokens: what followed the last time the same few tokens were there.

Prompt lookup decoding, a form of speculative decoding (arXiv:2211.17192) whose draft costs nothing. A guess takes a
forward pass over a few tokens instead of one, which is little slower as long as reading the weights takes the time.
Whether it was right is for the sampler to say, so the answer is what it would be without. Pure.
"""

from serving.types import TokenIds

NGRAM = 4  # tokens that must be the same for a guess
SHORTEST, LONGEST = 3, 11  # tokens guessed at once; as many as there are the same before, within these
FIRST_PAUSE, LONGEST_PAUSE = 8, 512  # tokens without a guess after a wrong one, twice as many after each further one


class Drafter:
    """What one conversation has said so far, and how well guesses at it go."""

    def __init__(self, tokens: TokenIds) -> None:
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # n-gram -> where what followed it stands, the last time
        self._open: list[int] = []  # what was guessed and has not been said yet
        self._right = 0
        self._pause, self._wait = FIRST_PAUSE, 0
        for token in tokens.tolist():
            self._say(token)

    def add(self, token: int) -> None:
        """The next token, as it was chosen."""
        self._wait = max(0, self._wait - 1)
        if self._open:
            if token == self._open.pop(0):
                self._right += 1
                self._pause = FIRST_PAUSE
            else:
                self._open.clear()
                if self._right == 0:
                    self._wait, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._say(token)

    def draft(self, most: int) -> list[int]:
        """A guess at the next tokens, at most `most`; empty where nothing is known or guessing does not pay."""
        at = self._after.get(tuple(self._tokens[-NGRAM:]))
        self._open, self._right = [], 0
        if at is not None and not self._wait:
            self._open = self._tokens[at : at + min(self._alike(at), most)]
        return list(self._open)

    def _alike(self, at: int) -> int:
        """How many tokens before `at` are the same as the last ones; SHORTEST at least, and LONGEST at most."""
        n = NGRAM
        while n < LONGEST and n < at and self._tokens[at - n - 1] == self._tokens[-n - 1]:
            n += 1
        return max(SHORTEST, n if n > NGRAM else 0)

    def _say(self, token: int) -> None:
        if len(self._tokens) >= NGRAM:
            self._after[tuple(self._tokens[-NGRAM:])] = len(self._tokens)
        self._tokens.append(token)
