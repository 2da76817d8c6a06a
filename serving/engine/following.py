"""Grammars, computed beside the forward passes: an answer whose grammar is slow waits for it, and no other does."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.types import Grammar

if TYPE_CHECKING:
    from serving.text.grammar import GrammarCompiler, Matcher

Tokens = NDArray[np.intp]


class Grammars:
    """What every answer's grammar is computed with. llguidance lets go of the interpreter's lock while it computes.

    compiler: makes the compiler, at the first grammar: it loads a native library.
    """

    def __init__(self, compiler: "Callable[[], GrammarCompiler]") -> None:
        self._compiler = compiler
        # To compile may take seconds, so those that are compiled already have a thread of their own.
        self._compiling = ThreadPoolExecutor(1, "grammars")
        self._stepping = ThreadPoolExecutor(1, "grammar-steps")

    def follow(self, grammar: Grammar) -> "Following":
        """A grammar at the beginning of an answer. Nothing is computed before `start`."""
        return Following(lambda: self._compiler().matcher(grammar), self._compiling, self._stepping)

    def close(self) -> None:
        """Begin nothing more."""
        for threads in (self._compiling, self._stepping):
            threads.shutdown(wait=False, cancel_futures=True)


class Following:
    """How far one answer has come in its grammar: a Matcher whose next tokens are computed on other threads."""

    def __init__(
        self, compiled: "Callable[[], Matcher]", compiling: ThreadPoolExecutor, stepping: ThreadPoolExecutor
    ) -> None:
        self._compiled, self._compiling, self._stepping = compiled, compiling, stepping
        self._coming: Future[tuple[Matcher, Tokens]] | None = None

    def start(self) -> None:
        """Compile it, meanwhile."""
        self._coming = self._coming or self._compiling.submit(self._begin)

    @property
    def ready(self) -> bool:
        """Whether `allowed` and `accept` need not wait."""
        return self._coming is not None and self._coming.done()

    def wait(self, seconds: float) -> None:
        """Until it is ready, but no longer than this."""
        if self._coming:
            wait([self._coming], seconds)

    def allowed(self) -> Tokens:
        """What Matcher.allowed gives. Raises what that, Matcher.accept of the token before, and compiling raise."""
        return self._next()[1]

    def accept(self, token: int) -> None:
        """Go on by a token that was allowed."""
        matcher = self._next()[0]
        self._coming = self._stepping.submit(_step, matcher, token)

    def close(self) -> None:
        """Nobody needs it any more."""
        if self._coming:
            self._coming.cancel()
        self._coming = None  # a failure in it holds the frames that it came through, which hold this

    def _begin(self) -> "tuple[Matcher, Tokens]":
        matcher = self._compiled()
        return matcher, matcher.allowed()

    def _next(self) -> "tuple[Matcher, Tokens]":
        self.start()
        assert self._coming
        return self._coming.result()


def _step(matcher: "Matcher", token: int) -> "tuple[Matcher, Tokens]":
    matcher.accept(token)
    return matcher, matcher.allowed()
