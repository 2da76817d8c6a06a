"""Memory for KV caches: what is planned, and what it comes to on a scripted model."""

from dataclasses import replace

import pytest

from serving.engine.engine import Engine
from serving.engine.memory import Need, to_drop
from serving.engine.oga import CAPACITY_STEP, OgaSlot
from serving.engine.runtime import Logits
from serving.errors import OutOfMemory, ServingError
from serving.text.prompt import Prompt
from serving.types import EngineSettings, Message, complete
from tests.scripted import GREEDY, ScriptedRuntime, user

FIRST_STEP = EngineSettings(slots=1, kv_memory=3 * CAPACITY_STEP << 10)  # the window has four


def test_the_kv_cache_is_one_step_for_a_short_chat_on_a_long_window(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.context_length, scripted.kv_bytes_per_token = 131_072, 1 << 16
    with Engine(scripted, prompt, EngineSettings(slots=1, kv_memory=7 * CAPACITY_STEP << 16)) as engine:
        complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=None, stop=("e",))))
    assert scripted.capacities == [CAPACITY_STEP]


def test_an_answer_that_outgrows_its_kv_cache_goes_on_unchanged(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.kv_bytes_per_token = 1 << 10
    options = replace(GREEDY, max_tokens=CAPACITY_STEP + 300)
    with Engine(scripted, prompt, FIRST_STEP) as engine:
        grown = complete(engine.generate(user("hi"), options))
    assert scripted.capacities == [CAPACITY_STEP, 2 * CAPACITY_STEP]
    tokens = prompt.encode(prompt.render(user("hi"))).tolist()
    for token in grown.token_ids:
        assert token == scripted.next_token(tuple(tokens))
        tokens.append(token)
    assert len(grown.token_ids) == CAPACITY_STEP + 300


@pytest.mark.parametrize("deterministic", [False, True])
def test_beyond_its_turn_a_model_computes_all_of_a_conversation_in_the_other_way(
    prompt: Prompt, scripted: ScriptedRuntime, monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    """Every logits that are looked at come from a cache with as much room as their way needs."""
    turn = CAPACITY_STEP + 476
    scripted.folder, scripted.deterministic = replace(scripted.folder, turn=turn), deterministic
    scripted.turn = turn - 1 if deterministic else turn
    scripted.next_token = lambda tokens: 10 + len(tokens) % 7  # which guesses follow
    looked_at: list[int] = []
    logits = OgaSlot.logits

    def watched(slot: OgaSlot, last: int = 1) -> Logits:
        for size in range(len(slot.tokens) - last + 1, len(slot.tokens) + 1):
            assert slot._cache and scripted.turn
            assert (slot._cache.capacity > turn) == (size > scripted.turn), (slot._cache.capacity, size)
            looked_at.append(size)
        return logits(slot, last)

    monkeypatch.setattr(OgaSlot, "logits", watched)
    options = replace(GREEDY, max_tokens=turn)
    with Engine(scripted, prompt, EngineSettings(slots=1, guess=True)) as engine:
        asked = user("hi")
        first = complete(engine.generate(asked, options))
        assert len(first.token_ids) == turn and {turn - 1, turn, turn + 1} <= set(looked_at)
        again = complete(engine.generate(asked, replace(options, max_tokens=3)))
        assert again.last.cached_tokens == 0 and again.token_ids == first.token_ids[:3]
        beyond = complete(engine.generate(user("a " * 2 * turn), replace(options, max_tokens=3)))
        assert beyond.last.prompt_tokens > turn and beyond.last.cached_tokens == 0
    assert turn in scripted.capacities and max(scripted.capacities) > turn


def test_too_little_memory_is_a_clear_refusal_and_the_engine_goes_on(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.kv_bytes_per_token = 1 << 50
    with Engine(scripted, prompt) as engine:
        with pytest.raises(ServingError, match=r"KV cache for 1,024 tokens needs [\d,]+ MiB"):
            complete(engine.generate(user("hi"), GREEDY))
        scripted.kv_bytes_per_token = 0
        assert complete(engine.generate(user("hi"), GREEDY)).token_ids


def test_idle_conversations_make_room_oldest_first(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.kv_bytes_per_token = 1 << 10
    settings = EngineSettings(slots=3, parallel=2, kv_memory=2 * CAPACITY_STEP << 10)  # for two of the three
    with Engine(scripted, prompt, settings) as engine:
        answers = {name: complete(engine.generate(user(name * 20), GREEDY)) for name in ("anna ", "bob ", "carl ")}

        def follow_up(name: str) -> int:
            messages = user(name * 20, answers[name].text, "and then?")
            return complete(engine.generate(messages, replace(GREEDY, max_tokens=1))).last.cached_tokens

        assert follow_up("bob ") > 20 and follow_up("carl ") > 20
        assert follow_up("anna ") < 10


def test_forty_people_who_ask_in_turn_find_their_conversations_again(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    conversations = [user(f"{name} " * 20) for name in range(40)]
    short = replace(GREEDY, max_tokens=2)
    with Engine(scripted, prompt) as engine:
        answers = [complete(engine.generate(asked, short)) for asked in conversations]
        for asked, answer in zip(conversations, answers, strict=True):
            follow_up = [*asked, Message("assistant", answer.text), Message("user", "and then?")]
            again = complete(engine.generate(follow_up, short))
            assert again.last.cached_tokens >= answer.last.prompt_tokens


def test_a_conversation_too_large_for_the_kv_memory_is_refused_and_others_go_on(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    scripted.kv_bytes_per_token = 1 << 10
    with Engine(scripted, prompt, EngineSettings(kv_memory=CAPACITY_STEP << 10)) as engine:
        with pytest.raises(OutOfMemory, match="2,048 tokens needs 2 MiB, and --kv-memory leaves"):
            complete(engine.generate(user("word " * 1500), GREEDY))
        assert complete(engine.generate(user("hi"), GREEDY)).token_ids


def test_room_is_made_by_the_least_recently_used_conversation_until_there_is_enough() -> None:
    need = Need(tokens=100, wanted=100, left=100, limit=300, free=100)
    idle = {1: 9, 2: 4, 3: 7}
    assert to_drop(need, idle) is None
    assert to_drop(replace(need, left=99), idle) == to_drop(replace(need, free=99), idle) == 2


@pytest.mark.parametrize(
    ("left", "free", "fix"), [(99, 1000, "more --kv-memory"), (-5, 1000, "leaves 0 MiB"), (1000, 99, "close other")]
)
def test_a_refusal_says_which_memory_is_short(left: int, free: int, fix: str) -> None:
    with pytest.raises(OutOfMemory, match=fix):
        to_drop(Need(tokens=100, wanted=100, left=left, limit=1000, free=free), {})
