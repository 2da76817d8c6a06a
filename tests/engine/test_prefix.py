"""Planning of the KV cache."""

import numpy as np
import pytest

from serving.engine.prefix import (
    LATE_PACE,
    Plan,
    SlotView,
    capacity_for,
    common_prefix,
    first_capacity,
    is_late,
    plan,
    prefill_cuts,
)


def ids(*tokens: int) -> np.ndarray:
    return np.asarray(tokens, dtype=np.int32)


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        (ids(), ids(), 0),
        (ids(1), ids(), 0),
        (ids(1, 2, 3), ids(1, 2, 3), 3),
        (ids(1, 2, 3), ids(1, 9, 3), 1),
        (ids(1, 2), ids(1, 2, 3), 2),
    ],
)
def test_common_prefix(a: np.ndarray, b: np.ndarray, length: int) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == length


def test_the_slot_with_the_longest_common_prefix_is_continued() -> None:
    idle = [SlotView(0, ids(1, 2), 9), SlotView(1, ids(1, 2, 3, 4), 1), SlotView(2, ids(7), 5)]
    assert plan(ids(1, 2, 3, 9), idle) == Plan(1, 3)


def test_the_last_prompt_token_is_always_computed_anew() -> None:
    assert plan(ids(1, 2, 3), [SlotView(0, ids(1, 2, 3, 4, 5), 0)]) == Plan(0, 2)


def test_a_new_conversation_takes_the_least_recently_used_slot() -> None:
    idle = [SlotView(0, ids(5, 6), 30), SlotView(1, ids(7, 8), 10), SlotView(2, ids(9), 20)]
    assert plan(ids(1, 2), idle) == Plan(1, 0)


def counting(*, first: int, size: int) -> np.ndarray:
    return np.arange(first, first + size, dtype=np.int32)


def test_a_system_prompt_in_common_is_no_reason_to_give_up_a_conversation() -> None:
    talk = SlotView(0, counting(first=0, size=900), 30)
    new = np.concatenate([counting(first=0, size=60), counting(first=5000, size=20)])
    assert plan(new, [talk, SlotView(1, ids(), 0)]) == Plan(1, 0)
    assert plan(new, [talk, SlotView(1, counting(first=7000, size=500), 10)]) == Plan(1, 0)


def test_an_edited_or_regenerated_turn_continues_its_own_conversation() -> None:
    talk, empty = SlotView(0, counting(first=0, size=900), 30), SlotView(1, ids(), 0)
    for kept in (890, 400):
        again = np.concatenate([counting(first=0, size=kept), counting(first=5000, size=20)])
        assert plan(again, [talk, empty]) == Plan(0, kept)


def test_where_prefixes_can_be_copied_a_conversation_is_given_up_for_its_own_answer_only() -> None:
    talk, empty = SlotView(0, counting(first=0, size=900), 30), SlotView(1, ids(), 0)
    for kept in (890, 400):
        other = np.concatenate([counting(first=0, size=kept), counting(first=5000, size=20)])
        assert plan(other, [talk, empty], copies=True) == Plan(1, 0)
    regenerated, follow_up = counting(first=0, size=850), counting(first=0, size=950)
    assert plan(regenerated, [talk, empty], copies=True) == Plan(0, 849)
    assert plan(follow_up, [talk, empty], copies=True) == Plan(0, 900)


def test_prefill_is_cut_into_even_pieces_that_cover_it() -> None:
    cuts = list(prefill_cuts(3, 300, 128))
    assert cuts == [(3, 131), (131, 259), (259, 300)]
    assert list(prefill_cuts(5, 5, 128)) == []


def test_capacity_doubles_from_one_step_and_ends_at_the_window() -> None:
    assert [capacity_for(n, 131_072, 1024) for n in (1, 1024, 1025, 5000)] == [1024, 1024, 2048, 8192]
    assert capacity_for(1500, 1800, 1024) == 1800
    assert capacity_for(10, 512, 1024) == 512


def test_a_kv_cache_begins_with_the_window_where_a_share_holds_it_and_else_with_room_to_grow_in_it() -> None:
    assert first_capacity(8192, 8192, 1024) == first_capacity(100_000, 8192, 1024) == 8192
    assert [first_capacity(share, 131_072, 1024) for share in (10, 8191, 8192, 20_000)] == [1024, 1024, 2048, 4096]
    assert first_capacity(10, 300, 1024) == 300


@pytest.mark.parametrize(("behind", "room"), [(768, 256), (700, 300), (3, 1), (0, 0)])
def test_what_is_begun_when_it_is_late_is_ready_in_time(behind: int, room: int) -> None:
    assert is_late(behind, room) == (behind >= (LATE_PACE - 1) * room)
    while room and not is_late(behind, room):
        behind, room = behind + 1, room - 1
    for _ in range(room):
        behind += 1 - LATE_PACE
    assert behind <= LATE_PACE
