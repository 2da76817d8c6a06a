"""Places: all or none, and a word on when to come back."""

import pytest

from serving.engine.admission import Admission
from serving.errors import Busy, InvalidRequest


def test_all_or_none() -> None:
    admission = Admission(parallel=2, queue=3)
    admission.enter(4)
    with pytest.raises(Busy, match="2 answers are being made and 2 wait"):
        admission.enter(2)
    assert admission.counts() == (2, 2)
    admission.enter()
    admission.leave(1.0)
    admission.leave(1.0)
    admission.enter(2)
    assert admission.counts() == (2, 3)


def test_more_than_all_places_can_never_fit() -> None:
    with pytest.raises(InvalidRequest, match="6 answers were asked for at once, and there are 5 places"):
        Admission(parallel=2, queue=3).enter(6)


def test_the_wait_grows_with_those_who_wait_and_with_what_answers_took() -> None:
    def wait(queue: int, seconds: float) -> float:
        admission = Admission(parallel=2, queue=queue)
        for _ in range(50):
            admission.enter()
            admission.leave(seconds)
        admission.enter(2 + queue)
        with pytest.raises(Busy) as busy:
            admission.enter()
        return busy.value.retry_after

    assert wait(0, 10.0) == pytest.approx(10.0, rel=0.01)
    assert wait(4, 10.0) == pytest.approx(30.0, rel=0.01)
    assert wait(0, 1.0) < wait(0, 10.0)


def test_one_of_several_clients_leaves_a_quarter_of_the_places_to_the_others() -> None:
    admission = Admission(parallel=4, queue=4)
    admission.enter(8, "a")  # alone
    for _ in range(8):
        admission.leave(1.0, "a")
    admission.enter(1, "b")
    admission.enter(6, "a")
    with pytest.raises(Busy, match="and 3 wait, and the last 2 of 8 places are for others who ask: try again"):
        admission.enter(1, "a")
    admission.enter(1, "c")
