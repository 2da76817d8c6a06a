"""The decoding loop: on a scripted model for what can be counted, on the real demo model for what must be equal."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from builder.demo import CHECKPOINT
from serving.engine.engine import Engine
from serving.engine.oga import CAPACITY_STEP, OgaRuntime
from serving.engine.runtime import PREFILL_CHUNK
from serving.errors import (
    Busy,
    ContextOverflow,
    EngineStopped,
    InvalidRequest,
    ModelFolderError,
    OutOfMemory,
    ServingError,
)
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.text.reasoning import Markers
from serving.types import Chunk, Completion, EngineSettings, Grammar, Message, SamplingOptions, complete
from tests.scripted import NextToken, ScriptedRuntime, by_hash

GREEDY = SamplingOptions(temperature=0.0, max_tokens=60)


def user(*texts: str) -> list[Message]:
    """A conversation of the given texts, the user's first."""
    return [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]


# A scripted model


@pytest.fixture(scope="module")
def prompt(demo_model: Path) -> Prompt:
    return Prompt.load(demo_model)


def vocab_size(prompt: Prompt) -> int:
    return prompt.tokenizer.get_vocab_size()


def saying(prompt: Prompt, text: str, end: int = 2) -> NextToken:
    """A model that answers any prompt with `text`, then with the token `end`."""
    answer = [*prompt.encode(text).tolist(), end]
    start = prompt.encode("<|im_start|>assistant\n").tolist()

    def next_token(tokens: tuple[int, ...]) -> int:
        begun = max(i for i in range(len(tokens)) if list(tokens[i : i + len(start)]) == start) + len(start)
        return answer[min(len(tokens) - begun, len(answer) - 1)]

    return next_token


@pytest.fixture
def scripted(prompt: Prompt) -> Iterator[ScriptedRuntime]:
    yield ScriptedRuntime(by_hash(vocab_size(prompt)), vocab_size(prompt))


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
    assert answer.last.finish_reason == "stop"


def test_what_a_stop_string_held_back_is_shown_at_the_end(prompt: Prompt) -> None:
    with Engine(ScriptedRuntime(saying(prompt, "count thr"), vocab_size(prompt)), prompt) as engine:
        assert complete(engine.generate(user("hi"), replace(GREEDY, stop=("three",)))).text == "count thr"


def test_max_tokens_and_the_window_both_end_an_answer_for_its_length(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt) as engine:
        short = complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=5)))
    assert (short.last.finish_reason, len(short.token_ids), short.last.completion_tokens) == ("length", 5, 5)
    tight = ScriptedRuntime(scripted.next_token, scripted.vocab_size, context_length=20)
    with Engine(tight, prompt) as engine:
        answer = complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=None)))
    assert answer.last.finish_reason == "length"
    assert answer.last.prompt_tokens + answer.last.completion_tokens == 20


def test_a_prompt_without_room_for_an_answer_is_refused_at_once(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.context_length = 30
    with Engine(scripted, prompt) as engine, pytest.raises(ContextOverflow, match="context window of 30"):
        engine.generate(user("word " * 40))


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


def test_the_kv_cache_is_one_step_for_a_short_chat_on_a_long_window(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.context_length = 131_072
    with Engine(scripted, prompt) as engine:
        complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=None, stop=("e",))))
    assert scripted.capacities == [CAPACITY_STEP]


def test_an_answer_that_outgrows_its_kv_cache_goes_on_unchanged(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    options = replace(GREEDY, max_tokens=CAPACITY_STEP + 300)
    with Engine(scripted, prompt) as engine:
        grown = complete(engine.generate(user("hi"), options))
    assert scripted.capacities == [CAPACITY_STEP, 2 * CAPACITY_STEP]
    tokens = prompt.encode(prompt.render(user("hi"))).tolist()
    for token in grown.token_ids:
        assert token == scripted.next_token(tuple(tokens))
        tokens.append(token)
    assert len(grown.token_ids) == CAPACITY_STEP + 300


def test_a_device_that_cannot_continue_gives_the_same_answers(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    limited = ScriptedRuntime(scripted.next_token, scripted.vocab_size, continues=False)
    with Engine(scripted, prompt) as engine, Engine(limited, prompt, EngineSettings(slots=1)) as plain:
        history = user("hello " * 100)
        for turn in range(3):
            answers = [complete(e.generate(history, GREEDY)) for e in (engine, plain)]
            assert answers[0].token_ids == answers[1].token_ids
            assert answers[1].last.cached_tokens == 0
            history += [Message("assistant", answers[0].text), Message("user", f"turn {turn}")]


def test_too_little_memory_is_a_clear_refusal_and_the_engine_goes_on(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.kv_bytes_per_token = 1 << 50
    with Engine(scripted, prompt) as engine:
        with pytest.raises(ServingError, match=r"KV cache for 1,024 tokens needs [\d,]+ MiB"):
            complete(engine.generate(user("hi"), GREEDY))
        scripted.kv_bytes_per_token = 0
        assert complete(engine.generate(user("hi"), GREEDY)).token_ids


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


def test_a_short_question_is_not_held_up_by_a_long_prompt(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt) as engine:
        reached, go_on = threading.Event(), threading.Event()
        waits = 0

        def hold_first() -> None:
            nonlocal waits
            waits += 1
            if waits == 1:
                reached.set()
                assert go_on.wait(30)

        scripted.before_forward = hold_first
        results: dict[str, Completion] = {}

        def ask(name: str, text: str) -> None:
            results[name] = complete(engine.generate(user(text), replace(GREEDY, max_tokens=3)))

        long = threading.Thread(target=ask, args=("long", "word " * 2000))
        long.start()
        assert reached.wait(30)
        short = threading.Thread(target=ask, args=("short", "hi"))
        short.start()
        while engine._inbox.empty():  # until the question has arrived
            time.sleep(0.001)
        go_on.set()
        long.join()
        short.join()
    sizes = [len(forward) for forward in scripted.forwards]
    assert sizes.index(results["short"].last.prompt_tokens) <= 2
    assert sizes.index(1) < 6 < sizes.count(PREFILL_CHUNK)  # decoding while the long prompt is still being read


def test_a_short_question_waits_for_one_chunk_of_others_and_a_few_steps(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    """One request streams, another prefills 4,000 tokens, and then somebody asks."""
    scripted.context_length = 8192
    reached, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if sum(len(forward) == PREFILL_CHUNK for forward in scripted.forwards) == 5 and not go_on.is_set():
            reached.set()
            assert go_on.wait(30)

    scripted.before_forward = hold
    with Engine(scripted, prompt) as engine:
        streams = [
            engine.generate(user("stream"), replace(GREEDY, max_tokens=None)),
            engine.generate(user("word " * 4000), GREEDY),
            engine.generate(user("hi"), GREEDY),
        ]
        readers = [threading.Thread(target=next, args=(stream,)) for stream in streams]
        readers[0].start()
        readers[0].join()  # it streams
        readers[1].start()
        assert reached.wait(30)
        readers[2].start()
        while engine._inbox.empty():  # until the question has arrived
            time.sleep(0.001)
        before = len(scripted.forwards)
        go_on.set()
        for reader in readers[1:]:
            reader.join()
        size = prompt.count(user("hi"))
        passes = list(map(len, scripted.forwards[before:]))
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]
    waited = passes[: passes.index(size) + 1]
    assert waited.count(PREFILL_CHUNK) <= 1 and len(waited) <= 5


def test_beyond_the_queue_the_engine_is_busy_and_says_when_to_come_back(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    with Engine(scripted, prompt, EngineSettings(parallel=1, queue=1)) as engine:
        streams = [engine.generate(user(f"{i}"), replace(GREEDY, max_tokens=None)) for i in range(2)]
        readers = [threading.Thread(target=next, args=(stream,)) for stream in streams]
        readers[0].start()
        readers[0].join()
        readers[1].start()
        while engine._open < 2:
            time.sleep(0.001)
        with pytest.raises(Busy, match="1 answers are being made and 1 wait: try again in about") as busy:
            next(engine.generate(user("hi"), GREEDY))
        assert busy.value.retry_after > 0
        streams[0].close()  # type: ignore[attr-defined]
        readers[1].join()
        streams[1].close()  # type: ignore[attr-defined]
        while engine._open:
            time.sleep(0.001)
        assert complete(engine.generate(user("hi"), GREEDY)).token_ids


def test_a_request_that_waits_can_be_cancelled(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.before_forward = lambda: time.sleep(0.001)
    with Engine(scripted, prompt, EngineSettings(parallel=1)) as engine:
        first = engine.generate(user("endless"), replace(GREEDY, max_tokens=None))
        next(first)
        waiting = complete(engine.generate(user("hi"), GREEDY, cancelled=lambda: True))
        assert (waiting.last.finish_reason, waiting.last.prefilled_tokens) == ("cancelled", 0)
        assert len(scripted.forwards) < 1000  # the first one goes on until there are 4,000
        first.close()  # type: ignore[attr-defined]


def test_idle_conversations_make_room_oldest_first(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.kv_bytes_per_token = 1
    settings = EngineSettings(slots=3, parallel=2, kv_memory=2 * CAPACITY_STEP)  # for two of the three
    with Engine(scripted, prompt, settings) as engine:
        answers = {name: complete(engine.generate(user(name * 20), GREEDY)) for name in ("anna ", "bob ", "carl ")}

        def follow_up(name: str) -> int:
            messages = user(name * 20, answers[name].text, "and then?")
            return complete(engine.generate(messages, replace(GREEDY, max_tokens=1))).last.cached_tokens

        assert follow_up("bob ") > 20 and follow_up("carl ") > 20
        assert follow_up("anna ") < 10


def test_a_conversation_too_large_for_the_kv_memory_is_refused_and_others_go_on(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    scripted.kv_bytes_per_token = 1
    with Engine(scripted, prompt, EngineSettings(kv_memory=CAPACITY_STEP)) as engine:
        with pytest.raises(OutOfMemory, match="2,048 tokens needs 0 MiB, and --kv-memory leaves"):
            complete(engine.generate(user("word " * 1500), GREEDY))
        assert complete(engine.generate(user("hi"), GREEDY)).token_ids


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


def test_a_conversation_that_outgrows_the_window_is_refused_or_trimmed(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    scripted.context_length = 150
    talk = [Message("system", "Be brief.")]
    for turn in range(8):
        talk += user(f"question {turn} is a long one", f"answer {turn} is long too")
    talk += user("and the last?")
    with Engine(scripted, prompt) as engine, pytest.raises(ContextOverflow):
        engine.generate(talk, GREEDY)
    with Engine(scripted, prompt, EngineSettings(overflow="trim")) as engine:
        chunks = list(engine.generate(talk, GREEDY))
    dropped = chunks[-1].dropped_messages
    assert 0 < dropped < len(talk) - 2 and {chunk.dropped_messages for chunk in chunks} == {dropped}
    assert chunks[-1].prompt_tokens == prompt.count([talk[0], *talk[1 + dropped :]])


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


def test_more_requests_than_slots_wait_their_turn(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt, EngineSettings(slots=2)) as engine:
        answers: dict[int, Completion] = {}

        def ask(i: int) -> None:
            answers[i] = complete(engine.generate(user(f"question {i}"), GREEDY))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i in range(8):
            assert answers[i].token_ids == complete(engine.generate(user(f"question {i}"), GREEDY)).token_ids


@pytest.mark.parametrize("error", [RuntimeError("bad allocation"), MemoryError(), ValueError("odd")])
def test_a_failing_device_fails_one_request_only(prompt: Prompt, scripted: ScriptedRuntime, error: Exception) -> None:
    def fail() -> None:
        scripted.before_forward = lambda: None
        raise error

    with Engine(scripted, prompt) as engine:
        scripted.before_forward = fail
        with pytest.raises(ServingError, match=re.escape(repr(error))):
            complete(engine.generate(user("hi"), GREEDY))
        assert complete(engine.generate(user("hi"), GREEDY)).last.cached_tokens == 0


def test_closing_the_engine_ends_what_is_under_way(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    engine = Engine(scripted, prompt)
    stream = engine.generate(user("hi"), replace(GREEDY, max_tokens=None))
    next(stream)
    engine.close()
    with pytest.raises(EngineStopped):
        list(stream)
    with pytest.raises(EngineStopped):
        complete(engine.generate(user("hi")))


# The real model


def test_greedy_answers_from_a_continued_cache_equal_those_of_a_fresh_engine(exact_model: Path) -> None:
    """Several turns, a regenerated answer and an edited turn, at accuracy level 1, token for token."""
    questions = ["hi", "My name is Anna.", "what is 17+25?", "tell me a story about a fox", "what is my name?"]
    asked: list[list[Message]] = []
    answers: list[Completion] = []
    with Engine.load(exact_model, EngineSettings(slots=1)) as engine:
        history: list[Message] = []
        for question in questions:
            history = [*history, Message("user", question)]
            asked.append(history)
            answers.append(complete(engine.generate(history, GREEDY)))
            history = [*history, Message("assistant", answers[-1].text)]
        asked.append(asked[-1])  # regenerate the last answer
        answers.append(complete(engine.generate(asked[-1], GREEDY)))
        edited = [*asked[2][:2], Message("user", "My name is Peter."), *user("hello", "what is my name?")[1:]]
        asked.append(edited)
        answers.append(complete(engine.generate(edited, GREEDY)))
    for messages, answer in zip(asked, answers, strict=True):
        with Engine.load(exact_model) as fresh:
            assert complete(fresh.generate(messages, GREEDY)).token_ids == answer.token_ids
    for before, after in pairwise(answers[:5]):
        assert after.last.cached_tokens >= before.last.prompt_tokens
    assert answers[5].last.cached_tokens == answers[5].last.prompt_tokens - 1
    assert 0 < answers[6].last.cached_tokens < answers[6].last.prompt_tokens


def test_a_continued_cache_at_the_served_level_equals_a_replay_of_the_same_forwards(demo_model: Path) -> None:
    """At int8 activations logits depend on the shape of every forward, so the fresh cache gets the same ones."""
    runtime = OgaRuntime(ModelFolder.open(demo_model), None, 2)
    continued, fresh = runtime.slot(0), runtime.slot(1)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(10, runtime.vocab_size, n).astype(np.int32) for n in (70, 33))
    for slot in (continued, fresh):
        slot.reserve(256)
    continued.append(first)
    continued.append(rng.integers(10, runtime.vocab_size, 25).astype(np.int32))  # another ending, given up
    continued.rewind(first.size)
    continued.append(second)
    fresh.append(first)
    fresh.append(second)
    np.testing.assert_array_equal(continued.logits(), fresh.logits())


def test_the_one_token_step_of_limited_devices_equals_the_ordinary_one(exact_model: Path) -> None:
    prompt, folder = Prompt.load(exact_model), ModelFolder.open(exact_model)
    limited = OgaRuntime(folder, None, 2)
    assert limited.continues
    limited.continues = False
    with Engine(OgaRuntime(folder, None, 2), prompt) as engine, Engine(limited, prompt) as plain:
        for text in ("hi", "tell me a story about a fox"):
            expected = complete(engine.generate(user(text), GREEDY))
            assert complete(plain.generate(user(text), GREEDY)).token_ids == expected.token_ids


def test_conversations_at_the_same_time_do_not_mix(exact_model: Path) -> None:
    questions = ["hi", "what is 20+30?", "capital of france", "tell me a story about a fox", "what can you do?", "bye"]
    with Engine.load(exact_model) as engine:
        alone = [complete(engine.generate(user(q), GREEDY)).token_ids for q in questions]
        together: dict[int, tuple[int, ...]] = {}

        def ask(i: int) -> None:
            together[i] = complete(engine.generate(user(questions[i]), GREEDY)).token_ids

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(questions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [together[i] for i in range(len(questions))] == alone


def test_a_seed_fixes_a_sampled_answer(exact_model: Path) -> None:
    options = SamplingOptions(temperature=1.2, seed=7, max_tokens=40)
    with Engine.load(exact_model) as engine:
        first = complete(engine.generate(user("tell me a story about a fox"), options))
        again = complete(engine.generate(user("tell me a story about a fox"), options))
        other = complete(engine.generate(user("tell me a story about a fox"), replace(options, seed=8)))
    assert first.token_ids == again.token_ids != other.token_ids


def test_a_grammar_holds_and_the_cache_goes_on_with_it(engine: Engine) -> None:
    number = {"n": {"enum": [42, 50]}}
    schema = json.dumps({"type": "object", "properties": number, "required": ["n"], "additionalProperties": False})
    talk = user("what is 17+25?")
    plain = complete(engine.generate(talk, GREEDY))
    talk += [Message("assistant", plain.text), Message("user", "and 20+30? Answer in JSON.")]
    options = replace(GREEDY, grammar=Grammar("json_schema", schema), seed=1, temperature=0.7, max_tokens=300)
    made = complete(engine.generate(talk, options))
    assert json.loads(made.text)["n"] in (42, 50)
    assert made.last.cached_tokens >= plain.last.prompt_tokens
    with pytest.raises(InvalidRequest, match="regex cannot be used"):
        next(engine.generate(talk, replace(GREEDY, grammar=Grammar("regex", "("))))


def test_logprobs_come_with_every_token_and_a_bias_counts(engine: Engine) -> None:
    options = replace(GREEDY, max_tokens=5, logprobs=2)
    chunks = [chunk for chunk in engine.generate(user("hi"), options) if chunk.token_id is not None]
    assert all(chunk.top[0] == (chunk.token_id, chunk.logprob) and len(chunk.top) == 2 for chunk in chunks)
    banned = replace(options, logit_bias=((chunks[0].token_id, -100.0),))
    assert complete(engine.generate(user("hi"), banned)).token_ids[0] != chunks[0].token_id
    with pytest.raises(InvalidRequest, match="logit_bias names token 999999"):
        next(engine.generate(user("hi"), replace(options, logit_bias=((999_999, 1.0),))))


def test_the_chunks_count_what_happened(engine: Engine) -> None:
    chunks: list[Chunk] = list(engine.generate(user("hi there, how are you?"), GREEDY))
    last, rendered = chunks[-1], engine.prompt.render(user("hi there, how are you?"))
    assert last.completion_tokens == sum(chunk.token_id is not None for chunk in chunks)
    assert last.prompt_tokens == last.prefilled_tokens == engine.prompt.encode(rendered).size
    assert last.prefill_seconds > 0 and last.decode_seconds > 0


# Folders


def test_a_window_the_model_does_not_have_is_refused(demo_model: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"--context-length must be from 2 to 2048.*not 4096"):
        Engine.load(demo_model, EngineSettings(context_length=4096))


def test_a_served_window_can_be_shorter(demo_model: Path) -> None:
    with Engine.load(demo_model, EngineSettings(context_length=40)) as engine:
        answer = complete(engine.generate(user("tell me a story about a fox"), replace(GREEDY, max_tokens=None)))
    assert answer.last.prompt_tokens + answer.last.completion_tokens <= 40


def test_a_checkpoint_that_was_not_exported_is_refused() -> None:
    with pytest.raises(ModelFolderError, match=r"genai_config\.json is missing"):
        Engine.load(CHECKPOINT)
