"""Whose request gets a slot next, and who counts as somebody who asks."""

import pytest

from serving.engine.fairness import LATELY_SECONDS, Clients, next_of


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
    ],
)
def test_who_has_fewest_is_next_and_the_last_slot_is_for_who_has_none(
    waiting: str, active: str, chosen: int | None
) -> None:
    assert next_of(waiting, active, slots=4, several=True) == chosen


def test_one_client_alone_gets_every_slot() -> None:
    assert next_of("aa", "aaa", slots=4, several=False) == 0


def test_with_one_slot_they_take_turns() -> None:
    assert next_of("ab", "", slots=1, several=True) == 0


def test_a_client_counts_for_a_while() -> None:
    clients = Clients()
    for client in "ab":
        clients.came(client, 0.0)
    clients.came("a", LATELY_SECONDS - 1)
    assert clients.several(LATELY_SECONDS - 1) and not clients.several(LATELY_SECONDS + 1)
    assert clients.several(LATELY_SECONDS + 1, also="b")
