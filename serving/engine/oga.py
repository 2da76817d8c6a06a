"""The only file that imports onnxruntime_genai: its providers, a loaded model, and one Generator per KV cache."""

import importlib
import json
import os
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from serving.engine.prefix import capacity_for
from serving.engine.runtime import Logits, Runtime, Slot
from serving.errors import InvalidRequest, ModelFolderError
from serving.folder import ModelFolder
from serving.types import Provider, TokenIds

# OGA sends trace events over HTTPS unless this is set before its first import. A user may still set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime_genai as og

CAPACITY_STEP = 1024  # tokens of KV cache allocated at first; doubled when a conversation outgrows it

# These providers come with another build of OGA: its package, and those in whose place it is.
_BUILDS = {
    "cuda": (og.is_cuda_available, "onnxruntime-genai-cuda (NVIDIA)", "onnxruntime-genai onnxruntime"),
    "dml": (og.is_dml_available, "onnxruntime-genai-winml (Windows)", "onnxruntime-genai"),
}
# These in a package beside OGA, which holds a library that is registered with it.
_PLUG_INS = {"webgpu": "onnxruntime_ep_webgpu", "openvino": "onnxruntime_ep_openvino"}


def check_provider(provider: str) -> None:
    """Raises InvalidRequest where the package of a provider is not installed, naming it. Says nothing of devices."""
    if provider not in get_args(Provider):
        # Some take a path to a library of native code, or an address to send everything to, from the folder.
        raise InvalidRequest(f"the provider {provider!r} is not one that is served.")
    if provider in _BUILDS:
        built_in, package, others = _BUILDS[provider]
        if not built_in():
            raise InvalidRequest(
                f"the provider {provider} needs the package {package}: `pip uninstall {others}`, then "
                f"`pip install {package.split()[0]}`. Or start with --execution-provider cpu."
            )
    elif provider in _PLUG_INS and find_spec(_PLUG_INS[provider]) is None:
        package = _PLUG_INS[provider].replace("_", "-")
        raise InvalidRequest(
            f"the provider {provider} needs the package {package}: `pip install {package}`. Or start with "
            "--execution-provider cpu."
        )


@cache
def _register(module: str) -> None:
    """Once in a process. Raises RuntimeError where the library does not load."""
    plug_in = importlib.import_module(module)
    og.register_execution_provider_library(plug_in.get_ep_name(), plug_in.get_library_path())


class OgaRuntime(Runtime):
    """A loaded OGA model, on any device that OGA has a provider for. Conversations take turns."""

    def __init__(
        self,
        folder: ModelFolder,
        context_length: int | None = None,
        threads: int = 1,
        *,
        deterministic: bool = False,
        provider: Provider = "auto",
    ) -> None:
        """deterministic: an even number of tokens in every pass.

        provider: auto falls back to the CPU where the one that the folder was exported for cannot be used, and notes
        it. Raises InvalidRequest where a provider that was asked for by name cannot be used; ModelFolderError.
        """
        self.folder = folder
        self.context_length = folder.window(context_length)
        self.vocab_size = folder.vocab_size
        self.deterministic = deterministic
        # float32 on the CPU; an upper bound for the providers that keep float16.
        self.kv_bytes_per_token = folder.kv_values_per_token * np.dtype(np.float32).itemsize
        wanted = folder.provider if provider == "auto" else provider
        try:
            self._load(wanted, threads)
        except InvalidRequest as error:
            if provider != "auto":
                raise
            self._load("cpu", threads)
            self.notes += (f"this model was exported for {wanted} and is computed on the CPU: {error}",)
        else:
            if wanted not in ("cpu", "openvino", folder.provider):
                self.notes += (f"this model was exported for {folder.provider}: built with -e, it may be faster.",)
        if not self.continues:
            self.notes += (
                f"{wanted} cannot continue in a KV cache: every follow-up is computed from its beginning, and no "
                "guesses are checked.",
            )

    def _load(self, provider: str, threads: int) -> None:
        """Load the model for a provider. Raises InvalidRequest where one other than the CPU cannot be used."""
        check_provider(provider)
        try:
            if provider in _PLUG_INS:
                _register(_PLUG_INS[provider])
            config = og.Config(str(self.folder.path))
            # Set here and not in the folder: a folder travels to machines with other numbers of cores.
            session = {"intra_op_num_threads": threads}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
            config.clear_providers()
            if provider != "cpu":
                config.append_provider(provider)  # with its options, if the folder has some
            self._model = og.Model(config)
            self.continues = self._can_continue()
        except RuntimeError as error:
            if provider == "cpu":
                raise ModelFolderError(f"{self.folder.path} does not load in ONNX Runtime GenAI: {error}") from error
            raise InvalidRequest(
                f"the provider {provider} is installed, and finds no device here that runs this model ({error}). "
                "Start with --execution-provider cpu."
            ) from error

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
        """Whether this device takes a second append, and one after rewinding: DirectML and NPUs refuse it.

        Warms the kernels up on the way.
        """
        token = np.zeros(1, dtype=np.int32)
        generator = self.generator(min(8, self.context_length))
        generator.append_tokens(token)
        try:
            generator.append_tokens(token)
            generator.rewind_to(1)
            generator.append_tokens(token)
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
