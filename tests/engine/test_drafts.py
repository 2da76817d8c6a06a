"""Guesses at what follows, and when they are given up."""

import numpy as np

from serving.engine.drafts import FIRST_PAUSE, LONGEST, NGRAM, SHORTEST, Drafter


def drafter(*tokens: int) -> Drafter:
    return Drafter(np.asarray(tokens, dtype=np.int32))


TEXT = list(range(100, 140))


def test_what_followed_the_same_tokens_the_last_time_is_guessed() -> None:
    again = drafter(*TEXT, 1, *TEXT[:NGRAM])
    assert again.draft(100) == TEXT[NGRAM : NGRAM + SHORTEST]
    assert again.draft(2) == TEXT[NGRAM : NGRAM + 2]
    later = drafter(*TEXT[: NGRAM + 1], *TEXT[:NGRAM], 7, 8, 9, *TEXT[:NGRAM])
    assert later.draft(100)[:3] == [7, 8, 9]


def test_without_the_same_tokens_before_there_is_no_guess() -> None:
    assert drafter(*TEXT).draft(100) == []
    assert drafter(*TEXT, 1, *TEXT[: NGRAM - 1]).draft(100) == []
    assert drafter(1).draft(100) == drafter().draft(100) == []


def test_the_longer_the_same_the_longer_the_guess() -> None:
    lengths = [len(drafter(*TEXT, 1, *TEXT[:same]).draft(100)) for same in (NGRAM, 8, 20)]
    assert lengths == [SHORTEST, 8, LONGEST]


def test_a_text_that_is_copied_takes_a_fraction_of_the_passes() -> None:
    source = list(np.random.default_rng(0).permutation(5000)[:400])
    copy, passes, done = drafter(*source, 1, *source[:NGRAM]), 0, NGRAM
    while done < len(source):
        guess = copy.draft(len(source) - done - 1)
        passes += 1
        for said, guessed in zip(source[done:], [*guess, None], strict=False):
            copy.add(said)
            done += 1
            if said != guessed:
                break
    assert passes < len(source) / 8


def test_wrong_guesses_become_rarer_and_a_right_one_brings_them_back() -> None:
    rng = np.random.default_rng(0)
    words = [list(rng.integers(0, 10_000, NGRAM)) for _ in range(20)]
    text = drafter(*[token for word in words for token in (*word, int(rng.integers(20_000, 30_000)))])
    guesses = 0
    for step in range(400):  # the same words again, each time followed by something new
        for token in words[step % 20]:
            text.add(token)
        guesses += bool(text.draft(100))
        text.add(40_000 + step)
    assert 3 < guesses < 15

    for token in TEXT[:NGRAM]:
        text.add(token)
    for token in TEXT[NGRAM:]:
        text.add(token)
    waited = 0
    while not text.draft(100):  # the pause ends some time, also where nothing is guessed meanwhile
        text.add(TEXT[waited % len(TEXT)])
        waited += 1
        assert waited < 1000
    text.add(text.draft(100)[0])
    text.add(-1)
    for _ in range(FIRST_PAUSE):
        for token in TEXT[:NGRAM]:
            text.add(token)
    assert text.draft(100)
