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

from serving.engine.prefix import capacity_for, is_late
from serving.engine.proof import check_proof, read_proof
from serving.engine.runtime import NO_DENORMALS, Logits, Runtime, Slot, heads_at_once
from serving.errors import InvalidRequest, ModelFolderError
from serving.folder import ModelFolder, read_json
from serving.types import Provider, TokenIds

# OGA sends trace events over HTTPS unless this is set before its first import. A user may still set it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime_genai as og

CAPACITY_STEP = 1024  # tokens of KV cache allocated at first, at least; doubled when a conversation outgrows it

# These providers come with another build of OGA: its package, and those in whose place it is.
_BUILDS = {
    "cuda": (og.is_cuda_available, "onnxruntime-genai-cuda (NVIDIA)", "onnxruntime-genai onnxruntime"),
    "dml": (og.is_dml_available, "onnxruntime-genai-winml (Windows)", "onnxruntime-genai"),
}
# These in a package beside OGA, which holds a library that is registered with it.
_PLUG_INS = {"webgpu": "onnxruntime_ep_webgpu", "openvino": "onnxruntime_ep_openvino"}
_BY_SPEED: tuple[Provider, ...] = ("cuda", "dml", "webgpu")


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


def installed_providers() -> tuple[Provider, ...]:
    """Those whose package is installed, the CPU last. Says nothing of devices."""
    found: list[Provider] = [provider for provider in _BY_SPEED if _is_installed(provider)]
    return (*found, "cpu")


def _is_installed(provider: Provider) -> bool:
    try:
        check_provider(provider)
    except InvalidRequest:
        return False
    return True


@cache
def _register(module: str) -> None:
    """Once in a process. Raises RuntimeError where the library does not load."""
    plug_in = importlib.import_module(module)
    og.register_execution_provider_library(plug_in.get_ep_name(), plug_in.get_library_path())


class OgaRuntime(Runtime):
    """A loaded OGA model, on any device that OGA has a provider for. Conversations take turns.

    keeps: whether states that cannot be rewound can be kept where a slot is marked.
    """

    keeps = False
    made_by = "oga"  # keys and values can be read from a Generator (get_output), and not be put into one
    first_tokens: int | None = CAPACITY_STEP

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
        if folder.turn and folder.turn < self.context_length:
            # A pass with an even number of tokens may need room for one more than there are.
            self.turn = folder.turn - 1 if deterministic else folder.turn
        self.kv_bytes_per_token = folder.kv_bytes_per_token
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
        if deterministic and self.continues and not self.rewinds:
            raise InvalidRequest(f"{folder.path} has states that cannot be rewound: start without --deterministic.")
        if deterministic and not self.whole:
            raise InvalidRequest(f"{folder.path} gives logits of the last token only: start without --deterministic.")
        if not self.whole:
            self.notes += ("this model gives logits of the last token only: no guesses are checked.",)
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
            session = {"intra_op_num_threads": threads, **NO_DENORMALS}
            config.overlay(json.dumps({"model": {**self._unpadded(), "decoder": {"session_options": session}}}))
            config.clear_providers()
            if provider != "cpu":
                config.append_provider(provider)  # with its options, if the folder has some
            self._model: Any = og.Model(config)
            self.heads = heads_at_once(self.folder) if provider == "cpu" else 0
            self._try_out()
            if provider != "cpu":
                self._prove(provider)
        except RuntimeError as error:
            if provider == "cpu":
                raise ModelFolderError(f"{self.folder.path} does not load in ONNX Runtime GenAI: {error}") from error
            raise InvalidRequest(
                f"the provider {provider} is installed, and finds no device here that runs this model ({error}). "
                "Start with --execution-provider cpu."
            ) from error

    def _unpadded(self) -> dict[str, int]:
        """Settings by which no token of a conversation is taken for padding, where the device has no use for it.

        With one, OGA gives the logits of the last token that is another; where there is none, it reads what lies before
        them in memory.
        """
        decoder = read_json(self.folder.path / "genai_config.json")["model"]["decoder"]
        return {} if "sliding_window" in decoder else {"pad_token_id": -1}

    def close(self) -> None:
        self._model = None

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
        same = self.turn if self.turn and token_ids.size <= self.turn else self.context_length
        generator = self.generator(min(token_ids.size + 1, same))
        generator.append_tokens(token_ids)
        logits: NDArray[np.float32] = np.asarray(generator.get_output("logits"), dtype=np.float32)
        return np.squeeze(logits, axis=0)

    def _try_out(self) -> None:
        """Find out what this device, and this model on it, can do with tokens that are in; and warm the kernels up.

        DirectML and NPUs refuse a second append; linear attention can be rewound only to where its states were kept,
        and short convolutions not at all.
        """
        self.whole = self._gives_all()
        self.rewinds = self._takes(rewinding=True, keeping=False)
        self.continues = self.rewinds or self._takes(rewinding=False, keeping=False)
        self.keeps = self.continues and not self.rewinds and self._takes(rewinding=True, keeping=True)

    def _prove(self, provider: str) -> None:
        """Compare with what the model computed when it was built, and note it. Raises InvalidRequest for another."""
        proof = read_proof(self.folder.path, self.vocab_size)
        if proof and self.whole:
            self.notes += (check_proof(proof, self.all_logits, provider, self.context_length),)

    def _gives_all(self) -> bool:
        """Whether a pass gives logits after each token: some exports prune their output layer to the last one."""
        try:
            return len(self.all_logits(np.zeros(2, dtype=np.int32))) == 2
        except RuntimeError:  # a model that takes these tokens for something else
            return True

    def _takes(self, rewinding: bool, keeping: bool) -> bool:
        """Whether tokens can be appended, taken off, and appended again."""
        token = np.zeros(1, dtype=np.int32)
        generator = self.generator(min(8, self.context_length))
        generator.append_tokens(token)
        try:
            if keeping:
                generator.snapshot_state()
            generator.append_tokens(token)
            if rewinding:
                generator.rewind_to(1)
                generator.append_tokens(token)
        except RuntimeError:
            return False
        return True


class OgaSlot(Slot):
    """A Generator. Its KV cache cannot grow, and nothing can be put into another: more room means computing it again.

    That is done ahead, where tokens can be taken off a KV cache: a second, larger Generator is given what the first one
    holds, a piece at a time, and takes its place. How much room there is also tells the graph on which side of the
    model's turn a conversation is.
    """

    def __init__(self, index: int, runtime: OgaRuntime) -> None:
        super().__init__(index)
        self._runtime = runtime
        self._cache: _Cache | None = None
        self._ahead: _Cache | None = None
        self._padded: Logits | None = None
        self._marked = 0  # tokens, where states were kept that cannot be rewound

    @property
    def kv_tokens(self) -> int:
        return sum(cache.capacity for cache in (self._cache, self._ahead) if cache)

    def kv_tokens_for(self, tokens: int) -> int:
        if self._cache and self.fits(tokens):
            return self._cache.capacity
        first = self._runtime.first_tokens or CAPACITY_STEP
        needed = capacity_for(tokens + self._padding, self._most(tokens), first)
        return max(needed, self._ahead.capacity if self._ahead and self._ahead.capacity <= self._most(tokens) else 0)

    def fits(self, tokens: int) -> bool:
        most = min(tokens + self._padding, self._runtime.context_length)
        return self._cache is not None and self.serves(tokens) and most <= self._cache.capacity

    def serves(self, tokens: int) -> bool:
        turn = self._runtime.turn
        if turn is None or self._cache is None:
            return True
        return (self._cache.capacity > turn + self._padding) == (tokens > turn)

    def _most(self, tokens: int) -> int:
        """Room that a KV cache for so many tokens may have."""
        turn = self._runtime.turn
        return turn + self._padding if turn and tokens <= turn else self._runtime.context_length

    def reserve(self, tokens: int) -> None:
        if self.fits(tokens):
            return
        capacity = self.kv_tokens_for(tokens)
        if self._ahead and capacity == self._ahead.capacity:
            self._move()
            return
        self.drop()
        self._cache = _Cache(self._runtime, capacity)

    def growth(self, late: bool = False) -> int | None:
        cache, ahead, held = self._cache, self._ahead, len(self.tokens)
        movable, most = self._runtime.continues and self._runtime.rewinds, self._most(held)
        if not (cache and movable and self.serves(held) and 2 * held > cache.capacity and cache.capacity < most):
            return None
        room = cache.capacity - self._padding - held
        if late and not is_late(held - (ahead.held if ahead else 0), room):
            return None
        return 0 if ahead else min(2 * cache.capacity, most)

    def grow(self, tokens: int) -> None:
        assert self._cache
        try:
            if self._ahead is None:
                self._ahead = _Cache(self._runtime, min(2 * self._cache.capacity, self._most(len(self.tokens))))
            begin = self._ahead.held
            self._ahead.append(np.asarray(self.tokens[begin : begin + tokens], np.int32))
        except Exception:
            self._ahead = None
            raise
        if self._ahead.held == len(self.tokens):
            self._move()

    def drop(self) -> None:
        self._cache = self._ahead = self._padded = None
        self.tokens = []
        self._marked = 0

    def rewind(self, keep: int) -> int:
        keep = self._reachable(min(keep, len(self.tokens)))
        if keep < len(self.tokens):
            assert self._cache
            if keep or (self._runtime.continues and self._runtime.rewinds):
                self._cache.rewind(keep)
            else:
                self._cache = _Cache(self._runtime, self._cache.capacity)
            del self.tokens[keep:]
            if self._ahead and keep:
                self._ahead.rewind(keep)
            else:
                self._ahead = None
        self._marked = min(self._marked, keep)
        return keep

    def _reachable(self, keep: int) -> int:
        """So many tokens, or the most of them that can be kept."""
        if not self._runtime.continues:
            return 0
        if self._runtime.rewinds or keep == len(self.tokens):
            return keep
        return self._marked if self._runtime.keeps and self._marked <= keep else 0

    def mark(self) -> None:
        if self._runtime.keeps and self._cache:
            self._cache.generator.snapshot_state()
            self._marked = len(self.tokens)

    def append(self, tokens: TokenIds) -> None:
        """One forward pass over `tokens` [n], n >= 1."""
        assert self._cache
        self._padded = self._cache.append(tokens)
        self.tokens.extend(tokens.tolist())

    def logits(self, last: int = 1) -> Logits:
        if self._padded is not None:
            return self._padded[-last:]
        assert self._cache
        if last == 1:
            return np.asarray(self._cache.generator.get_logits(), dtype=np.float32).reshape(1, -1)
        return np.asarray(self._cache.generator.get_output("logits"), dtype=np.float32)[0, -last:]

    @property
    def _padding(self) -> int:
        return 1 if self._runtime.deterministic else 0

    def _move(self) -> None:
        """To the larger KV cache. What is not in there yet is no longer held."""
        assert self._ahead
        self._cache, self._ahead, self._padded = self._ahead, None, None
        del self.tokens[self._cache.held :]


class _Cache:
    """An og.Generator with room for `capacity` tokens, of which `held` are in."""

    def __init__(self, runtime: OgaRuntime, capacity: int) -> None:
        self.capacity, self.held = capacity, 0
        self.generator = runtime.generator(capacity)
        self._runtime = runtime

    def append(self, tokens: TokenIds) -> Logits | None:
        """One forward pass over `tokens` [n], n >= 1. Gives the logits [n, vocab] of a pass that was padded."""
        padded: Logits | None = None
        if not self._runtime.continues and self.held:
            # The one-token step of devices that refuse a second append: make OGA itself choose our token.
            (token,) = tokens
            one_hot = np.full((1, 1, self._runtime.vocab_size), -1e30, dtype=np.float32)
            one_hot[..., token] = 0.0
            self.generator.set_logits(one_hot)
            self.generator.generate_next_token()
        elif self._runtime.deterministic and tokens.size % 2:
            # An odd number of rows goes through another kernel, whose int8 rounding differs.
            self.generator.append_tokens(np.append(tokens, tokens[-1]))
            padded = np.array(self.generator.get_output("logits")[0, : tokens.size], dtype=np.float32)
            self.generator.rewind_to(self.held + tokens.size)
        else:
            self.generator.append_tokens(tokens)
        self.held += tokens.size
        return padded

    def rewind(self, keep: int) -> None:
        """Hold the first `keep` tokens, or what there is of them."""
        if keep < self.held:
            self.generator.rewind_to(keep)
            self.held = keep
