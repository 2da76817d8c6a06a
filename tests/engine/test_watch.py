"""Slow or hung: what is waited for, and what is not."""

import os
import time
from collections.abc import Callable

import pytest

from serving.engine.watch import Patience, Watch, pause_before_start
from serving.hardware import Effort, effort_of

PATIENCE = Patience()
NOTHING = Effort(0.0, 0)
Work = Callable[[int], Effort]


def verdict_after(ticks: int, work: Work, replied: Callable[[int], bool] = lambda _: False, **more: bool) -> str | None:
    """What is said of a process that works like this, tick after tick; None if it may go on."""
    watch = Watch(PATIENCE)
    for n in range(1, ticks + 1):
        if verdict := watch.look(PATIENCE.tick, replied(n), work(n), **more):
            return verdict
    return None


IDLE = int(PATIENCE.idle / PATIENCE.tick)
WORKING = int(PATIENCE.working / PATIENCE.tick)


def test_a_process_that_does_nothing_is_hung() -> None:
    assert verdict_after(IDLE - 1, lambda _: NOTHING) is None
    assert verdict_after(IDLE, lambda _: NOTHING) == "has neither replied nor computed for 10 s"


def test_replying_to_pings_is_not_work() -> None:
    assert verdict_after(IDLE, lambda n: Effort(0.003 * n, 0))


@pytest.mark.parametrize(
    "work",
    [
        lambda n: Effort(2.0 * n, 0),  # computes on both cores
        lambda n: Effort(0.02 * n, 0),  # one of many on a crowded machine
        lambda n: Effort(0.0, n << 20),  # waits for a swap file, or for a network disk
        lambda n: Effort(0.1 * (n // 8), 0),  # moves every eight seconds
    ],
)
def test_a_slow_pass_is_waited_for_and_one_without_end_is_not(work: Work) -> None:
    assert verdict_after(WORKING - 1, work) is None
    assert verdict_after(WORKING, work) == "has computed for 300 s without a reply"
    assert verdict_after(10 * WORKING, work, loading=True) is None
    assert verdict_after(10 * WORKING, work, replied=lambda n: n % (WORKING - 1) == 0) is None


def test_a_model_being_loaded_may_hang_too() -> None:
    assert verdict_after(IDLE, lambda _: NOTHING, loading=True)


def test_a_machine_that_was_suspended_has_not_been_silent() -> None:
    watch = Watch(PATIENCE)
    assert watch.look(100_000.0, False, NOTHING) is None
    assert watch.look(1.0, True, NOTHING) is None
    assert [watch.look(100_000.0, False, NOTHING) is None for _ in range(IDLE // 2)] == [True] * (IDLE // 2 - 1) + [
        False
    ]


def test_pauses_grow_to_a_minute() -> None:
    assert [pause_before_start(n) for n in range(12)] == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_the_effort_of_a_process_is_what_the_system_counts() -> None:
    before = effort_of(os.getpid())
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert effort_of(os.getpid()).seconds - before.seconds >= 0.05
    assert effort_of(2**22 + 1) == NOTHING
