"""Which runtime serves: chosen at the start, and changed once two answers were wanted at a time."""

import json
import shutil
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import app
from serving.engine import choosing, scheduler
from serving.engine.choosing import load_runtime, successor
from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime
from serving.engine.ort import OrtRuntime
from serving.engine.runtime import Runtime
from serving.errors import InvalidRequest
from serving.flags import settings_from
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import Completion, EngineSettings, Message, SamplingOptions, complete
from tests.scripted import GREEDY, ScriptedRuntime, user
from tests.waiting import eventually

until = partial(eventually, seconds=30, pause=0.002)

AUTO = EngineSettings(runtime="auto")
FIRST = replace(GREEDY, max_tokens=1)


@pytest.mark.parametrize(
    ("arguments", "runtime", "shared"),
    [
        ([], "auto", False),
        (["--share"], "auto", True),
        (["--host", "0.0.0.0"], "auto", True),
        (["--no-ui"], "auto", True),
        (["--batch"], "ort", False),
        (["--runtime", "oga", "--no-ui"], "oga", True),
    ],
)
def test_flags_say_which_runtime_and_whether_others_can_reach_it(
    arguments: list[str], runtime: str, shared: bool
) -> None:
    settings = settings_from(app.parser().parse_args(arguments))
    assert (settings.runtime, settings.shared) == (runtime, shared)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (AUTO, OgaRuntime),
        (replace(AUTO, shared=True), OrtRuntime),
        (replace(AUTO, kv_memory=1 << 20), OrtRuntime),  # too little for the window of every conversation
        (replace(AUTO, kv_memory=1 << 20, slots=1, context_length=64), OgaRuntime),
        (replace(AUTO, shared=True, deterministic=True), OgaRuntime),
        (EngineSettings(shared=True), OgaRuntime),
    ],
)
def test_auto_batches_where_others_can_reach_it_and_where_memory_is_short(
    exact_model: Path, settings: EngineSettings, expected: type[Runtime]
) -> None:
    folder = ModelFolder.open(exact_model)
    runtime = load_runtime(folder, settings)
    assert isinstance(runtime, expected)
    changes = expected is OgaRuntime and settings.runtime == "auto" and not settings.deterministic
    assert (successor(folder, settings, runtime) is not None) == changes


def test_auto_serves_a_graph_that_cannot_be_batched_by_oga(exact_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(exact_model, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["search"]["past_present_share_buffer"] = False
    (folder / "genai_config.json").write_text(json.dumps(config))
    opened, settings = ModelFolder.open(folder), replace(AUTO, shared=True)
    runtime = load_runtime(opened, settings)
    assert isinstance(runtime, OgaRuntime) and successor(opened, settings, runtime) is None


def test_where_batching_fails_answers_go_on_taking_turns(
    exact_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> Runtime:
        raise InvalidRequest("this graph is of another make.")

    folder = ModelFolder.open(exact_model)
    change = successor(folder, AUTO, load_runtime(folder, AUTO))
    monkeypatch.setattr(choosing, "_batching", refuse)
    assert change and isinstance(change(), OgaRuntime)
    assert "go on taking turns: this graph is of another make." in capsys.readouterr().err
    assert isinstance(load_runtime(folder, replace(AUTO, shared=True)), OgaRuntime)


def asked_together(engine: Engine, scripted: ScriptedRuntime, *texts: str) -> dict[str, Completion]:
    """The answers to several questions, of which the first runtime ends none before all have come."""
    answers: dict[str, Completion] = {}
    come = threading.Event()
    scripted.before_forward = lambda: bool(come.wait(30))

    def ask(text: str) -> None:
        answers[text] = complete(engine.generate(user(text), GREEDY))

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    until(lambda: (status := engine.status()).running + status.waiting + len(answers) >= len(texts))
    come.set()
    for thread in threads:
        thread.join()
    return answers


@pytest.fixture
def other(scripted: ScriptedRuntime) -> ScriptedRuntime:
    return ScriptedRuntime(scripted.next_token, scripted.vocab_size)


def test_another_runtime_takes_over_after_two_at_a_time_and_every_conversation_goes_on(
    prompt: Prompt, scripted: ScriptedRuntime, other: ScriptedRuntime
) -> None:
    loaded: list[ScriptedRuntime] = []

    def change() -> Runtime:
        loaded.append(other)
        return other

    with Engine(scripted, prompt, EngineSettings(slots=4), change) as engine:
        complete(engine.generate(user("one alone"), GREEDY))
        time.sleep(0.05)
        assert not loaded  # one at a time is no reason
        answers = asked_together(engine, scripted, "anna " * 30, "bob " * 90)
        lengths = sorted(answer.last.prompt_tokens + 59 for answer in answers.values())
        until(lambda: sum(map(len, other.forwards)) >= sum(lengths))
        before = len(scripted.forwards)
        for question, answer in answers.items():
            follow_up = complete(engine.generate(user(question, answer.text, "and then?"), FIRST))
            assert follow_up.last.cached_tokens >= answer.last.prompt_tokens
        assert len(scripted.forwards) == before and len(loaded) == 1
        asked_together(engine, other, "carl", "dora")
        complete(engine.generate(user("erik"), FIRST))
        assert len(loaded) == 1  # it is changed once


def test_those_who_keep_asking_wait_for_the_change_once(
    prompt: Prompt, scripted: ScriptedRuntime, other: ScriptedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "QUIET_SECONDS", 0.0)
    with Engine(scripted, prompt, EngineSettings(parallel=1), lambda: other) as engine:
        asked_together(engine, scripted, "anna", "bob", "carl")
    # One may have been answered before the others came; those had not begun.
    assert len(scripted.forwards) in (0, 60) and len(scripted.forwards) + len(other.forwards) >= 3 * 60


def test_a_change_on_the_real_model_changes_no_answer(exact_model: Path) -> None:
    greedy = SamplingOptions(temperature=0.0, max_tokens=30)
    questions = ("what is 20+30?", "tell me a story about a fox")
    with Engine.load(exact_model, replace(AUTO, guess=False)) as engine:
        answers: dict[str, Completion] = {}

        def ask(question: str) -> None:
            answers[question] = complete(engine.generate([Message("user", question)], greedy))

        threads = [threading.Thread(target=ask, args=(question,)) for question in questions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until(lambda: engine._memory.runtime.batches)
        again = {q: complete(engine.generate([Message("user", q)], greedy)) for q in questions}
    assert {q: a.token_ids for q, a in answers.items()} == {q: a.token_ids for q, a in again.items()}
