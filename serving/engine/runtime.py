"""What the engine needs of whatever runs a model: slots that hold tokens, and forward passes over them."""

import os
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from serving.engine.blocks import Layout, Values
from serving.folder import ModelFolder
from serving.types import TokenIds

# Tokens per prefill pass: what others wait for at most. Even, so int8 activations stay off the odd-row kernel.
PREFILL_CHUNK = 64

# Of what attention hardly looks at, products are too small for ordinary numbers, and processors compute with what is
# left of them many times slower (docs/numbers.md): nothing of it reaches a logit.
NO_DENORMALS = {"session.set_denormal_as_zero": "1"}

# ONNX Runtime 1.32 computes attention tile by tile, and that for a single token with the instructions that every x86
# processor has. Not in tiles it uses those of this one, and decode is up to 1.6 times as fast (docs/numbers.md). It is
# asked as a model is loaded.
NO_TILES = "ORT_GQA_DISABLE_FLASH_ATTENTION"
if platform.machine().lower() in ("x86_64", "amd64"):
    os.environ.setdefault(NO_TILES, "1")
SCORES_BYTES = 256 << 20  # of products of queries and keys, which are all there at once then: of a pass, at most


def heads_at_once(folder: ModelFolder) -> int:
    """See Runtime.heads, for one on the CPU."""
    return folder.heads if os.environ.get(NO_TILES) == "1" else 0


Logits = NDArray[np.float32]


class Slot(ABC):
    """One KV cache and the token ids it holds. Only equal tokens are ever reused."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.tokens: list[int] = []
        self.busy = False
        self.last_used = 0
        self.keeps_all = False  # logits of a whole pass are asked for, and not those of its end only

    @property
    @abstractmethod
    def kv_tokens(self) -> int:
        """Tokens that the memory it occupies now would hold."""

    @abstractmethod
    def kv_tokens_for(self, tokens: int) -> int:
        """What `kv_tokens` becomes when `tokens` are to fit."""

    @abstractmethod
    def fits(self, tokens: int) -> bool:
        """Whether there is room for `tokens` in all."""

    def serves(self, tokens: int) -> bool:
        """Whether what it holds was computed as a conversation of so many `tokens` computes it."""
        return True

    @abstractmethod
    def reserve(self, tokens: int) -> None:
        """Make room for `tokens` in all. Where a KV cache cannot grow, what it held is lost, and `tokens` says so."""

    def growth(self, late: bool = False) -> int | None:
        """Tokens of a larger KV cache to have beside this one, to move there before this one is full.

        0 where there is one that is not complete; None where nothing is due. late: only what would not be ready in
        time if it were left to idle hours.
        """
        return None

    def grow(self, tokens: int) -> None:
        """Compute `tokens` more of those it holds in the larger KV cache too, and move there when all are in."""
        raise NotImplementedError

    @abstractmethod
    def drop(self) -> None:
        """Forget everything and give the memory back."""

    @abstractmethod
    def rewind(self, keep: int) -> int:
        """Keep the first `keep` tokens, or what of them the device can; returns how many were kept."""

    def mark(self) -> None:  # noqa: B027 - most devices need none
        """Where a device cannot rewind to any length, it shall be able to rewind to here, and no longer to before."""

    @abstractmethod
    def logits(self, last: int = 1) -> Logits:
        """Logits [last, vocab] after each of the last tokens of the last forward pass; read-only.

        Up to 16 of them, or all where `keeps_all` was set before it.
        """

    def take(self, other: "Slot", tokens: int) -> None:
        """Hold the first `tokens` of another slot of the same runtime too; there is room. Where `copies` is true."""
        raise NotImplementedError

    def stored(self, begin: int, end: int) -> Values:
        """Keys and values of the tokens from `begin` to `end`. Where the runtime has a `kv_layout`."""
        raise NotImplementedError

    def restore(self, tokens: TokenIds, values: Values) -> None:
        """Hold these tokens [n] too; theirs are the first n of these keys and values. There is room."""
        raise NotImplementedError

    def release(self) -> None:
        """Let another request have this slot."""
        self.busy = self.keeps_all = False
        self.last_used = time.monotonic_ns()


class Runtime(ABC):
    """A loaded model.

    context_length: the served window, in tokens. continues: whether tokens can be added to a KV cache that holds some.
    rewinds: whether any number of them can be taken off it again. notes: what is otherwise than was asked for, or than
    is usual; a sentence each.
    batches: whether one pass over several slots, one token each, costs less than one pass for each.
    copies: whether a slot can take over what another one holds.
    whole: whether a pass gives logits after each of its tokens, and not after the last one only.
    kv_bytes_per_token: of keys and values, over all layers.
    first_tokens: what a KV cache that cannot grow has room for at first; None where it grows by itself.
    turn: tokens beyond which all of a conversation is computed otherwise; None where there is no such length.
    made_by: what computes keys and values: another one would round them otherwise.
    heads: of attention, if the products of all of a pass's queries and all keys are in memory at once; else 0.
    kv_layout: how they lie, where they can be taken out and put back; else empty.
    """

    folder: ModelFolder
    context_length: int
    vocab_size: int
    kv_bytes_per_token: int
    continues: bool = True
    rewinds: bool = True
    batches: bool = False
    copies: bool = False
    first_tokens: int | None = None
    whole: bool = True
    notes: tuple[str, ...] = ()
    turn: int | None = None
    made_by: str = ""
    heads: int = 0
    kv_layout: Layout = MappingProxyType({})

    def pass_tokens(self, room: int) -> int:
        """How many tokens a pass of prefill has, in a KV cache with room for so many; an even number."""
        bytes_per_token = np.dtype(np.float32).itemsize * self.heads * room
        most = SCORES_BYTES // bytes_per_token if bytes_per_token else PREFILL_CHUNK
        return max(2, min(PREFILL_CHUNK, most) // 2 * 2)

    @abstractmethod
    def close(self) -> None:
        """Free the model. Its slots, which hold nothing any more, are of no further use."""

    @abstractmethod
    def slot(self, index: int) -> Slot:
        """A new, empty slot."""

    @abstractmethod
    def forward(self, batch: Sequence[tuple[Slot, TokenIds]]) -> None:
        """Append tokens [n] to each slot, which has room for them. Several slots: one token each.

        Raises what the library raises where the model fails; the slots of the batch are then to be dropped.
        """
