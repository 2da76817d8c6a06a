"""Conversations that outgrow a KV cache which cannot grow: they move to a larger one before anybody waits for it."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from serving.engine.engine import Engine
from serving.engine.memory import IDLE_PIECE, KvMemory
from serving.engine.oga import CAPACITY_STEP, OgaRuntime
from serving.engine.prefix import LATE_PACE
from serving.engine.runtime import PREFILL_CHUNK, Slot
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import EngineSettings, complete
from tests.scripted import GREEDY, ScriptedRuntime, user, vocab_size

KIB = 1 << 10
NARROW = EngineSettings(slots=1, kv_memory=7 * CAPACITY_STEP * KIB, guess=False)  # the window has 16


@pytest.fixture
def long_one(prompt: Prompt, scripted: ScriptedRuntime) -> ScriptedRuntime:
    vocabulary = vocab_size(prompt) - 10
    # By the length, the end and the middle: a hash of all tokens takes a minute here.
    scripted.next_token = lambda t: 10 + (31 * len(t) + 7 * t[-1] + 3 * t[len(t) // 2] + t[0]) % vocabulary
    scripted.context_length, scripted.kv_bytes_per_token = 16 * CAPACITY_STEP, KIB
    return scripted


def filled(memory: KvMemory, tokens: int) -> Slot:
    """The first slot, as an answer leaves it."""
    slot = memory.slots[0]
    memory.make_room(slot, tokens)
    for begin in range(0, tokens, PREFILL_CHUNK):
        memory.runtime.forward([(slot, np.arange(begin, min(tokens, begin + PREFILL_CHUNK), dtype=np.int32) % 50)])
    slot.release()
    return slot


def test_a_conversation_moves_while_nobody_waits_and_every_token_stays(long_one: ScriptedRuntime) -> None:
    memory = KvMemory(long_one, NARROW.kv_memory, 1, 1)
    slot = filled(memory, 600)
    long_one.forwards.clear()
    pieces = 0
    while memory.prepare():
        pieces += 1
    assert long_one.capacities == [CAPACITY_STEP, 2 * CAPACITY_STEP]
    assert len(slot.tokens) == 600 == sum(map(len, long_one.forwards))
    assert pieces == len(long_one.forwards) == -(-600 // IDLE_PIECE)  # whoever comes waits for one of them
    assert slot.fits(2 * CAPACITY_STEP) and slot.kv_tokens == 2 * CAPACITY_STEP
    assert not memory.prepare()


def test_a_short_conversation_stays_where_it_is(long_one: ScriptedRuntime) -> None:
    memory = KvMemory(long_one, NARROW.kv_memory, 1, 1)
    filled(memory, CAPACITY_STEP // 2)
    assert not memory.prepare() and long_one.capacities == [CAPACITY_STEP]


def test_what_was_computed_ahead_counts_where_the_room_is_needed_before_all_of_it_is(long_one: ScriptedRuntime) -> None:
    memory = KvMemory(long_one, NARROW.kv_memory, 1, 1)
    slot = filled(memory, 600)
    for _ in range(5):
        memory.prepare()
    memory.make_room(slot, CAPACITY_STEP + 100)
    assert len(slot.tokens) == 5 * IDLE_PIECE


def test_a_rewound_conversation_is_rewound_in_both(long_one: ScriptedRuntime) -> None:
    memory = KvMemory(long_one, NARROW.kv_memory, 1, 1)
    slot = filled(memory, 900)
    for _ in range(40):
        memory.prepare()
    assert slot.rewind(560) == 560
    memory.runtime.forward([(slot, np.full(40, 7, np.int32))])
    while memory.prepare():
        pass
    expected = long_one.next_token(tuple(slot.tokens))
    slot.rewind(599)
    memory.runtime.forward([(slot, np.full(1, 7, np.int32))])
    assert slot.kv_tokens == 2 * CAPACITY_STEP and int(slot.logits()[0].argmax()) == expected


def test_no_conversation_is_dropped_for_room_that_is_only_wanted_ahead(long_one: ScriptedRuntime) -> None:
    memory = KvMemory(long_one, 2 * CAPACITY_STEP * KIB, 1, 1)
    slot = filled(memory, 600)
    assert not memory.prepare()
    assert len(slot.tokens) == 600 and long_one.capacities == [CAPACITY_STEP]


def test_whoever_comes_next_finds_a_kv_cache_that_is_ready(long_one: ScriptedRuntime) -> None:
    window = long_one.context_length
    memory = KvMemory(long_one, 3 * window * KIB, 3, 1)
    filled(memory, 100)
    assert [slot.kv_tokens for slot in memory.slots] == [window, 0, 0]
    memory.prepare()
    memory.prepare()
    assert [slot.kv_tokens for slot in memory.slots] == [window, window, 0]
    slot, _ = memory.take(np.array([3, 1], np.int32))
    assert slot is memory.slots[1]


def test_no_kv_cache_is_made_ahead_where_making_one_takes_no_time(long_one: ScriptedRuntime) -> None:
    memory = KvMemory(long_one, NARROW.kv_memory, 3, 1)
    assert not memory.prepare() and memory.held == 0


def test_an_answer_longer_than_its_kv_cache_has_no_stop(prompt: Prompt, long_one: ScriptedRuntime) -> None:
    with Engine(long_one, prompt, NARROW) as engine:
        answer = complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=3 * CAPACITY_STEP)))
    assert len(answer.token_ids) == 3 * CAPACITY_STEP
    assert long_one.capacities[:2] == [CAPACITY_STEP, 2 * CAPACITY_STEP]
    singles = [at for at, tokens in enumerate(long_one.forwards) if len(tokens) == 1]
    between = [long_one.forwards[a + 1 : b] for a, b in pairwise(singles)]
    assert max(sum(map(len, passes)) for passes in between) <= LATE_PACE
    tokens = prompt.encode(prompt.render(user("hi"))).tolist()
    for token in answer.token_ids:
        assert token == long_one.next_token(tuple(tokens))
        tokens.append(token)


def test_a_device_that_cannot_rewind_is_given_no_second_cache(long_one: ScriptedRuntime) -> None:
    long_one.rewinds, long_one.keeps = False, True
    memory = KvMemory(long_one, NARROW.kv_memory, 1, 1)
    filled(memory, 900)
    assert not memory.prepare() and long_one.capacities == [CAPACITY_STEP]


# The real model


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_moved_conversation_goes_on_exactly(exact_model: Path, deterministic: bool) -> None:
    runtime = OgaRuntime(ModelFolder.open(exact_model), None, 1, deterministic=deterministic)
    runtime.first_tokens = 64
    memory = KvMemory(runtime, runtime.kv_bytes_per_token * 1000, 1, 1)
    runtime.first_tokens = 64
    tokens = np.random.default_rng(0).integers(10, runtime.vocab_size, 60).astype(np.int32)
    slot = memory.slots[0]
    memory.make_room(slot, 63)
    runtime.forward([(slot, tokens[:50])])
    slot.release()
    while memory.prepare():
        pass
    assert slot.kv_tokens == 128 and slot.tokens == tokens[:50].tolist()
    runtime.forward([(slot, tokens[50:])])
    np.testing.assert_allclose(slot.logits(10), runtime.all_logits(tokens)[-10:], atol=1e-3)
