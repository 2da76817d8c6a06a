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

    def __init__(self, path: Path, length: int, threads: int) -> None:
        """length: of prompt and answer together, in tokens. Raises ModelFolderError."""
        self._model = _opened(path, n_ctx=length, n_threads=threads, n_threads_batch=threads)
        self.vocab_size = int(self._model.n_vocab())
        self._held: list[int] = []

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
