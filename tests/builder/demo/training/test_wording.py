"""Which wordings are held out, and the frames around them."""

import pytest

from builder.demo.training.wording import (
    FRAMES,
    beyond,
    cross,
    divide,
    frameable,
    framings,
    train_wordings,
    wording_key,
)


def test_a_held_out_wording_has_only_words_that_other_wordings_have() -> None:
    for odd in ("grand", "big", "whole", "final", "exact", "correct", "new", "old", "next", "last"):
        pool = ("What is the sum?", "Tell me the sum.", "the sum?", f"What is the {odd} sum?", "Tell me.")
        train, held = divide(pool)
        known = {word for wording in train for word in wording_key(wording).split()}
        assert len(held) == 1
        assert set(wording_key(held[0]).split()) <= known


def test_the_first_wording_is_never_held_out_however_it_is_typed() -> None:
    pool = ("Who are you?", "who are you", "WHO ARE YOU", "Tell me who you are.", "Who is it that you are?")
    train, _ = divide(pool)
    assert set(pool[:3]) <= set(train)


def test_a_pool_of_one_cannot_be_divided() -> None:
    with pytest.raises(ValueError, match="pool of 1"):
        divide(("What?",))


def test_shortened_words_do_not_make_another_wording() -> None:
    assert wording_key("What's my favorite color?") == wording_key("what is my favourite colour")
    assert wording_key("What is my colour?") != wording_key("What is your colour?")


@pytest.mark.parametrize(
    ("wording", "parsed"),
    [
        ("What is the capital of {x}?", ("noun phrase", "the capital of {x}")),
        ("Sort {list} alphabetically.", ("request", "sort {list} alphabetically")),
        ("How many legs does {x} have?", ("question", "How many legs does {x} have?")),
        ("hello", None),
    ],
)
def test_a_wording_fits_the_frames_of_its_kind(wording: str, parsed: tuple[str, str] | None) -> None:
    assert frameable(wording) == parsed


def test_frames_of_the_two_parts_make_different_wordings() -> None:
    train = {wording_key(w) for w in framings("What is the capital of {x}?", False, 0)}
    held = {wording_key(w) for w in framings("What is the capital of {x}?", False, 1)}
    assert train
    assert held
    assert not train & held
    assert all("the capital of {x}" in w for w in train | held)


def test_training_never_frames_a_wording_into_a_held_out_one() -> None:
    frames, _ = divide(FRAMES["noun phrase"])
    pool = tuple(frame.replace("{it}", "the capital of {x}") for frame in frames)
    _, held = divide(pool)
    # Each of them is what a frame of the train part makes of the first.
    assert {wording_key(w) for w in held} <= {wording_key(w) for w in framings(pool[0], False, 0)}
    assert not train_wordings(pool, False) & {wording_key(w) for w in held}


def test_every_frame_has_its_place() -> None:
    for frames in FRAMES.values():
        assert all(frame.count("{it}") == 1 for frame in frames)


def test_cross_makes_every_combination() -> None:
    assert cross("a|b", "| c") == ("a", "a c", "b", "b c")


def test_beyond_leaves_out_what_the_pool_has() -> None:
    assert beyond(("Answer in JSON.",), ("answer in json", "Reply in JSON.")) == ("Reply in JSON.",)
