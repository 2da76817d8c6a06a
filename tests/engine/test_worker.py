"""The engine in its own process: the same answers, the same errors, and what happens when it dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from serving.engine.engine import Engine
from serving.engine.process import EngineProcess
from serving.errors import Busy, ContextOverflow, EngineStopped, InvalidRequest, ModelFolderError
from serving.types import EngineSettings, Grammar, Message, SamplingOptions, complete

GREEDY = SamplingOptions(temperature=0.0, max_tokens=60)
ENDLESS = SamplingOptions(temperature=1.0, repetition_penalty=2.0, max_tokens=None)
ROOT = Path(__file__).parent.parent.parent


def user(text: str) -> list[Message]:
    return [Message("user", text)]


@pytest.fixture(scope="module")
def worker(exact_model: Path) -> Iterator[EngineProcess]:
    with EngineProcess.load(exact_model) as worker:
        yield worker


def pid_of(worker: EngineProcess) -> int:
    return worker.pid


def test_answers_are_those_of_the_engine(worker: EngineProcess, exact_model: Path) -> None:
    history = user("My name is Anna.")
    with Engine.load(exact_model) as engine:
        for question in ("what is 17+25?", "what is my name?"):
            ours, theirs = (complete(e.generate(history, GREEDY)) for e in (worker, engine))
            assert (ours.text, ours.token_ids) == (theirs.text, theirs.token_ids)
            assert ours.last.finish_reason == theirs.last.finish_reason == "stop"
            history += [Message("assistant", ours.text), Message("user", question)]
    assert complete(worker.generate(history, GREEDY)).last.cached_tokens > 0


def test_answers_at_the_same_time_do_not_mix(worker: EngineProcess) -> None:
    questions = ["hi", "what is 20+30?", "capital of france", "tell me a story about a fox"]
    alone = [complete(worker.generate(user(q), GREEDY)).text for q in questions]
    together: dict[str, str] = {}

    def ask(question: str) -> None:
        together[question] = complete(worker.generate(user(question), GREEDY)).text

    threads = [threading.Thread(target=ask, args=(q,)) for q in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[q] for q in questions] == alone


def test_every_option_arrives(worker: EngineProcess, exact_model: Path) -> None:
    options = SamplingOptions(
        temperature=1.5, top_k=30, top_p=0.9, min_p=0.01, repetition_penalty=1.1, seed=5, max_tokens=30, stop=("the",)
    )
    with Engine.load(exact_model) as engine:
        for text in ("tell me a story about a fox", "what can you do?"):
            assert (
                complete(worker.generate(user(text), options)).token_ids
                == complete(engine.generate(user(text), options)).token_ids
            )


def test_closing_or_cancelling_a_stream_frees_its_slot(worker: EngineProcess) -> None:
    for _ in range(6):  # more often than there are slots
        stream = worker.generate(user("tell me a story about a fox"), ENDLESS)
        list(islice(stream, 3))
        stream.close()  # type: ignore[attr-defined]
    chunks = list(worker.generate(user("tell me a story"), ENDLESS, cancelled=lambda: True))
    assert chunks[-1].finish_reason == "cancelled"
    assert complete(worker.generate(user("hi"), GREEDY)).text


def test_errors_are_those_of_the_engine(worker: EngineProcess, exact_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ContextOverflow):
        worker.generate(user("word " * 3000), GREEDY)
    with pytest.raises(InvalidRequest, match="--context-length must be"):
        EngineProcess.load(exact_model, EngineSettings(context_length=10**6))
    with pytest.raises(ModelFolderError, match="not a folder"):
        EngineProcess.load(tmp_path / "none")


def test_a_folder_may_be_named_from_the_working_directory(exact_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exact_model.parent)
    with EngineProcess.load(exact_model.name) as worker:
        assert complete(worker.generate(user("hi"), GREEDY)).text


def test_a_killed_engine_ends_its_answers_and_is_started_again(exact_model: Path) -> None:
    with EngineProcess.load(exact_model) as worker:
        stream = worker.generate(user("tell me a story about a fox"), ENDLESS)
        next(stream)
        first = pid_of(worker)
        os.kill(first, signal.SIGSTOP)  # so that the answer cannot end before the kill
        os.kill(first, signal.SIGKILL)
        with pytest.raises(EngineStopped, match="memory ran out"):
            list(stream)
        assert complete(worker.generate(user("hi"), GREEDY)).text
        assert pid_of(worker) != first


def test_a_closed_engine_refuses(exact_model: Path) -> None:
    worker = EngineProcess.load(exact_model)
    worker.close()
    with pytest.raises(EngineStopped, match="closed"):
        complete(worker.generate(user("hi"), GREEDY))


def test_settings_and_options_reach_the_engine_and_all_of_a_chunk_comes_back(exact_model: Path) -> None:
    settings = EngineSettings(runtime="ort", parallel=1, queue=0, overflow="trim")
    long = [Message("user" if i % 2 == 0 else "assistant", "word " * 100) for i in range(41)]
    options = SamplingOptions(temperature=0.0, max_tokens=3, logprobs=2, grammar=Grammar("regex", "[0-9]{3}"))
    with EngineProcess.load(exact_model, settings) as worker, Engine.load(exact_model, settings) as engine:
        chunks, expected = (list(one.generate(long, options)) for one in (worker, engine))
        assert [(c.token_id, c.top, c.dropped_messages) for c in chunks if c.token_id is not None] == [
            (c.token_id, c.top, c.dropped_messages) for c in expected if c.token_id is not None
        ]
        assert chunks[-1].dropped_messages > 0 and "".join(c.text for c in chunks).isdecimal()
        with pytest.raises(InvalidRequest, match="logit_bias names token"):
            complete(worker.generate(user("hi"), SamplingOptions(logit_bias=((10**6, 1.0),))))
        endless = worker.generate(user("hi"), ENDLESS)
        next(endless)
        with pytest.raises(Busy, match="try again in about") as busy:
            complete(worker.generate(user("hi"), GREEDY))
        assert busy.value.retry_after > 0
        endless.close()  # type: ignore[attr-defined]


def test_the_engine_does_not_outlive_its_parent(exact_model: Path) -> None:
    code = (
        "import sys; from serving.engine.process import EngineProcess; worker = EngineProcess.load(sys.argv[1]); "
        "print(worker.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(exact_model)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < deadline, "the engine process outlived its parent"
        time.sleep(0.02)


def test_the_status_says_what_is_being_made(worker: EngineProcess) -> None:
    assert (worker.status().running, worker.status().waiting) == (0, 0)
    stream = worker.generate(user("tell me a story about a fox"), ENDLESS)
    next(stream)
    status = worker.status()
    assert (status.running, status.waiting) == (1, 0) and 0 < status.kv_bytes <= status.kv_limit
    stream.close()  # type: ignore[attr-defined]


def doubling(depth: int) -> str:
    """A schema that is written short, and has two to the power of `depth` parts."""
    twice = (f'[{{"$ref": "#/$defs/d{n}"}}, {{"$ref": "#/$defs/d{n}"}}]' for n in range(depth))
    above = "".join(f', "d{n}": {{"allOf": {pair}}}' for n, pair in enumerate(twice, 1))
    return f'{{"$defs": {{"d0": {{"pattern": "^[a-z]+$"}}{above}}}, "$ref": "#/$defs/d{depth}"}}'


@pytest.mark.parametrize("schema", [doubling(40), '{"const": "' + "x" * 10**6 + '"}'], ids=["doubling", "long"])
def test_a_schema_that_cannot_be_compiled_does_not_reach_the_engine(worker: EngineProcess, schema: str) -> None:
    before = worker.pid
    with pytest.raises(InvalidRequest):
        worker.generate(user("hi"), replace(GREEDY, grammar=Grammar("json_schema", schema)))
    assert complete(worker.generate(user("hi"), GREEDY)).text and worker.pid == before
