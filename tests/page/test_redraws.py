"""How often answers are drawn."""

from contextlib import ExitStack

from serving.page.redraws import FAST, LONGEST_SECONDS, SECONDS, Redraws


def test_more_answers_at_a_time_than_a_few_are_drawn_as_often_together_as_those_few() -> None:
    redraws, found = Redraws(), []
    with ExitStack() as stack:
        for _ in range(4 * FAST):
            stack.enter_context(redraws.one_more())
            found.append(redraws.seconds)
        assert found[:FAST] == [SECONDS] * FAST
        assert found[2 * FAST - 1 :: 2 * FAST] == [2 * SECONDS, 4 * SECONDS]
        for _ in range(100):
            stack.enter_context(redraws.one_more())
        assert redraws.seconds == LONGEST_SECONDS
    assert redraws.seconds == SECONDS
