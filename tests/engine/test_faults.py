"""What goes wrong in the engine's process, and that it stays there: real processes, stopped, hung, killed and full."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from serving.engine.process import EngineProcess
from serving.engine.watch import Patience
from serving.engine.wire import Batch, is_last
from serving.errors import Busy, EngineStopped, InvalidRequest, ServingError
from serving.types import EngineSettings, Grammar, Message, SamplingOptions, complete
from tests.servers import kill

GREEDY = SamplingOptions(temperature=0.0, max_tokens=20)
TALKATIVE = SamplingOptions(temperature=2.0, max_tokens=400, logprobs=20)  # so many likely tokens fill a pipe
SHORT = Patience(tick=0.1, idle=2.0, working=60.0)
LIMIT = 60.0  # seconds in which whatever does not hang has ended, on a machine with other work too


def user(text: str) -> list[Message]:
    return [Message("user", text)]


def ask(engine: EngineProcess, options: SamplingOptions = GREEDY, text: str = "hi") -> str:
    return complete(engine.generate(user(text), options)).text


class Asked:
    """Several answers that were started together, and what came of each."""

    def __init__(
        self, engine: EngineProcess, number: int, options: SamplingOptions | None = None, text: str = "hi"
    ) -> None:
        self._batches: SimpleQueue[tuple[int, Batch]] = SimpleQueue()
        # Without options they go on to the end of the window: nothing that ends an answer may be chosen.
        options = options or SamplingOptions(logit_bias=tuple((token, -100.0) for token in engine.prompt.end_ids))
        self.number = number
        token_ids, _ = engine.tokens(user(text), options)
        self.cancel = engine.start([(token_ids, options)] * number, lambda *batch: self._batches.put(batch))

    def first(self) -> None:
        """Wait for the first sign of any of them."""
        self._batches.put(self._batches.get(timeout=LIMIT))

    def ends(self) -> list[str]:
        """How they ended, by name, once all of them have; more than one end for any of them would be one too many."""
        ended: dict[int, list[str]] = {index: [] for index in range(self.number)}
        while not all(ended.values()):
            index, batch = self._batches.get(timeout=LIMIT)
            if is_last(batch):
                ended[index].append(
                    type(batch).__name__ if isinstance(batch, ServingError) else str(batch[-1].finish_reason)
                )
        with pytest.raises(Empty):
            while not is_last(self._batches.get(timeout=0.05)[1]):
                pass
        return [end for ends in ended.values() for end in ends]


def is_free(engine: EngineProcess) -> bool:
    """Whether every place comes back."""
    deadline = time.monotonic() + LIMIT
    while sum(engine._admission.counts()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def recovers(engine: EngineProcess) -> bool:
    """Whether it answers again; with little patience, a process on a crowded machine may seem to hang once more."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        try:
            return bool(ask(engine))
        except EngineStopped:
            time.sleep(0.1)
    return False


def faulty(fault: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "tests.engine.faulty", fault, str(folder)]


@contextmanager
def going_wrong(fault: str, folder: Path) -> Iterator[None]:
    """While this is open, every pass of the faulty worker goes wrong."""
    (folder / fault).touch()
    try:
        yield
    finally:
        (folder / fault).unlink()


@pytest.fixture(scope="module")
def engine(exact_model: Path) -> Iterator[EngineProcess]:
    with EngineProcess.load(exact_model, EngineSettings(parallel=4, queue=12)) as engine:
        yield engine


# Places.


def test_answers_that_are_asked_for_together_have_all_their_places_or_none(engine: EngineProcess) -> None:
    first = Asked(engine, 10)
    with pytest.raises(Busy, match="4 answers are being made and 6 wait: try again in about") as busy:
        Asked(engine, 7)
    assert busy.value.retry_after > 0
    second = Asked(engine, 6)
    with pytest.raises(Busy):
        ask(engine)
    second.cancel()
    assert set(second.ends()) == {"cancelled"}
    third = Asked(engine, 6)
    for asked in (first, third):
        asked.cancel()
        assert set(asked.ends()) == {"cancelled"}
    assert is_free(engine)


def test_what_can_never_fit_is_not_told_to_come_back(engine: EngineProcess) -> None:
    assert engine.places == 16
    with pytest.raises(InvalidRequest, match="17 answers were asked for at once, and there are 16 places"):
        Asked(engine, 17)
    assert is_free(engine) and ask(engine)


def test_fewer_slots_than_parallel_answers_are_the_places(exact_model: Path) -> None:
    with EngineProcess.load(exact_model, EngineSettings(parallel=4, slots=1, queue=1)) as engine:
        assert engine.places == 2
        asked = Asked(engine, 2)
        assert (engine.status().running, engine.status().waiting) == (1, 1)
        with pytest.raises(Busy):
            ask(engine)
        asked.cancel()


def test_full_pipes_hold_nobody_up(exact_model: Path) -> None:
    """Far more is asked for, and answered, than pipes hold, while nobody on either side may wait for the other."""
    with EngineProcess.load(exact_model, EngineSettings(parallel=4, queue=60)) as engine:
        ends: list[list[str]] = []

        def client() -> None:
            try:
                ends.append(Asked(engine, 16, TALKATIVE, "word " * 300).ends())
            except Busy:
                ends.append(["Busy"])

        clients = [threading.Thread(target=client) for _ in range(24)]
        for thread in clients:
            thread.start()
        limit = time.monotonic() + LIMIT
        while engine.status().running < 4:
            assert time.monotonic() < limit, "not all places are taken"
            time.sleep(0.01)  # for the prompts to be written
        for thread in clients:
            thread.join(LIMIT)
        answered = [each for each in ends if each != ["Busy"]]
        assert len(ends) == 24 and len(answered) == 4
        assert {end for each in answered for end in each} <= {"length", "stop"}
        assert is_free(engine) and ask(engine)


# A process that says nothing.


def stop(engine: EngineProcess) -> None:
    assert engine.pid
    os.kill(engine.pid, signal.SIGSTOP)


def test_a_stopped_process_is_ended_and_started_again(exact_model: Path) -> None:
    with EngineProcess.load(exact_model, patience=SHORT) as engine:
        asked, first = Asked(engine, 6), engine.pid
        asked.first()
        stop(engine)
        assert engine.status().running == 4  # from what is known here: it replies to nothing
        assert asked.ends() == ["EngineStopped"] * 6
        assert engine.pid != first and recovers(engine) and is_free(engine)
        second, deadline = engine.pid, time.monotonic() + LIMIT
        stop(engine)  # and while it has nothing to do
        while engine.pid == second:
            assert time.monotonic() < deadline
        assert recovers(engine)


@pytest.mark.parametrize("fault", ["waits", "waits with the lock"])
def test_a_call_that_never_ends_ends_the_process(exact_model: Path, tmp_path: Path, fault: str) -> None:
    with EngineProcess.load(exact_model, patience=SHORT, command=faulty(fault, tmp_path)) as engine:
        with going_wrong(fault, tmp_path):
            asked = Asked(engine, 6)
            assert asked.ends() == ["EngineStopped"] * 6
        assert recovers(engine) and is_free(engine)


def test_a_slow_pass_is_waited_for(exact_model: Path, tmp_path: Path) -> None:
    with EngineProcess.load(exact_model, patience=SHORT, command=faulty("slow", tmp_path)) as engine:
        first = engine.pid
        with going_wrong("slow", tmp_path):  # each of its passes takes longer than nothing may
            assert Asked(engine, 1, SamplingOptions(max_tokens=1)).ends() == ["length"]
        assert engine.pid == first


def test_a_call_that_computes_for_ever_ends_the_process_too(exact_model: Path, tmp_path: Path) -> None:
    patience, fault = Patience(tick=0.1, idle=60.0, working=4.0), "computes for ever"
    with EngineProcess.load(exact_model, patience=patience, command=faulty(fault, tmp_path)) as engine:
        with going_wrong(fault, tmp_path):
            assert Asked(engine, 1).ends() == ["EngineStopped"]
        assert recovers(engine)


# A process that ends.


@pytest.mark.parametrize("fault", ["crash", "killed"])
def test_a_process_that_ends_takes_its_answers_with_it_and_nothing_else(
    exact_model: Path, tmp_path: Path, fault: str
) -> None:
    with EngineProcess.load(exact_model, command=faulty(fault, tmp_path)) as engine:
        assert ask(engine)
        with going_wrong(fault, tmp_path):
            assert Asked(engine, 6).ends() == ["EngineStopped"] * 6
        assert ask(engine) and is_free(engine)


def test_a_model_that_cannot_live_is_not_started_in_a_hot_loop(
    exact_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with EngineProcess.load(exact_model, command=faulty("start", tmp_path)) as engine:
        assert ask(engine)
        with going_wrong("start", tmp_path):
            kill(engine)
            deadline = time.monotonic() + LIMIT
            while engine.pid is not None:  # it is started again at once, ends again, and then there is a pause
                assert time.monotonic() < deadline
            with pytest.raises(EngineStopped, match=r"ended with exit code 3; it is started again in \d+ s"):
                ask(engine)
            with pytest.raises(EngineStopped, match="started again in"):
                engine.status()
            time.sleep(1.0)
        assert recovers(engine) and is_free(engine)
    notes = capfd.readouterr().err.count("note: the engine process ended with exit code 3")
    assert 1 <= notes <= 3


def test_a_process_that_ends_before_it_has_loaded_says_so(exact_model: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    with (
        going_wrong("start", tmp_path),
        pytest.raises(EngineStopped, match="the engine process ended with exit code 3"),
    ):
        EngineProcess.load(exact_model, command=faulty("start", tmp_path))
    until = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= before


# A request that goes wrong.


@pytest.mark.parametrize("fault", ["no memory", "panic"])
def test_a_pass_that_fails_ends_its_own_answer(exact_model: Path, tmp_path: Path, fault: str) -> None:
    with EngineProcess.load(exact_model, command=faulty(fault, tmp_path)) as engine:
        first = engine.pid
        with going_wrong(fault, tmp_path):
            assert Asked(engine, 6).ends() == ["ServingError"] * 6
        assert ask(engine) and is_free(engine)
        assert engine.pid == first


HUGE = "9" * 40
GRAMMARS = {
    "an integer beyond 64 bits": Grammar("json_schema", f'{{"type": "integer", "minimum": {HUGE}}}'),
    "half a surrogate pair": Grammar("json_schema", '{"const": "\\ud800"}'),
    "half a surrogate pair in a regex": Grammar("regex", "\ud800"),
    "half a surrogate pair in Lark": Grammar("lark", 'start: "\ud800"'),
    "NaN": Grammar("json_schema", '{"type": "number", "minimum": NaN}'),
    "a list": Grammar("json_schema", "[1]"),
    **{
        f"{depth} deep": Grammar("json_schema", '{"items":' * depth + "{}" + "}" * depth)
        for depth in (300, 490, 900, 5000)
    },
}


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_a_grammar_that_cannot_be_used_fails_by_itself(engine: EngineProcess, grammar: Grammar) -> None:
    first, others = engine.pid, Asked(engine, 2)
    others.first()
    with pytest.raises(InvalidRequest):
        ask(engine, SamplingOptions(grammar=grammar))
    others.cancel()
    assert others.ends() == ["cancelled"] * 2
    assert engine.pid == first and is_free(engine)


# The end.


def stopped(engine: EngineProcess) -> None:
    stop(engine)


def crowded(engine: EngineProcess) -> None:
    stop(engine)
    Asked(engine, engine.places, TALKATIVE, "word " * 900)  # more than a pipe holds


def busy(engine: EngineProcess) -> None:
    Asked(engine, engine.places).first()


def starting(engine: EngineProcess) -> None:
    kill(engine)


@pytest.mark.parametrize("state", [stopped, crowded, busy, starting])
def test_it_closes_in_every_state(exact_model: Path, state: Callable[[EngineProcess], None]) -> None:
    before = threading.active_count()
    engine = EngineProcess.load(exact_model, EngineSettings(queue=60))
    state(engine)
    closing = threading.Thread(target=engine.close)
    closing.start()
    closing.join(5)
    assert not closing.is_alive()
    deadline = time.monotonic() + LIMIT
    while threading.active_count() > before:  # one that has ended is counted until it is taken off the list
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(EngineStopped, match="closed"):
        ask(engine)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="where open files are counted")
def test_no_thread_and_no_file_is_left_of_those_that_ended(exact_model: Path) -> None:
    with EngineProcess.load(exact_model) as engine:
        assert ask(engine)
        threads, files = threading.active_count(), open_files()
        for _ in range(3):
            asked = Asked(engine, 3)
            asked.first()
            kill(engine)
            assert asked.ends() == ["EngineStopped"] * 3
            assert ask(engine)
        deadline = time.monotonic() + LIMIT
        while (threading.active_count(), open_files()) != (threads, files):
            assert time.monotonic() < deadline
            time.sleep(0.02)
