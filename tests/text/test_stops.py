"""Stop strings that arrive in pieces."""

import random

import pytest

from serving.text.stops import StopStrings


def shown(stop: tuple[str, ...], pieces: list[str]) -> tuple[str, bool]:
    stops = StopStrings(stop)
    text = ""
    for piece in pieces:
        part, stopped = stops.feed(piece)
        text += part
        if stopped:
            return text, True
    return text + stops.flush(), False


def cut(text: str, rng: random.Random) -> list[str]:
    pieces = []
    while text:
        size = rng.randint(1, 3)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@pytest.mark.parametrize("stop", [("END",), ("aab",), ("ab", "ba"), ("\n\n", "User:"), ("b", "abab")])
def test_any_cut_shows_the_text_before_the_first_stop_string(stop: tuple[str, ...]) -> None:
    rng = random.Random(0)
    for _ in range(500):
        text = "".join(rng.choice(["a", "b", "END", "\n", "User:", "é"]) for _ in range(rng.randint(0, 12)))
        found = [text.find(s) for s in stop if s in text]
        expected = (text[: min(found)], True) if found else (text, False)
        # Where two stop strings overlap, a stream may see the later one end first; both cuts hide every stop string.
        got = shown(stop, cut(text, rng))
        if len(stop) == 1:
            assert got == expected
        assert got[1] == expected[1]
        assert not any(s in got[0] for s in stop)
        assert text.startswith(got[0])


def test_nothing_that_may_begin_a_stop_string_is_shown_early() -> None:
    stops = StopStrings(("STOP",))
    assert stops.feed("well S") == ("well ", False)
    assert stops.feed("TO") == ("", False)
    assert stops.feed("NE") == ("STONE", False)


def test_the_first_one_in_the_text_is_the_one_that_was_met() -> None:
    stops = StopStrings(("b", "END", "a"))
    assert stops.feed("so EN") == ("so ", False) and stops.met is None
    assert stops.feed("D a b") == ("", True) and stops.met == "END"


def test_without_stop_strings_everything_is_shown_at_once() -> None:
    assert StopStrings(()).feed("anything") == ("anything", False)


def test_a_stop_string_that_ends_too_soon_is_text_and_one_that_begins_too_soon_is_not() -> None:
    stops = StopStrings(("END",))
    assert stops.feed("an END and E", too_soon=True) == ("an END and ", False)
    assert stops.feed("ND") == ("", True)


def test_a_stop_string_is_shown_where_that_is_asked_for() -> None:
    assert StopStrings(("END", "no"), shown=True).feed("the END, no") == ("the END", True)
