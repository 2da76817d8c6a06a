"""The engine as a whole: its window on a scripted model, and on the real demo model what must be equal."""

import gc
import json
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from builder.demo import CHECKPOINT
from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime
from serving.errors import ContextOverflow, InvalidRequest, ModelFolderError
from serving.folder import ModelFolder
from serving.text.grammar import Matcher
from serving.text.prompt import Prompt
from serving.types import Chunk, Completion, EngineSettings, Grammar, Message, SamplingOptions, complete
from tests.scripted import GREEDY, ScriptedRuntime, user


def test_a_prompt_without_room_for_an_answer_is_refused_at_once(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    scripted.context_length = 30
    with Engine(scripted, prompt) as engine, pytest.raises(ContextOverflow, match="context window of 30"):
        engine.generate(user("word " * 40))


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
        complete(engine.generate(talk, replace(GREEDY, grammar=Grammar("regex", "("))))


def test_nothing_of_an_answer_that_failed_waits_for_the_garbage_collector(engine: Engine) -> None:
    def ask(pattern: str) -> None:
        complete(engine.generate(user("hi"), replace(GREEDY, max_tokens=100, grammar=Grammar("regex", pattern))))

    ask("yes")
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(InvalidRequest, match=r"takes too long|any further"):
                ask("^a{1000000000}$")
        ask("yes")
        # The engine's thread may still hold the last one.
        assert sum(isinstance(each, Matcher) for each in gc.get_objects()) <= 1
    finally:
        gc.enable()


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
