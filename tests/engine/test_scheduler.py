"""Many requests on a scripted model: whose turn it is, who waits, and who is told to come back."""

import re
import threading
import time
from dataclasses import replace

import pytest

from serving.engine.engine import Engine
from serving.engine.runtime import PREFILL_CHUNK
from serving.errors import Busy, EngineStopped, ServingError
from serving.text.prompt import Prompt
from serving.types import Completion, EngineSettings, complete
from tests.scripted import GREEDY, ScriptedRuntime, user


def open_in(engine: Engine) -> int:
    """Requests that have not ended."""
    status = engine.status()
    return status.running + status.waiting


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
        while open_in(engine) < 2:  # until the question has arrived
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
        while open_in(engine) < 3:  # until the question has arrived
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


def test_answers_that_decode_get_as_much_time_as_a_prompt_that_is_read(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    scripted.context_length = 8192
    spent = {"prefill": 0.0, "decode": 0.0}
    reading = threading.Event()

    class Slow(list[tuple[int, ...]]):
        """A token takes a millisecond, a chunk of a prompt 64."""

        def append(self, tokens: tuple[int, ...]) -> None:
            super().append(tokens)
            time.sleep(0.001 * len(tokens))
            if len(tokens) == PREFILL_CHUNK:
                reading.set()
            if reading.is_set():
                spent["decode" if len(tokens) == 1 else "prefill"] += 0.001 * len(tokens)

    scripted.forwards = Slow()
    with Engine(scripted, prompt, EngineSettings(guess=False)) as engine:
        stop = threading.Event()
        stream = engine.generate(user("stream"), replace(GREEDY, max_tokens=None), stop.is_set)
        reader = threading.Thread(target=list, args=(stream,))
        next(stream)
        reader.start()
        complete(engine.generate(user("word " * 1000), replace(GREEDY, max_tokens=1)))
        stop.set()
        reader.join()
    assert 0.25 < spent["decode"] / spent["prefill"] < 1.5  # a step for each chunk would be 0.02


def test_somebody_who_asks_little_does_not_wait_for_the_answers_of_somebody_who_asks_much(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    endless = replace(GREEDY, max_tokens=None)
    with Engine(scripted, prompt, EngineSettings(parallel=2)) as engine:
        assert complete(engine.generate(user("hi"), GREEDY, client="b")).last.finish_reason
        stop = threading.Event()
        streams = [engine.generate(user(f"{i}"), endless, stop.is_set, client="a") for i in range(3)]
        readers = [threading.Thread(target=list, args=(stream,)) for stream in streams]
        for reader in readers:
            reader.start()
        while open_in(engine) < 3:
            time.sleep(0.001)
        assert complete(engine.generate(user("hi"), GREEDY, client="b")).last.finish_reason
        assert open_in(engine) == 3
        stop.set()
        for reader in readers:
            reader.join()


def test_beyond_the_queue_the_engine_is_busy_and_says_when_to_come_back(
    prompt: Prompt, scripted: ScriptedRuntime
) -> None:
    with Engine(scripted, prompt, EngineSettings(parallel=1, queue=1)) as engine:
        streams = [engine.generate(user(f"{i}"), replace(GREEDY, max_tokens=None)) for i in range(2)]
        readers = [threading.Thread(target=next, args=(stream,)) for stream in streams]
        readers[0].start()
        readers[0].join()
        readers[1].start()
        while open_in(engine) < 2:
            time.sleep(0.001)
        with pytest.raises(Busy, match="1 answers are being made and 1 wait: try again in about") as busy:
            next(engine.generate(user("hi"), GREEDY))
        assert busy.value.retry_after > 0
        streams[0].close()  # type: ignore[attr-defined]
        readers[1].join()
        streams[1].close()  # type: ignore[attr-defined]
        while open_in(engine):
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
