"""The only file that imports llama_cpp: a GGUF file's vocabulary, logits and answers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import ModelFolderError
from serving.types import TokenIds

_BATCH = 2048  # tokens that are handed to llama.cpp at a time, as its server does
_ROOM = 256  # tokens: steps in which it makes room


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer. prefill_seconds: until its first token, of a prompt that had `cached_tokens` in the KV cache.

    decode_seconds: from there to the last one.
    """

    token_ids: tuple[int, ...]
    cached_tokens: int
    prefill_seconds: float
    decode_seconds: float


class GgufModel:
    """A GGUF file, computed by llama.cpp on the CPU."""

    def __init__(self, path: Path, length: int, threads: int) -> None:
        """length: of the sequences that it reads, in tokens. Raises ModelFolderError."""
        self._model = _opened(
            path, n_ctx=length, n_batch=length, n_ubatch=length, n_threads=threads, n_threads_batch=threads,
            logits_all=True,
        )  # fmt: skip
        self.vocab_size = int(self._model.n_vocab())

    def all_logits(self, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Logits [n, vocab] after each of `token_ids` [n]."""
        self._model.reset()
        self._model.eval(token_ids.tolist())
        return np.array(self._model.scores[: token_ids.size], dtype=np.float32)


class GgufChat:
    """A GGUF file that answers, by llama.cpp on the CPU, with the settings that llama-cpp-python's own server has."""

    def __init__(self, path: Path, length: int, threads: int, users: int = 1) -> None:
        """length: of prompt and answer together, in tokens. users: answers at once. Raises ModelFolderError."""
        self._length, self._threads, self._users = length, threads, users
        self._model = _opened(path, n_ctx=length, n_threads=threads, n_threads_batch=threads)
        self.vocab_size = int(self._model.n_vocab())
        self._held: list[int] = []
        self._sequences: _Sequences | None = None

    def answer(self, token_ids: TokenIds, count: int) -> Answered:
        """`count` greedy tokens after a prompt [n]; what it has in common with the last one is not computed again."""
        prompt = token_ids.tolist()
        cached = common_prefix(self._held, prompt[:-1])
        begun = first = time.perf_counter()
        made: list[int] = []
        for token in self._model.generate(prompt, temp=0.0):
            made.append(int(token))
            if len(made) == 1:
                first = time.perf_counter()
            if len(made) == count:
                break
        self._held = prompt + made[:-1]
        return Answered(tuple(made), cached, first - begun, time.perf_counter() - first)

    def together(self, prompts: Sequence[TokenIds], count: int) -> list[Answered]:
        """`count` greedy tokens after each of several prompts [n], all of them in one pass; nothing of them is cached.

        Raises ModelFolderError where llama.cpp has no memory for so many.
        """
        if self._sequences is None:
            self._sequences = _Sequences(self._model.model, self.vocab_size, self._length, self._threads, self._users)
        begun = time.perf_counter()
        rows = [
            (int(token), place, user, place == prompt.size - 1)
            for user, prompt in enumerate(prompts)
            for place, token in enumerate(prompt)
        ]
        self._sequences.clear()
        made: list[list[int]] = [[] for _ in prompts]
        first = [0.0] * len(prompts)
        for begin in range(0, len(rows), _BATCH):
            for user, token in self._sequences.read(rows[begin : begin + _BATCH]).items():
                made[user].append(token)
                first[user] = time.perf_counter() - begun
        for step in range(count - 1):
            rows = [(said[-1], prompts[user].size + step, user, True) for user, said in enumerate(made)]
            for user, token in self._sequences.read(rows).items():
                made[user].append(token)
        whole = time.perf_counter() - begun
        return [Answered(tuple(said), 0, first[user], whole - first[user]) for user, said in enumerate(made)]


class _Sequences:
    """Several sequences of one model that llama.cpp computes in one pass, as its own server does."""

    def __init__(self, model: Any, vocab_size: int, length: int, threads: int, users: int) -> None:
        import llama_cpp

        self._library, self._vocab_size = llama_cpp, vocab_size
        settings = llama_cpp.llama_context_default_params()
        room = -(-length // _ROOM) * _ROOM
        settings.n_ctx, settings.n_seq_max, settings.n_batch = users * room, users, _BATCH
        settings.n_threads = settings.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(model, settings)
        if not self._context:
            raise ModelFolderError(f"llama.cpp has no memory for {users} answers of {length} tokens at once.")
        self._batch = llama_cpp.llama_batch_init(_BATCH, 0, 1)

    def clear(self) -> None:
        """Forget them."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)

    def read(self, rows: Sequence[tuple[int, int, int, bool]]) -> dict[int, int]:
        """Compute tokens, each with its place, its sequence, and whether the next one is wanted: those, greedily."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (token, place, sequence, wanted) in enumerate(rows):
            batch.token[row], batch.pos[row], batch.logits[row] = token, place, wanted
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
        if code := self._library.llama_decode(self._context, batch):
            raise ModelFolderError(f"llama.cpp computes no answers at once (llama_decode: {code}).")
        found = {}
        for row, (_, _, sequence, wanted) in enumerate(rows):
            if wanted:
                logits = self._library.llama_get_logits_ith(self._context, row)
                found[sequence] = int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())
        return found


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences begin with together."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def spelled_by(path: Path, token_ids: Sequence[int]) -> list[str | None]:
    """How a GGUF file writes each of these tokens; None for one that it does not have. Raises ModelFolderError."""
    model = _opened(path, vocab_only=True)
    import llama_cpp

    vocabulary, size = llama_cpp.llama_model_get_vocab(model.model), int(model.n_vocab())
    return [
        llama_cpp.llama_vocab_get_text(vocabulary, token).decode(errors="replace") if token < size else None
        for token in token_ids
    ]


def _opened(path: Path, **settings: Any) -> Any:
    try:
        from llama_cpp import Llama
    except ImportError as error:
        raise ModelFolderError(
            f"{path} is read by llama.cpp, which cannot be imported ({error}): pip install llama-cpp-python. (It is "
            "compiled then, which takes cmake, a C++ compiler and some minutes.)"
        ) from error
    try:
        return Llama(str(path), n_gpu_layers=0, verbose=False, **settings)
    except (ValueError, RuntimeError) as error:
        raise ModelFolderError(f"{path} does not load in llama.cpp: {error}") from error
