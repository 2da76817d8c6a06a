"""The only file that imports onnxruntime_genai: a loaded model, and one Generator per KV cache."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import ModelFolderError
from serving.folder import ModelFolder
from serving.prefix import TokenIds, capacity_for
from serving.runtime import Logits, Runtime, Slot

# OGA sends trace events over HTTPS unless this is set before its first import. A user may still set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime_genai as og

CAPACITY_STEP = 1024  # tokens of KV cache allocated at first; doubled when a conversation outgrows it


class OgaRuntime(Runtime):
    """A loaded OGA model, on any device that OGA has a provider for. Conversations take turns."""

    def __init__(
        self,
        folder: ModelFolder,
        context_length: int | None = None,
        threads: int = 1,
        *,
        deterministic: bool = False,
        cpu: bool = False,
    ) -> None:
        """deterministic: an even number of tokens in every pass. cpu: whatever provider the folder was exported for."""
        self.folder = folder
        self.context_length = folder.window(context_length)
        self.vocab_size = folder.vocab_size
        self.deterministic = deterministic
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

    def slot(self, index: int) -> "OgaSlot":
        return OgaSlot(index, self)

    def forward(self, batch: Sequence[tuple[Slot, TokenIds]]) -> None:
        for slot, tokens in batch:
            assert isinstance(slot, OgaSlot)
            slot.append(tokens)

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


class OgaSlot(Slot):
    """A Generator. Its KV cache cannot grow: more room means a new one, and computing the conversation again."""

    def __init__(self, index: int, runtime: OgaRuntime) -> None:
        super().__init__(index)
        self._runtime = runtime
        self._generator: Any = None
        self._capacity = 0
        self._padded: Logits | None = None

    @property
    def kv_tokens(self) -> int:
        return self._capacity

    def kv_tokens_for(self, tokens: int) -> int:
        padding = 1 if self._runtime.deterministic else 0
        needed = capacity_for(tokens + padding, self._runtime.context_length, CAPACITY_STEP)
        return max(self._capacity, needed)

    def reserve(self, tokens: int) -> None:
        capacity = self.kv_tokens_for(tokens)
        if capacity > self._capacity:
            self.drop()
            self._generator = self._runtime.generator(capacity)
            self._capacity = capacity

    def drop(self) -> None:
        self._generator = None
        self.tokens = []
        self._capacity = 0

    def rewind(self, keep: int) -> int:
        keep = min(keep, len(self.tokens)) if self._runtime.continues else 0
        if keep < len(self.tokens):
            if self._runtime.continues:
                self._generator.rewind_to(keep)
            else:
                self._generator = self._runtime.generator(self._capacity)
            del self.tokens[keep:]
        return keep

    def append(self, tokens: TokenIds) -> None:
        """One forward pass over `tokens` [n], n >= 1."""
        self._padded = None
        if not self._runtime.continues and self.tokens:
            # The one-token step of devices that refuse a second append: make OGA itself choose our token.
            (token,) = tokens
            one_hot = np.full((1, 1, self._runtime.vocab_size), -1e30, dtype=np.float32)
            one_hot[..., token] = 0.0
            self._generator.set_logits(one_hot)
            self._generator.generate_next_token()
        elif self._runtime.deterministic and tokens.size % 2:
            # An odd number of rows goes through another kernel, whose int8 rounding differs.
            self._generator.append_tokens(np.append(tokens, tokens[-1]))
            self._padded = np.array(self._generator.get_output("logits")[0, : tokens.size], dtype=np.float32)
            self._generator.rewind_to(len(self.tokens) + tokens.size)
        else:
            self._generator.append_tokens(tokens)
        self.tokens.extend(tokens.tolist())

    def logits(self, last: int = 1) -> Logits:
        if self._padded is not None:
            return self._padded[-last:]
        if last == 1:
            return np.asarray(self._generator.get_logits(), dtype=np.float32).reshape(1, -1)
        return np.asarray(self._generator.get_output("logits"), dtype=np.float32)[0, -last:]
