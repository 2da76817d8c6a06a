"""A model that nobody uses gives its memory back, and who asks next is told that it is being loaded: real processes."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from serving.engine.process import EngineProcess
from serving.engine.watch import Patience
from serving.errors import InvalidRequest
from serving.types import EngineSettings, Message, SamplingOptions, complete
from tests.servers import api_served, asked, events_of

GREEDY = SamplingOptions(temperature=0.0, max_tokens=10)
QUESTION = [Message("user", "what is the capital of France?")]
SECONDS = 0.4


@pytest.fixture(scope="module")
def worker(demo_model: Path) -> Iterator[EngineProcess]:
    settings = EngineSettings(idle_unload=SECONDS / 60)
    with EngineProcess.load(demo_model, settings, patience=Patience(tick=0.05)) as worker:
        yield worker


def unloaded(worker: EngineProcess) -> None:
    """Wait until there is no process."""
    deadline = time.monotonic() + 60
    while worker.pid is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_process_ends_when_nobody_asks_and_starts_with_the_next_question(worker: EngineProcess) -> None:
    answer = complete(worker.generate(QUESTION, GREEDY)).text
    first = worker.pid
    assert first is not None and worker.status().loaded
    unloaded(worker)
    while psutil.pid_exists(first) and psutil.Process(first).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    status = worker.status()  # does not load it
    assert (status.loaded, status.kv_bytes, worker.pid) == (False, 0, None)
    chunks = list(worker.generate(QUESTION, GREEDY))
    assert chunks[0].loading and not any(chunk.loading for chunk in chunks[1:])
    assert complete(chunks).text == answer
    assert worker.pid not in (None, first)


def test_a_stream_and_the_health_of_the_api_say_so(worker: EngineProcess) -> None:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "temperature": 0,
        "max_tokens": 5,
    }
    with api_served(worker) as url:
        unloaded(worker)
        status, _, content = asked(url, "/health")
        assert status == 200 and json.loads(content)["loaded"] is False
        stream = asked(url, "/v1/chat/completions", body)[2]
        assert b": loading the model\n\n" in stream and events_of(stream)[-1] == "[DONE]"
        assert json.loads(asked(url, "/health")[2])["loaded"] is True
        again = asked(url, "/v1/chat/completions", body)[2]
        assert b"loading" not in again


def test_no_question_is_lost_whenever_it_comes(worker: EngineProcess) -> None:
    rng = random.Random(0)
    answers = set()
    for _ in range(3):
        time.sleep(SECONDS + rng.uniform(-0.05, 0.15))
        answers.add(complete(worker.generate(QUESTION, GREEDY)).text)
    assert len(answers) == 1


def test_an_answer_that_takes_longer_is_not_cut_off(worker: EngineProcess) -> None:
    options = SamplingOptions(max_tokens=300, ignore_eos=True, seed=1)
    began = time.monotonic()
    while time.monotonic() - began < 2 * SECONDS:
        assert complete(worker.generate(QUESTION, options)).last.finish_reason == "length"


def test_minutes_are_above_none() -> None:
    with pytest.raises(InvalidRequest, match="--idle-unload must be above 0 minutes, not 0"):
        EngineSettings(idle_unload=0)
