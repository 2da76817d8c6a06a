"""A model that is a pure function of its tokens, behind the seam where OGA stands: it shows what a real one cannot.

Its next token depends on every token before it, so any mistake in the KV cache changes the answer.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving.engine.oga import OgaRuntime
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import Message, SamplingOptions

NextToken = Callable[[tuple[int, ...]], int]
GREEDY = SamplingOptions(temperature=0.0, max_tokens=60)


def user(*texts: str) -> list[Message]:
    """A conversation of the given texts, the user's first."""
    return [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]


def vocab_size(prompt: Prompt) -> int:
    return prompt.tokenizer.get_vocab_size()


def by_hash(vocab_size: int) -> NextToken:
    """A next token that any change of the history changes; token ids below 10 are left to the tests."""

    def next_token(tokens: tuple[int, ...]) -> int:
        return 10 + int.from_bytes(hashlib.sha256(repr(tokens).encode()).digest()[:4], "big") % (vocab_size - 10)

    return next_token


def saying(prompt: Prompt, text: str, end: int = 2) -> NextToken:
    """A model that answers any prompt with `text`, then with the token `end`."""
    answer = [*prompt.encode(text).tolist(), end]
    start = prompt.encode("<|im_start|>assistant\n").tolist()

    def next_token(tokens: tuple[int, ...]) -> int:
        begun = max(i for i in range(len(tokens)) if list(tokens[i : i + len(start)]) == start) + len(start)
        return answer[min(len(tokens) - begun, len(answer) - 1)]

    return next_token


class ScriptedRuntime(OgaRuntime):
    """Counts what the engine asks of the device."""

    def __init__(
        self,
        next_token: NextToken,
        vocab_size: int,
        context_length: int = 4096,
        continues: bool = True,
        rewinds: bool = True,
        keeps: bool = False,
        kv_bytes_per_token: int = 0,
    ) -> None:
        self.folder = ModelFolder(Path("scripted"), context_length, vocab_size, 0, 0, True, Path("scripted"), {})
        self.context_length, self.vocab_size = context_length, vocab_size
        self.continues, self.rewinds, self.kv_bytes_per_token = continues, rewinds, kv_bytes_per_token
        self.keeps, self.deterministic = keeps, False
        self.next_token = next_token
        self.capacities: list[int] = []
        self.forwards: list[tuple[int, ...]] = []
        self.before_forward: Callable[[], None] = lambda: None

    def generator(self, capacity: int) -> "ScriptedGenerator":
        self.capacities.append(capacity)
        return ScriptedGenerator(self, capacity)


class ScriptedGenerator:
    """The part of og.Generator that the engine uses, with its rules."""

    def __init__(self, runtime: ScriptedRuntime, capacity: int) -> None:
        self._runtime, self._capacity, self._last = runtime, capacity, 0
        self._tokens: list[int] = []
        self._chosen = -1
        self._kept: int | None = None  # the length at which states were kept

    def append_tokens(self, tokens: np.ndarray) -> None:
        if self._tokens and not self._runtime.continues:
            raise RuntimeError("Continuous decoding is not supported on the selected device type")
        self._forward(tokens.tolist())

    def snapshot_state(self) -> None:
        if not self._runtime.keeps:
            raise RuntimeError("there is no state to keep")
        self._kept = len(self._tokens)

    def rewind_to(self, length: int) -> None:
        assert 0 <= length < len(self._tokens)
        if not self._runtime.rewinds and length != self._kept:
            raise RuntimeError(f"RewindTo({length}) is not supported without a snapshot")
        del self._tokens[length:]
        self._last = 0

    def get_logits(self) -> np.ndarray:
        return self._logits(1)

    def get_output(self, name: str) -> np.ndarray:
        assert name == "logits"
        return self._logits(self._last)

    def _logits(self, last: int) -> np.ndarray:
        assert 0 < last <= self._last, "a rewound cache has no logits"
        logits = np.zeros((1, last, self._runtime.vocab_size), dtype=np.float32)
        for i, end in enumerate(range(len(self._tokens) - last + 1, len(self._tokens) + 1)):
            logits[0, i, self._runtime.next_token(tuple(self._tokens[:end]))] = 10.0
        return logits

    def set_logits(self, logits: np.ndarray) -> None:
        self._chosen = int(logits.argmax())

    def generate_next_token(self) -> None:
        self._forward([self._chosen])

    def _forward(self, tokens: list[int]) -> None:
        self._runtime.before_forward()
        assert tokens, "OGA refuses an empty append"
        if len(self._tokens) + len(tokens) > self._capacity:
            raise RuntimeError("exceeds max length")
        self._runtime.forwards.append(tuple(tokens))
        self._tokens += tokens
        self._last = len(tokens)
