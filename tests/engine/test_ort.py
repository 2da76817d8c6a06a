"""Several conversations in one forward pass, on the real demo model at accuracy level 1."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.engine import ort
from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime
from serving.engine.ort import OrtRuntime
from serving.engine.runtime import Logits, Slot
from serving.errors import InvalidRequest, ModelFolderError, ServingError
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import Completion, EngineSettings, Message, SamplingOptions, TokenIds, complete

EXACT = 1e-3
GREEDY = SamplingOptions(temperature=0.0, max_tokens=40)
QUESTIONS = ("hi", "what is 20+30?", "capital of france", "tell me a story about a fox", "what can you do?")
ROWS = """
import numpy as np, psutil
from serving.engine import ort
resident = lambda: psutil.Process().memory_info().rss
before = resident()
rows = ort._KVRows({"past_key_values.0.key": (np.dtype(np.float32), 4, 64)})
rows.grow(100_000, [0] * 8)  # 819 MB, were it all used
print(resident() - before)
rows.arrays["past_key_values.0.key"][3, :, :30_000] = 1.0
print(resident() - before)
rows.drop(3)
print(resident() - before)
"""


@pytest.fixture(scope="module")
def oga(exact_model: Path) -> OgaRuntime:
    return OgaRuntime(ModelFolder.open(exact_model), None, 2)


@pytest.fixture
def runtime(exact_model: Path) -> OrtRuntime:
    return OrtRuntime(ModelFolder.open(exact_model), None, 2)


def random_tokens(runtime: OrtRuntime, n: int, seed: int = 0) -> TokenIds:
    return np.random.default_rng(seed).integers(10, runtime.vocab_size, n).astype(np.int32)


def check(oga: OgaRuntime, slot: Slot) -> None:
    """The slot's last logits must be those that OGA computes for its tokens in one pass."""
    expected = oga.all_logits(np.asarray(slot.tokens, dtype=np.int32))
    np.testing.assert_allclose(slot.logits()[0], expected[-1], atol=EXACT)


def test_rows_of_different_lengths_decode_in_one_pass(runtime: OrtRuntime, oga: OgaRuntime) -> None:
    slots = [runtime.slot(index) for index in range(5)]
    for slot, n in zip(slots, (1, 37, 64, 5, 90), strict=True):
        slot.reserve(120)
        runtime.forward([(slot, random_tokens(runtime, n, slot.index))])
        check(oga, slot)
    step = random_tokens(runtime, 5)
    # All of them, then those in the middle, then some from both ends: rows have to move for it.
    for batch in (slots, slots[1:4], [slots[4], slots[0], slots[2]], slots):
        runtime.forward([(slot, step[slot.index : slot.index + 1]) for slot in batch])
        for slot in batch:
            check(oga, slot)


def test_a_rewound_row_goes_on_exactly(runtime: OrtRuntime, oga: OgaRuntime) -> None:
    slot, other = runtime.slot(0), runtime.slot(1)
    for one in (slot, other):
        one.reserve(100)
        runtime.forward([(one, random_tokens(runtime, 60, one.index))])
    assert slot.rewind(23) == 23
    runtime.forward([(slot, random_tokens(runtime, 30, 7))])
    check(oga, slot)
    runtime.forward([(one, random_tokens(runtime, 1)) for one in (slot, other)])
    check(oga, slot)
    check(oga, other)


def test_every_position_of_a_pass_has_logits(runtime: OrtRuntime, oga: OgaRuntime) -> None:
    slot, tokens = runtime.slot(0), random_tokens(runtime, 20)
    slot.reserve(20)
    runtime.forward([(slot, tokens)])
    np.testing.assert_allclose(slot.logits(7), oga.all_logits(tokens)[-7:], atol=EXACT)


def test_growing_keeps_what_the_rows_hold(
    runtime: OrtRuntime, oga: OgaRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = [runtime.slot(index) for index in range(3)]
    for slot in slots:
        slot.reserve(50)
        runtime.forward([(slot, random_tokens(runtime, 40, slot.index))])
    slots[1].reserve(1900)
    runtime.forward([(slot, random_tokens(runtime, 1)) for slot in slots])
    for slot in slots:
        assert len(slot.tokens) == 41
        check(oga, slot)


def test_a_prefix_is_taken_over_from_another_row(runtime: OrtRuntime, oga: OgaRuntime) -> None:
    source, target = runtime.slot(0), runtime.slot(1)
    source.reserve(100)
    runtime.forward([(source, random_tokens(runtime, 80))])
    target.reserve(100)
    target.take(source, 50)
    assert target.tokens == source.tokens[:50]
    runtime.forward([(target, random_tokens(runtime, 10, 3))])
    check(oga, target)
    runtime.forward([(source, random_tokens(runtime, 1))])
    check(oga, source)


def test_memory_is_taken_as_it_is_written_and_given_back() -> None:
    """In a process of its own, in which nothing else takes memory or gives it back."""
    found = subprocess.run([sys.executable, "-c", ROWS], check=True, capture_output=True, text=True).stdout.split()
    empty, written, dropped = map(int, found)
    assert empty < 20 << 20
    assert 25 << 20 < written < 50 << 20
    assert dropped < written - (25 << 20)


def test_answers_at_the_same_time_share_their_passes(exact_model: Path) -> None:
    runtime = CountingRuntime(ModelFolder.open(exact_model), None, 2)
    with Engine.load(exact_model) as alone:
        expected = {q: complete(alone.generate([Message("user", q)], GREEDY)).token_ids for q in QUESTIONS}
    with Engine(runtime, Prompt.load(exact_model), EngineSettings(parallel=5, guess=False)) as engine:
        for question, answer in at_once(engine, QUESTIONS).items():
            assert answer.token_ids == expected[question]
    assert max(runtime.rows) >= 4
    assert len(runtime.rows) < sum(map(len, expected.values())) * 0.6


def test_a_system_prompt_is_computed_once_for_all(exact_model: Path) -> None:
    system = Message("system", "You are a helpful assistant who knows all about foxes. " * 10)
    with Engine.load(exact_model, EngineSettings(runtime="ort")) as engine:
        answers = [complete(engine.generate([system, Message("user", q)], GREEDY)) for q in QUESTIONS]
        for question, answer in zip(QUESTIONS, answers, strict=True):  # none was given up for the next
            talk = [system, Message("user", question), Message("assistant", answer.text), Message("user", "and?")]
            follow_up = complete(engine.generate(talk, replace(GREEDY, max_tokens=1)))
            assert follow_up.last.cached_tokens >= answer.last.prompt_tokens
    with Engine.load(exact_model, EngineSettings(slots=1)) as fresh:
        for question, answer in zip(QUESTIONS, answers, strict=True):
            assert answer.token_ids == complete(fresh.generate([system, Message("user", question)], GREEDY)).token_ids
    assert answers[0].last.cached_tokens == 0
    assert all(answer.last.cached_tokens > 100 for answer in answers[1:])


def test_an_answer_that_outgrows_its_row_computes_nothing_again(
    exact_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "CAPACITY_STEP", 64)
    monkeypatch.setattr("serving.engine.answer.ANSWER_ROOM", 16)
    options = SamplingOptions(temperature=1.0, seed=3, max_tokens=150, logit_bias=((2, -100.0),))
    with Engine.load(exact_model, EngineSettings(guess=False)) as engine:
        expected = complete(engine.generate([Message("user", "tell me a story")], options)).token_ids
    runtime = CountingRuntime(ModelFolder.open(exact_model), None, 2)
    with Engine(runtime, Prompt.load(exact_model), EngineSettings(guess=False)) as engine:
        assert complete(engine.generate([Message("user", "tell me a story")], options)).token_ids == expected
    assert len(runtime.rows) == 1 + len(expected)  # the warm-up, the prefill, and one for each token but the last


def test_a_failing_pass_fails_its_answers_only(exact_model: Path) -> None:
    runtime = CountingRuntime(ModelFolder.open(exact_model), None, 2)
    with Engine(runtime, Prompt.load(exact_model), EngineSettings(parallel=5)) as engine:
        runtime.fails = True
        with pytest.raises(ServingError, match="out of luck"):
            complete(engine.generate([Message("user", "hi")], GREEDY))
        runtime.fails = False
        assert complete(engine.generate([Message("user", "hi")], GREEDY)).last.cached_tokens == 0


def test_another_kind_of_graph_is_refused_by_name(exact_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(exact_model, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["search"]["past_present_share_buffer"] = False
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidRequest, match="start with --runtime oga"):
        Engine.load(folder, EngineSettings(runtime="ort"))
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelFolderError, match="does not load in ONNX Runtime"):
        Engine.load(folder, EngineSettings(runtime="ort"))


def at_once(engine: Engine, questions: Sequence[str]) -> dict[str, Completion]:
    """The answers to all of them, asked at the same time."""
    answers: dict[str, Completion] = {}

    def ask(question: str) -> None:
        answers[question] = complete(engine.generate([Message("user", question)], GREEDY))

    threads = [threading.Thread(target=ask, args=(question,)) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class CountingRuntime(OrtRuntime):
    """The real one; remembers how many rows each pass had, and fails if it is told to."""

    fails = False

    def _run(self, first: int, tokens: np.ndarray, lengths: np.ndarray) -> Logits:
        if self.fails:
            raise RuntimeError("out of luck")
        self.rows = [*getattr(self, "rows", []), len(tokens)]
        return super()._run(first, tokens, lengths)
