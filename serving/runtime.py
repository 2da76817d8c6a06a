"""The only file that imports onnxruntime_genai: a loaded model, and KV caches that know which tokens they hold."""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequest, ModelFolderError
from serving.folder import ModelFolder
from serving.prefix import TokenIds, prefill_cuts

# OGA sends trace events over HTTPS unless this is set before its first import. A user may still set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime_genai as og

# Tokens per prefill pass. OGA holds Python's lock for a whole pass, so this also bounds how long others wait.
PREFILL_CHUNK = 64


class Runtime:
    """A loaded OGA model and what its device can do."""

    def __init__(self, folder: ModelFolder, context_length: int | None, threads: int, cpu: bool = False) -> None:
        """cpu: run on the CPU whatever provider the folder was exported for."""
        if context_length is not None and not 2 <= context_length <= folder.context_length:
            raise InvalidRequest(
                f"--context-length must be from 2 to {folder.context_length}, the window of this model, "
                f"not {context_length}."
            )
        if threads < 1:
            raise InvalidRequest(f"--threads must be 1 or more, not {threads}.")
        self.folder = folder
        self.context_length = context_length or folder.context_length
        self.vocab_size = folder.vocab_size
        # float32 on the CPU; an upper bound for the providers that keep float16.
        self.kv_bytes_per_token = folder.kv_values_per_token * np.dtype(np.float32).itemsize
        try:
            config = og.Config(str(folder.path))
            # Set here and not in the folder: a folder travels to machines with other numbers of cores.
            session = {"intra_op_num_threads": threads}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            if cpu:
                config.clear_providers()
            self._model = og.Model(config)
            self.continues = self._can_continue()
        except RuntimeError as error:
            raise ModelFolderError(f"{folder.path} does not load in ONNX Runtime GenAI: {error}") from error

    def generator(self, capacity: int) -> Any:
        """A fresh og.Generator whose KV cache holds `capacity` tokens."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=capacity, do_sample=False)
        return og.Generator(self._model, params)

    def all_logits(self, token_ids: TokenIds) -> NDArray[np.float32]:
        """Logits [n, vocab] after each of `token_ids` [n], by one forward pass over all of them."""
        generator = self.generator(min(token_ids.size + 1, self.context_length))
        generator.append_tokens(token_ids)
        logits: NDArray[np.float32] = np.asarray(generator.get_output("logits"), dtype=np.float32)
        return np.squeeze(logits, axis=0)

    def _can_continue(self) -> bool:
        """Whether this device takes a second append: DirectML and NPUs refuse it. Warms the kernels up on the way."""
        generator = self.generator(min(8, self.context_length))
        generator.append_tokens(np.zeros(1, dtype=np.int32))
        try:
            generator.append_tokens(np.zeros(1, dtype=np.int32))
        except RuntimeError:
            return False
        return True


class Slot:
    """One KV cache and the token ids it holds. Only equal tokens are ever reused."""

    def __init__(self, index: int, runtime: Runtime) -> None:
        self.index = index
        self.tokens: list[int] = []
        self.capacity = 0
        self.busy = False
        self.last_used = 0
        self._runtime = runtime
        self._generator: Any = None

    def allocate(self, capacity: int) -> None:
        """Start over with an empty KV cache for `capacity` tokens."""
        self.drop()
        self._generator = self._runtime.generator(capacity)
        self.capacity = capacity

    def drop(self) -> None:
        """Free the KV cache."""
        self._generator = None
        self.tokens = []
        self.capacity = 0

    def release(self) -> None:
        """Let another request have this slot."""
        self.busy = False
        self.last_used = time.monotonic_ns()

    def rewind(self, keep: int) -> int:
        """Keep the first `keep` tokens, or none where the device cannot; returns how many were kept."""
        keep = min(keep, len(self.tokens)) if self._runtime.continues else 0
        if keep == len(self.tokens):
            return keep
        if self._runtime.continues:
            self._generator.rewind_to(keep)
        else:
            self.allocate(self.capacity)
        del self.tokens[keep:]
        return keep

    def fill(self, tokens: TokenIds) -> Iterator[None]:
        """Append what is missing of `tokens`, one forward pass per step."""
        size = PREFILL_CHUNK if self._runtime.continues else tokens.size
        for begin, end in prefill_cuts(len(self.tokens), tokens.size, size):
            self.append(tokens[begin:end])
            yield

    def append(self, tokens: TokenIds) -> None:
        """One forward pass over `tokens` [n], n >= 1."""
        if self._runtime.continues or not self.tokens:
            self._generator.append_tokens(tokens)
        else:
            # The one-token step of devices that refuse a second append: make OGA itself choose our token.
            (token,) = tokens
            one_hot = np.full((1, 1, self._runtime.vocab_size), -1e30, dtype=np.float32)
            one_hot[..., token] = 0.0
            self._generator.set_logits(one_hot)
            self._generator.generate_next_token()
        self.tokens.extend(tokens.tolist())

    def logits(self) -> NDArray[np.float32]:
        """Logits [vocab] after the last token."""
        return np.asarray(self._generator.get_logits(), dtype=np.float32).reshape(-1)
