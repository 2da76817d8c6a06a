"""Several models on one server: who goes for whom, by itself; and real processes that come and go."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from serving.engine.child import WORKER
from serving.engine.process import EngineProcess
from serving.engine.several import KV_PART, PROCESSES, Held, Member, Several, fitted, to_go
from serving.engine.watch import Patience
from serving.engine.wire import Batch, is_last
from serving.errors import Busy, EngineStopped, InvalidRequest, ServingError
from serving.folder import ModelFolder
from serving.types import EngineSettings, Message, SamplingOptions, complete
from tests.waiting import eventually as waited

eventually = partial(waited, seconds=20, pause=0.02)

GREEDY = SamplingOptions(temperature=0.0, max_tokens=10)
QUESTION = [Message("user", "what is the capital of France?")]
KV = 32 << 20
SETTINGS = EngineSettings(kv_memory=KV, parallel=2, queue=1)
Make = Callable[..., tuple[Member, ...]]


def held(**models: tuple[int, bool, float]) -> dict[str, Held]:
    return {name: Held(*facts) for name, facts in models.items()}


def test_nothing_goes_where_there_is_room() -> None:
    assert to_go(4, 10, {}) == ()
    assert to_go(4, 10, held(a=(6, True, 1.0))) == ()


def test_what_was_not_used_for_longest_goes_first_and_no_more_than_has_to() -> None:
    three = held(new=(4, True, 3.0), old=(3, True, 1.0), older=(2, True, 0.5))
    assert to_go(1, 9, three) == ("older",)
    assert to_go(3, 9, three) == ("older", "old")
    assert to_go(9, 9, three) == ("older", "old", "new")


def test_what_has_nothing_to_answer_goes_before_what_has() -> None:
    two = held(busy=(4, False, 1.0), idle=(4, True, 2.0))
    assert to_go(4, 8, two) == ("idle",)
    assert to_go(8, 8, two) == ("idle", "busy")


def folder_of(values: int, window: int, path: Path) -> ModelFolder:
    return ModelFolder(path, window, 100, values, 16, False, path / "model.onnx", {})


def test_a_model_takes_its_files_its_processes_and_full_windows_but_a_part_of_all(tmp_path: Path) -> None:
    (tmp_path / "model.onnx.data").write_bytes(b"x" * 1000)
    small, large = folder_of(100, 2000, tmp_path), folder_of(1 << 20, 4096, tmp_path)
    settings, size = fitted(small, EngineSettings(parallel=3), 4 << 30)
    assert (settings.kv_memory, settings.context_length) == (3 * 2000 * 100 * 4, 2000)
    assert size == 1000 + PROCESSES + 3 * 2000 * 100 * 4
    assert fitted(large, EngineSettings(), 4 << 30)[0].kv_memory == (4 << 30) // KV_PART
    given = EngineSettings(kv_memory=5, context_length=3000)
    assert fitted(large, given, 4 << 30) == (given, 1000 + PROCESSES + 5)
    assert fitted(small, given, 4 << 30)[0].context_length == 2000  # it has no more
    with pytest.raises(InvalidRequest, match=r"takes 4,352 MiB, 4,096 of them for KV caches, and there are 4,096 MiB"):
        fitted(small, EngineSettings(kv_memory=4 << 30), 4 << 30)


@pytest.fixture
def make(demo_model: Path) -> Iterator[Make]:
    """Makes models that share memory for `room` of them; the first is loaded."""
    opened: list[Several] = []

    def made(room: int, names: str, command: Sequence[str] = WORKER) -> tuple[Member, ...]:
        folder = ModelFolder.open(demo_model)
        size = fitted(folder, SETTINGS, 1 << 40)[1]
        several = Several(room * size, SETTINGS, patience=Patience(tick=0.05), command=command)
        opened.append(several)
        return tuple(several.add(name, folder, on_demand=name != names[0]) for name in names)

    yield made
    for each in opened:
        each.close()


def text_of(member: Member) -> str:
    return complete(member.generate(QUESTION, GREEDY)).text


def loaded(*members: Member) -> str:
    return "".join(member.name for member in members if not member.engine.unloaded)


def test_a_model_that_is_asked_for_is_loaded_and_another_goes_where_memory_is_for_one(make: Make) -> None:
    a, b = make(1, "ab")
    said, first = text_of(a), a.engine.pid
    assert said and first and loaded(a, b) == "a" and not b.status().loaded
    chunks = list(b.generate(QUESTION, GREEDY))
    assert chunks[0].loading and not chunks[-1].loading and complete(chunks).text == said
    assert loaded(a, b) == "b" and a.engine.pid is None and b.status().loaded
    assert not psutil.pid_exists(first) or psutil.Process(first).status() == psutil.STATUS_ZOMBIE
    assert a.prompt.pids == []  # what writes its prompts went too
    assert text_of(a) == said and loaded(a, b) == "a"


def test_the_one_that_was_not_used_for_longest_goes(make: Make) -> None:
    a, b, c = make(2, "abc")
    for member in (a, b, a):
        text_of(member)
    assert loaded(a, b, c) == "ab"
    text_of(c)
    assert loaded(a, b, c) == "ac"


def test_all_are_closed_at_the_same_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    together, close = threading.Barrier(3), EngineProcess.close

    def meeting(engine: EngineProcess) -> None:
        together.wait(20)
        close(engine)

    monkeypatch.setattr(EngineProcess, "close", meeting)
    a, b, c = make(3, "abc")
    a.close()
    monkeypatch.undo()
    assert not together.broken and [member.engine.pid for member in (a, b, c)] == [None] * 3


def asked(member: Member, to: "SimpleQueue[tuple[str, Batch]]", name: str = "") -> Callable[[], None]:
    """Have it answer without waiting; what comes goes into a queue."""
    token_ids, _ = member.tokens(QUESTION, GREEDY)
    return member.start([(token_ids, GREEDY)], lambda _, batch: to.put((name or member.name, batch)))


def ends(queue: "SimpleQueue[tuple[str, Batch]]", count: int) -> list[tuple[str, str]]:
    """How so many answers end, in the order in which they do."""
    found: list[tuple[str, str]] = []
    while len(found) < count:
        name, batch = queue.get(timeout=60)
        if is_last(batch):
            found.append(
                (name, type(batch).__name__ if isinstance(batch, ServingError) else str(batch[-1].finish_reason))
            )
    return found


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    """Whether what is held, is."""
    return tmp_path / "held"


@pytest.fixture
def two(make: Make, switch: Path) -> tuple[Member, ...]:
    """Two models with memory for one, whose passes wait while the switch is there."""
    return make(1, "ab", (sys.executable, "-m", "tests.engine.faulty", "held", str(switch.parent)))


def test_an_answer_is_waited_for_and_what_comes_later_waits_behind(two: tuple[Member, ...], switch: Path) -> None:
    a, b = two
    queue: SimpleQueue[tuple[str, Batch]] = SimpleQueue()
    switch.touch()
    asked(a, queue, "first")
    asked(b, queue, "second")
    asked(a, queue, "third")  # a is loaded, but others wait for it to go
    asked(b, queue, "with the second")
    eventually(lambda: (a.status().running, a.status().waiting, b.status().waiting) == (1, 1, 2))
    assert b.engine.unloaded
    switch.unlink()
    first, *both, last = [name for name, _ in ends(queue, 4)]
    assert (first, set(both), last) == ("first", {"second", "with the second"}, "third")
    assert loaded(a, b) == "a"


def test_a_model_is_loaded_ahead_where_nothing_that_answers_goes_for_it(two: tuple[Member, ...], switch: Path) -> None:
    a, b = two
    queue: SimpleQueue[tuple[str, Batch]] = SimpleQueue()
    switch.touch()
    asked(a, queue, "first")
    b.load_ahead()
    asked(a, queue, "with the first")
    eventually(lambda: (a.status().running, a.status().waiting) == (2, 0))  # as if nobody had wanted the other
    switch.unlink()
    ends(queue, 2)
    eventually(lambda: a.engine.use() is not None and a.engine.use()[0])  # type: ignore[index]
    assert not b.loading
    b.load_ahead()
    assert b.loading
    eventually(lambda: loaded(a, b) == "b" and b.status().loaded)
    assert not b.loading
    b.load_ahead()
    a.close()
    b.load_ahead()  # and nothing happens


def test_who_goes_away_while_waiting_is_told_so_and_nothing_is_loaded_for_them(
    two: tuple[Member, ...], switch: Path
) -> None:
    a, b = two
    queue: SimpleQueue[tuple[str, Batch]] = SimpleQueue()
    switch.touch()
    asked(a, queue)
    asked(b, queue)()
    assert ends(queue, 1) == [("b", "cancelled")]
    asked(a, queue, "again")  # it need not go any more
    switch.unlink()
    assert sorted(name for name, _ in ends(queue, 2)) == ["a", "again"] and loaded(a, b) == "a"


def test_no_more_wait_than_there_are_places_and_all_are_told_the_end(two: tuple[Member, ...], switch: Path) -> None:
    a, b = two
    queue: SimpleQueue[tuple[str, Batch]] = SimpleQueue()
    switch.touch()
    asked(a, queue)
    for _ in range(b.places):
        asked(b, queue)
    with pytest.raises(Busy, match="too many requests wait for b to be loaded"):
        asked(b, queue)
    a.close()
    assert sorted(ends(queue, 1 + b.places)) == [("a", "EngineStopped")] + b.places * [("b", "EngineStopped")]
    with pytest.raises(EngineStopped, match="closed"):
        asked(b, queue)


def test_one_that_cannot_be_loaded_says_so_and_is_tried_again_when_it_is_asked_for(make: Make, tmp_path: Path) -> None:
    a, b = make(1, "ab", (sys.executable, "-m", "tests.engine.faulty", "start", str(tmp_path)))
    (tmp_path / "start").touch()
    for _ in range(2):
        with pytest.raises(EngineStopped, match="the engine process ended with exit code 3"):
            text_of(b)
        assert loaded(a, b) == ""
    (tmp_path / "start").unlink()
    assert text_of(b) == text_of(a)
