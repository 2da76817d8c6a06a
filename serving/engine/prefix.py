"""Pure planning of the KV cache: which slot a request continues, what it keeps, and how the rest is cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from serving.types import TokenIds

# Tokens of a conversation that go into a larger KV cache with each token of an answer, where that is late. A pass over
# so many takes less than two passes over one: the answer slows down, and does not stop.
LATE_PACE = 4
# That a conversation goes on which has just been answered: what is lost of it counts so much.
RETURN_PROBABILITY = 0.5


@dataclass(frozen=True, slots=True)
class SlotView:
    """What planning needs to know of an idle slot: the tokens in its KV cache, and when it was last used."""

    index: int
    tokens: TokenIds
    last_used: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Use slot `index`; rewind it to `keep` tokens, then append the prompt from there."""

    index: int
    keep: int


def common_prefix(a: TokenIds, b: TokenIds) -> int:
    """Length of the longest common beginning."""
    n = min(a.size, b.size)
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if different.size else n


def plan(prompt: TokenIds, idle: Sequence[SlotView], copies: bool = False) -> Plan:
    """Pick the slot, of at least one, to use for a prompt [n].

    It is the one with the longest common prefix, unless that would throw away more of another conversation than it
    saves, as where two have nothing but a system prompt in common; then it is the least recently used one. Where a
    slot can copy what another holds, nothing needs to be thrown away but an answer that is to be made again.
    """
    best, oldest = longest_prefix(prompt, idle), least_used(idle)
    otherwise = longest_prefix(prompt, [oldest])
    lost = sum(slot.tokens.size - best.keep for slot in idle if slot.index == best.index)
    if copies:
        return best if lost == 0 or best.keep == prompt.size - 1 else otherwise
    return best if best.keep - otherwise.keep >= RETURN_PROBABILITY * lost else otherwise


def least_used(idle: Sequence[SlotView]) -> SlotView:
    """The slot, of at least one, that has not been used for the longest time."""
    return min(idle, key=lambda slot: slot.last_used)


def longest_prefix(prompt: TokenIds, slots: Sequence[SlotView]) -> Plan:
    """The slot, of at least one, that has most of a prompt's beginning; of several, the least recently used one.

    The last prompt token is always computed anew, because its logits are needed.
    """
    kept = {slot.index: min(common_prefix(prompt, slot.tokens), prompt.size - 1) for slot in slots}
    best = min(slots, key=lambda slot: (-kept[slot.index], slot.last_used))
    return Plan(best.index, kept[best.index])


def prefill_cuts(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut [start, stop) into pieces of `size` tokens. An even size keeps int8 activations off the odd-row kernel."""
    for begin in range(start, stop, size):
        yield begin, min(begin + size, stop)


def capacity_for(tokens: int, context_length: int, step: int) -> int:
    """KV capacity, in tokens, to allocate for a conversation of `tokens`: doubling steps, never the whole context.

    Where a KV cache cannot grow, a larger one means computing the conversation again. Doubling keeps all such work
    together below the price of one prefill of the final conversation.
    """
    capacity = step
    while capacity < tokens:
        capacity *= 2
    return min(capacity, context_length)


def first_capacity(share: int, context_length: int, step: int) -> int:
    """KV capacity, in tokens, to begin with where it cannot grow: the whole window, if `share` tokens hold it.

    Else a part of the share that leaves room for the next two sizes beside each other.
    """
    if context_length <= share:
        return context_length
    capacity = step
    while 8 * capacity <= share:
        capacity *= 2
    return min(capacity, context_length)


def is_late(behind: int, room: int) -> bool:
    """Whether a larger KV cache that lacks `behind` tokens is to get LATE_PACE of them with each pass from now on.

    room: tokens until the smaller one is full. Each pass adds one to what the other must have.
    """
    return behind >= (LATE_PACE - 1) * room
