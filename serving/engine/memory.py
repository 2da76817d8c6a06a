"""Memory for KV caches: which conversation a request continues, and which idle ones make room for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from serving.engine.prefix import Plan, SlotView, least_used, longest_prefix, plan
from serving.engine.runtime import Runtime, Slot
from serving.errors import OutOfMemory
from serving.hardware import available_memory
from serving.types import TokenIds

MOST_SLOTS = 16
TYPICAL_CONVERSATION = 2048  # tokens
SHARED_PREFIX = 32  # tokens that are copied from another conversation rather than computed again, at least


@dataclass(frozen=True, slots=True)
class Need:
    """A KV cache for `tokens`, in bytes: what it takes, what others leave of `limit`, and what the machine has free."""

    tokens: int
    wanted: int
    left: int
    limit: int
    free: int


def to_drop(need: Need, idle: Mapping[int, int]) -> int | None:
    """The idle conversation that makes room, the least recently used one; None where there is room already.

    idle: when each slot was last used, of those that hold memory. Raises OutOfMemory where there is none left.
    """
    if need.wanted <= min(need.left, need.free):
        return None
    if idle:
        return min(idle, key=idle.__getitem__)
    what = f"a KV cache for {need.tokens:,} tokens needs {need.wanted >> 20:,} MiB"
    if need.left < need.free:
        raise OutOfMemory(
            f"{what}, and --kv-memory leaves {max(0, need.left) >> 20:,} MiB of {need.limit >> 20:,}: "
            "wait for other answers to end, shorten the conversation, or start with more --kv-memory."
        )
    raise OutOfMemory(
        f"{what}, and {need.free >> 20:,} MiB are free: close other programs, shorten the conversation, or "
        "serve a shorter window with --context-length."
    )


def slots_for(kv_memory: int, typical: int, parallel: int) -> int:
    """How many conversations to keep, if a typical one takes so many bytes; no fewer than are answered at once."""
    return max(parallel, min(MOST_SLOTS, kv_memory // max(1, typical)))


class KvMemory:
    """The slots of one runtime, and what their KV caches may take together: `limit` bytes.

    kv_memory: the limit, or None for half of what is free. count: slots, or None for as many as fit, and no fewer
    than `parallel`.
    """

    def __init__(self, runtime: Runtime, kv_memory: int | None, count: int | None, parallel: int) -> None:
        self._runtime = runtime
        self.limit = kv_memory or available_memory() // 2
        typical = runtime.kv_bytes_per_token * min(runtime.context_length, TYPICAL_CONVERSATION)
        count = count or slots_for(self.limit, typical, parallel)
        self.slots = [runtime.slot(index) for index in range(count)]

    @property
    def held(self) -> int:
        """Bytes of all KV caches."""
        return self._runtime.kv_bytes_per_token * sum(slot.kv_tokens for slot in list(self.slots))

    def take(self, prompt: TokenIds, anew: bool = False) -> tuple[Slot, int]:
        """An idle slot, of at least one, for a prompt [n]; and how many of its tokens to keep.

        anew: none are to be kept, as every token is to be computed.
        """
        idle = [_view(slot) for slot in self.slots if not slot.busy]
        chosen = Plan(least_used(idle).index, 0) if anew else plan(prompt, idle, self._runtime.copies)
        slot = self.slots[chosen.index]
        slot.busy = True
        return slot, chosen.keep

    def share(self, slot: Slot, prompt: TokenIds) -> None:
        """Copy what another conversation has already computed of this prompt, where the runtime can."""
        others = [_view(other) for other in self.slots if other is not slot]
        best = longest_prefix(prompt, others) if others and self._runtime.copies else None
        if best and best.keep >= len(slot.tokens) + SHARED_PREFIX:
            slot.take(self.slots[best.index], best.keep)

    def make_room(self, slot: Slot, tokens: int) -> None:
        """Give the slot a KV cache for `tokens`, freeing idle conversations if memory is short. Raises OutOfMemory."""
        tokens = min(tokens, self._runtime.context_length)
        wanted, per_token = slot.kv_tokens_for(tokens), self._runtime.kv_bytes_per_token
        if wanted <= slot.kv_tokens:
            return
        others = [other for other in self.slots if other is not slot]
        while True:
            left = self.limit - per_token * sum(other.kv_tokens for other in others)
            free = available_memory() + per_token * slot.kv_tokens
            idle = {other.index: other.last_used for other in others if not other.busy and other.kv_tokens}
            dropped = to_drop(Need(wanted, wanted * per_token, left, self.limit, free), idle)
            if dropped is None:
                break
            self.slots[dropped].drop()
        slot.reserve(tokens)


def _view(slot: Slot) -> SlotView:
    return SlotView(slot.index, np.asarray(slot.tokens, np.int32), slot.last_used)
