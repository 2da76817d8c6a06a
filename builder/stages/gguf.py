"""The only file that imports llama_cpp: a GGUF file's vocabulary and logits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.errors import SourceError


class GgufModel:
    """A GGUF file, computed by llama.cpp on the CPU."""

    def __init__(self, path: Path, length: int, threads: int) -> None:
        """length: of the sequences that it reads, in tokens. Raises SourceError."""
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


def spelled_by(path: Path, token_ids: Sequence[int]) -> list[str | None]:
    """How a GGUF file writes each of these tokens; None for one that it does not have. Raises SourceError."""
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
        raise SourceError(
            f"{path} is read by llama.cpp, which cannot be imported ({error}): pip install llama-cpp-python. (It is "
            "compiled then, which takes cmake, a C++ compiler and some minutes.)"
        ) from error
    try:
        return Llama(str(path), n_gpu_layers=0, verbose=False, **settings)
    except (ValueError, RuntimeError) as error:
        raise SourceError(f"{path} does not load in llama.cpp: {error}") from error
