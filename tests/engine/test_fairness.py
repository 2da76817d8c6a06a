"""Whose request gets a slot next."""

import pytest

from serving.engine.fairness import LATELY_SECONDS, Turns


@pytest.mark.parametrize(
    ("waiting", "active", "chosen"),
    [
        ("", "", None),
        ("a", "", 0),
        ("aab", "", 0),
        ("aab", "a", 2),
        ("aab", "aab", None),  # the last slot is kept for somebody who has none
        ("aac", "aab", 2),
        ("aabc", "ab", 3),
        ("bbac", "bba", 3),
        ("aab", "aaab", None),  # there is no slot
        ("aa", "aaa", 0),  # nobody else is there to keep one for
    ],
)
def test_who_has_fewest_is_next_and_the_last_slot_is_for_who_has_none(
    waiting: str, active: str, chosen: int | None
) -> None:
    assert Turns(4).next(list(waiting), list(active), 0.0) == chosen


def test_one_client_alone_gets_every_slot() -> None:
    turns = Turns(4)
    turns.came("a", 0.0)
    assert turns.next(["a"], ["a"] * 3, 1.0) == 0


def test_a_slot_is_kept_for_who_asked_lately() -> None:
    turns = Turns(4)
    for client in "ab":
        turns.came(client, 0.0)
    turns.came("a", LATELY_SECONDS - 1)
    assert turns.next(["a"], ["a"] * 3, LATELY_SECONDS - 1) is None
    assert turns.next(["a"], ["a"] * 3, LATELY_SECONDS + 1) == 0


def test_with_one_slot_they_take_turns() -> None:
    assert Turns(1).next(list("ab"), [], 0.0) == 0
