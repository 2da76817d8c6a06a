"""One answer on a scripted model: its text, its end, what it continues and what it guesses."""

import hashlib
import threading
from dataclasses import replace
from itertools import count, islice
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from serving.engine.engine import Engine
from serving.engine.runtime import PREFILL_CHUNK
from serving.text.prompt import Prompt
from serving.text.reasoning import Markers
from serving.types import Completion, EngineSettings, Grammar, Message, complete
from tests.scripted import GREEDY, ScriptedRuntime, saying, user, vocab_size


def test_text_comes_in_whole_characters_and_without_the_end_of_turn(prompt: Prompt) -> None:
    text = "h\u00e9llo \U0001f30d, na\u00efve \u65e5\u672c"
    with Engine(ScriptedRuntime(saying(prompt, text), vocab_size(prompt)), prompt) as engine:
        chunks = list(engine.generate(user("hi"), GREEDY))
    assert "".join(chunk.text for chunk in chunks) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in chunk.text for chunk in chunks)
    assert chunks[-1].finish_reason == "stop" and chunks[-1].token_id == 2
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_a_stop_string_ends_the_answer_and_is_not_shown(prompt: Prompt) -> None:
    with Engine(ScriptedRuntime(saying(prompt, "one two three four"), vocab_size(prompt)), prompt) as engine:
        answer = complete(engine.generate(user("hi"), replace(GREEDY, stop=("three", "zzz"))))
    assert answer.text == "one two "
    assert (answer.last.finish_reason, answer.last.stop) == ("stop", "three")


def test_what_a_stop_string_held_back_is_shown_at_the_end(prompt: Prompt) -> None:
    with Engine(ScriptedRuntime(saying(prompt, "count thr"), vocab_size(prompt)), prompt) as engine:
        answer = complete(engine.generate(user("hi"), replace(GREEDY, stop=("three",))))
    assert (answer.text, answer.last.stop) == ("count thr", None)


def test_max_tokens_and_the_window_both_end_an_answer_for_its_length(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt) as engine:
        short = complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=5)))
    assert (short.last.finish_reason, len(short.token_ids), short.last.completion_tokens) == ("length", 5, 5)
    tight = ScriptedRuntime(scripted.next_token, scripted.vocab_size, context_length=20)
    with Engine(tight, prompt) as engine:
        answer = complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=None)))
    assert answer.last.finish_reason == "length"
    assert answer.last.prompt_tokens + answer.last.completion_tokens == 20


def test_a_follow_up_prefills_only_what_is_new(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt) as engine:
        first = complete(engine.generate(user("tell me " * 30), GREEDY))
        scripted.forwards.clear()
        second = complete(
            engine.generate(user("tell me " * 30, first.text, "and then?"), replace(GREEDY, max_tokens=1))
        )
    assert second.last.cached_tokens >= first.last.prompt_tokens
    assert sum(map(len, scripted.forwards)) == second.last.prompt_tokens - second.last.cached_tokens


def test_answers_do_not_depend_on_what_the_cache_holds(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    """Interleaved conversations with edits and regenerations, on two slots, against a fresh engine each time."""
    rng = np.random.default_rng(0)
    conversations: list[list[Message]] = [[Message("user", f"topic {i % 3}")] for i in range(6)]
    reused = 0
    with Engine(scripted, prompt, EngineSettings(slots=2)) as engine:
        for step in range(120):
            messages = conversations[rng.integers(len(conversations))]
            if len(messages) > 2 and rng.random() < 0.3:  # edit an earlier turn
                del messages[2 * int(rng.integers(1, (len(messages) + 1) // 2)) :]
                messages.append(Message("user", f"edited {step}"))
            options = replace(GREEDY, max_tokens=int(rng.integers(1, 12)))
            answer = complete(engine.generate(messages, options))
            with Engine(
                ScriptedRuntime(scripted.next_token, scripted.vocab_size), prompt, EngineSettings(slots=1)
            ) as fresh:
                assert answer.token_ids == complete(fresh.generate(messages, options)).token_ids
            reused += answer.last.cached_tokens
            if rng.random() < 0.3:
                continue  # the same question again, as a regenerated answer asks it
            messages += [Message("assistant", answer.text), Message("user", f"more {step}")]
    assert reused > 1000


def test_a_device_that_cannot_continue_gives_the_same_answers(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    limited = ScriptedRuntime(scripted.next_token, scripted.vocab_size, continues=False)
    with Engine(scripted, prompt) as engine, Engine(limited, prompt, EngineSettings(slots=1)) as plain:
        history = user("hello " * 100)
        for turn in range(3):
            answers = [complete(e.generate(history, GREEDY)) for e in (engine, plain)]
            assert answers[0].token_ids == answers[1].token_ids
            assert answers[1].last.cached_tokens == 0
            history += [Message("assistant", answers[0].text), Message("user", f"turn {turn}")]


def test_a_device_that_rewinds_only_to_where_states_were_kept_continues_there(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    limited = ScriptedRuntime(scripted.next_token, scripted.vocab_size, rewinds=False, keeps=True)
    with Engine(scripted, prompt) as engine, Engine(limited, prompt, EngineSettings(slots=1)) as plain:

        def answers(history: list[Message]) -> list[Completion]:
            made = [complete(each.generate(history, GREEDY)) for each in (engine, plain)]
            assert made[0].token_ids == made[1].token_ids
            return made

        history = user("hello " * 100)
        first, _ = answers(history)
        _, again = answers(history)
        assert again.last.cached_tokens == first.last.prompt_tokens - 1
        _, edited = answers([*history, Message("assistant", "Something else."), Message("user", "and then?")])
        assert edited.last.cached_tokens == first.last.prompt_tokens - 1
        answers(history)
        _, next_turn = answers([*history, Message("assistant", first.text), Message("user", "and then?")])
        assert next_turn.last.cached_tokens >= first.last.prompt_tokens - 1
        _, earlier = answers([*history, Message("assistant", "Something else."), Message("user", "and then?")])
        assert earlier.last.cached_tokens == 0
        _, other = answers(user("another"))
        assert other.last.cached_tokens == 0


def test_closing_the_stream_stops_the_generation_within_one_forward(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt, EngineSettings(slots=1)) as engine:
        reached, go_on = threading.Event(), threading.Event()
        stream = engine.generate(user("hi"), replace(GREEDY, max_tokens=2000))
        list(islice(stream, 5))

        def hold() -> None:
            reached.set()
            assert go_on.wait(30)

        scripted.before_forward = hold
        assert reached.wait(30)
        stream.close()  # type: ignore[attr-defined]
        count = len(scripted.forwards)
        scripted.before_forward = lambda: None
        go_on.set()
        # The only slot is free again, so this answer would wait for ever if the first went on.
        answer = complete(engine.generate(user("other"), replace(GREEDY, max_tokens=3)))
    own = -(-answer.last.prompt_tokens // PREFILL_CHUNK) + 2
    assert len(scripted.forwards) - count <= 1 + own


def test_cancelling_takes_effect_between_two_chunks_of_prefill(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt) as engine:
        long = user("word " * 1500)
        chunks = list(engine.generate(long, GREEDY, cancelled=lambda: len(scripted.forwards) >= 3))
    assert chunks[-1].finish_reason == "cancelled"
    assert len(scripted.forwards) == 3
    assert [c.prefilled_tokens for c in chunks[:3]] == [PREFILL_CHUNK, 2 * PREFILL_CHUNK, 3 * PREFILL_CHUNK]


def test_guesses_save_passes_and_change_nothing(prompt: Prompt) -> None:
    text = "one two three four five six seven eight nine ten. " * 8
    passes: dict[bool, int] = {}
    answers = []
    for guess in (False, True):
        runtime = ScriptedRuntime(saying(prompt, text), vocab_size(prompt))
        with Engine(runtime, prompt, EngineSettings(guess=guess)) as engine:
            answers.append(complete(engine.generate(user("count"), replace(GREEDY, max_tokens=500))))
        passes[guess] = len(runtime.forwards)
    assert answers[0].text == answers[1].text == text
    assert answers[0].token_ids == answers[1].token_ids
    assert passes[True] < passes[False] / 2


def test_wrong_guesses_change_nothing(prompt: Prompt) -> None:
    """A model that mostly repeats itself, and says something else where a guess does not expect it."""

    def number(tokens: tuple[int, ...]) -> int:
        return int.from_bytes(hashlib.sha256(repr(tokens).encode()).digest()[:4], "big")

    def next_token(tokens: tuple[int, ...]) -> int:
        surprise = number(tokens)
        return 100 + (surprise // 8 if surprise % 8 == 0 else number(tokens[-2:])) % 6

    options = replace(GREEDY, max_tokens=600)
    answers, sizes = [], []
    for guess in (False, True):
        runtime = ScriptedRuntime(next_token, vocab_size(prompt))
        with Engine(runtime, prompt, EngineSettings(guess=guess)) as engine:
            answers.append(complete(engine.generate(user("hi"), options)))
        sizes = [len(forward) for forward in runtime.forwards[1:]]
    assert answers[0].token_ids == answers[1].token_ids
    assert len(answers[1].token_ids) == answers[1].last.completion_tokens == 600
    assert sum(sizes) - 20 > 600  # guesses, and wrong ones among them


def test_reasoning_comes_as_its_own_kind_of_chunk(prompt: Prompt) -> None:
    thinking = replace(prompt, markers=Markers("<think>", "</think>"))
    runtime = ScriptedRuntime(saying(prompt, "<think>\nhm, so\n</think>\n\nyes, END no"), vocab_size(prompt))
    with Engine(runtime, thinking) as engine:
        answer = complete(engine.generate(user("hi"), replace(GREEDY, stop=("END", "so"))))
    assert (answer.reasoning, answer.text, answer.last.finish_reason) == ("hm, so\n", "yes, ", "stop")


def test_a_grammar_begins_where_reasoning_ends_and_the_answer_does_not_end_before_it(prompt: Prompt) -> None:
    opened = prompt.template.replace("assistant\\n", "assistant\\n<think>\\n")
    assert opened != prompt.template
    thinking = replace(prompt, template=opened, markers=Markers("<think>", "</think>"), fixed_end_ids=frozenset({2}))
    options = replace(GREEDY, grammar=Grammar("regex", r"\[4[0-9]\]"), max_tokens=30)

    def asked(text: str) -> Completion:
        with Engine(ScriptedRuntime(saying(prompt, text), vocab_size(prompt)), thinking) as engine:
            return complete(engine.generate(user("hi"), options))

    answer = asked("<think>\nhm, so\n</think>[42] no")
    assert (answer.reasoning, answer.text, answer.last.finish_reason) == ("hm, so\n", "[42]", "stop")
    assert asked("<think>\nhm, so").last.finish_reason == "length"


@pytest.mark.parametrize("asked", range(8))
def test_whenever_it_is_cancelled_it_ends_with_the_reason(
    prompt: Prompt, scripted: ScriptedRuntime, asked: int
) -> None:
    answers = count()
    batches: SimpleQueue[Any] = SimpleQueue()
    with Engine(scripted, prompt) as engine:
        engine.submit(prompt.encode("hi"), GREEDY, lambda: next(answers) >= asked, batches.put)
        while (last := batches.get(timeout=30)[-1]).finish_reason is None:
            pass
    assert last.finish_reason == "cancelled"
