"""Memory for KV caches: which conversation a request continues, and which idle ones make room for it."""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from serving.engine.kept import Kept
from serving.engine.prefix import (
    LATE_PACE,
    Plan,
    SlotView,
    common_prefix,
    first_capacity,
    least_used,
    longest_prefix,
    plan,
)
from serving.engine.runtime import Runtime, Slot
from serving.errors import OutOfMemory
from serving.hardware import available_memory
from serving.types import TokenIds

MOST_SLOTS = 64  # where they fit: with fewer than there are people who talk in turn, none finds its own again
SHARES = 16  # of the memory, one of which a KV cache begins with at most; what more of them need, the idle ones give
TYPICAL_CONVERSATION = 2048  # tokens
FIRST_BYTES = 512 << 20  # of a KV cache that cannot grow and is written whole at its start, at most
IDLE_PIECE = 16  # tokens computed at a time while nobody waits: who comes meanwhile waits for so many; even, as a chunk
AGAIN_TOKENS = 8192  # of kept conversations that are computed again after a start, where only their text can be kept
CLOSING_SECONDS = 1.5  # for what is still to be kept at the end
SHARED_PREFIX = 32  # tokens that are copied from another conversation rather than computed again, at least


@dataclass(frozen=True, slots=True)
class Need:
    """A KV cache for `tokens`, in bytes: what it takes, what others leave of `limit`, and what the machine has free."""

    tokens: int
    wanted: int
    left: int
    limit: int
    free: int


class Held(NamedTuple):
    """The tokens [n] of a conversation that was in a KV cache, and when it was last used."""

    last_used: int
    tokens: TokenIds


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


def usual_limit() -> int:
    """Bytes that KV caches may take together where nobody says so."""
    return available_memory() // 2


class Shares(NamedTuple):
    """slots: conversations that are kept. tokens: what a KV cache that cannot grow begins with at most."""

    slots: int
    tokens: int


def shares(limit: int, slots: int | None, parallel: int, bytes_per_token: int, window: int) -> Shares:
    """How `limit` bytes are divided. slots: None for as many as fit. bytes_per_token: of keys and values."""
    count = slots or slots_for(limit, bytes_per_token * min(window, TYPICAL_CONVERSATION), parallel)
    return Shares(count, min(limit // min(count, SHARES), FIRST_BYTES) // max(1, bytes_per_token))


class KvMemory:
    """The slots of one runtime, and what their KV caches may take together: `limit` bytes.

    kv_memory: the limit, or None for half of what is free. count: slots, or None for as many as fit, and no fewer
    than `parallel`. kept: where conversations outlive it.
    """

    def __init__(
        self, runtime: Runtime, kv_memory: int | None, count: int | None, parallel: int, kept: Kept | None = None
    ) -> None:
        self.runtime, self._kept = runtime, kept
        self.limit = kv_memory or usual_limit()
        self._count, self._parallel = count, parallel
        self.slots: list[Slot] = []
        self._open(runtime)
        self._again = self._earlier()

    def _open(self, runtime: Runtime) -> None:
        window = runtime.context_length
        count, most = shares(self.limit, self._count, self._parallel, runtime.kv_bytes_per_token, window)
        self._spare = False  # whether a KV cache that is ready spares somebody a wait
        if (least := runtime.first_tokens) is not None:
            runtime.first_tokens = first_capacity(most, window, least)
            self._spare = runtime.first_tokens > least
        self.slots = [runtime.slot(index) for index in range(count)]
        if self._kept:
            self._kept.serve(runtime)

    @property
    def held(self) -> int:
        """Bytes of all KV caches."""
        return self.runtime.kv_bytes_per_token * sum(slot.kv_tokens for slot in list(self.slots))

    def take(self, prompt: TokenIds, anew: bool = False) -> tuple[Slot, int]:
        """An idle slot, of at least one, for a prompt [n]; and how many of its tokens to keep.

        anew: none are to be kept, as every token is to be computed.
        """
        idle = [_view(slot, prompt.size) for slot in self.slots if not slot.busy]
        chosen = Plan(least_used(idle).index, 0) if anew else plan(prompt, idle, self.runtime.copies)
        slot = self.slots[chosen.index]
        slot.busy = True
        return slot, chosen.keep

    def share(self, slot: Slot, prompt: TokenIds) -> None:
        """Copy what another conversation has already computed of this prompt, where the runtime can."""
        others = [_view(other, prompt.size) for other in self.slots if other is not slot]
        best = longest_prefix(prompt, others) if others and self.runtime.copies else None
        if best and best.keep >= len(slot.tokens) + SHARED_PREFIX:
            slot.take(self.slots[best.index], best.keep)

    def load(self, slot: Slot, tokens: TokenIds) -> bool:
        """Read a piece of what is kept of these tokens [n], after those that the slot holds; False where none is."""
        return self._kept is not None and self._kept.load(slot, tokens)

    def make_room(self, slot: Slot, tokens: int, ahead: int = 0) -> None:
        """Give the slot a KV cache for `tokens`, and for those ahead that are computed in the same way.

        Frees idle conversations if memory is short. Raises OutOfMemory.
        """
        turn = self.runtime.turn
        tokens = min(tokens + ahead, turn if turn and tokens <= turn else self.runtime.context_length)
        if slot.fits(tokens):
            return
        wanted, per_token = slot.kv_tokens_for(tokens), self.runtime.kv_bytes_per_token
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

    def prepare(self) -> bool:
        """While nobody waits: a piece of what would have to be waited for later. False where there is nothing left.

        What is to be kept is written; what another runtime held, or was kept, is read or computed again; conversations
        move to larger KV caches before theirs are full; each time the last one first. And whoever comes next finds a KV
        cache that is ready.
        """
        idle = [slot for slot in self.slots if not slot.busy]
        if (self._kept and self._kept.save(idle)) or self._restore(idle):
            return True
        for slot in sorted(idle, key=lambda slot: -slot.last_used):
            if self._ahead(slot, IDLE_PIECE, late=False):
                return True
        if self._spare and idle:
            next_one = min(idle, key=lambda slot: slot.last_used)
            if not next_one.kv_tokens and self._has_room(next_one.kv_tokens_for(1)):
                with suppress(Exception):  # whoever needs it tries again, and is told
                    next_one.reserve(1)
        return False

    def change(self, load: Callable[[], Runtime]) -> None:
        """Let another runtime take over, while no slot is busy. The old one's memory is free when it loads."""
        held = [Held(slot.last_used, np.asarray(slot.tokens, np.int32)) for slot in self.slots if slot.tokens]
        self._again = sorted(held, key=lambda text: text.last_used)
        for slot in self.slots:
            slot.drop()
        self.slots = []
        self.runtime.close()
        gc.collect()
        self.runtime = load()
        self._open(self.runtime)

    def close(self) -> None:
        """Keep what is to be kept, as far as that takes no longer than CLOSING_SECONDS, and free the slots."""
        deadline = time.monotonic() + CLOSING_SECONDS
        for slot in self.slots:
            if slot.busy:  # its answer is cut off here
                slot.release()
        while self._kept and time.monotonic() < deadline and self._kept.save(self.slots):
            pass
        self.slots.clear()

    def _earlier(self) -> list[Held]:
        """Kept conversations, the last used ones, as far as it makes sense to have them ready before they go on."""
        texts = self._kept.texts(len(self.slots)) if self._kept and self.runtime.continues else []
        texts = [text for text in texts if text.size < self.runtime.context_length]
        if not self.runtime.kv_layout:
            sizes = np.cumsum([text.size for text in texts[::-1]])
            texts = texts[len(texts) - int((sizes <= AGAIN_TOKENS).sum()) :]
        return [Held(order, text) for order, text in enumerate(texts, 1)]  # used after none, and before any other

    def _restore(self, idle: Sequence[Slot]) -> bool:
        """A piece of the last conversation that is to be there again. One that has no room is given up."""
        while self._again:
            last_used, tokens = self._again[-1]
            begun = [slot for slot in idle if 0 < common_prefix(tokens, _view(slot).tokens) == len(slot.tokens)]
            slot = max(begun, key=lambda slot: len(slot.tokens), default=None)
            slot = slot or next((slot for slot in idle if not slot.tokens), None)
            known = [common_prefix(tokens, _view(other).tokens) for other in self.slots]
            if slot is None or max(known) == tokens.size or not self._can_hold(slot, tokens.size):
                self._again.pop()
                continue
            try:
                self.make_room(slot, tokens.size)
                self.share(slot, tokens)
                begin = len(slot.tokens)
                if not self.load(slot, tokens):
                    self.runtime.forward([(slot, tokens[begin : begin + IDLE_PIECE])])
                slot.last_used = last_used
            except Exception:  # whoever goes on with it is told
                slot.drop()
                self._again.pop()
            return True
        return False

    def _can_hold(self, slot: Slot, tokens: int) -> bool:
        return slot.fits(tokens) or self._has_room(slot.kv_tokens_for(tokens) - slot.kv_tokens)

    def hurry(self, slot: Slot) -> None:
        """During an answer, before each pass: a larger KV cache that would not be ready in time is worked on."""
        self._ahead(slot, LATE_PACE, late=True)

    def _ahead(self, slot: Slot, tokens: int, late: bool) -> bool:
        more = slot.growth(late)
        if more is None or not self._has_room(more):
            return False
        try:
            slot.grow(tokens)
        except Exception:  # it is tried again when there is no other way, and whoever waits is told
            return False
        return True

    def _has_room(self, tokens: int) -> bool:
        """Whether a KV cache for so many more tokens fits, without anything being dropped for it."""
        wanted = tokens * self.runtime.kv_bytes_per_token
        return not wanted or wanted <= min(self.limit - self.held, available_memory())


def _view(slot: Slot, size: int | None = None) -> SlotView:
    """A slot, as a conversation of so many tokens can use it."""
    tokens = slot.tokens if size is None or slot.serves(size) else []
    return SlotView(slot.index, np.asarray(tokens, np.int32), slot.last_used)
