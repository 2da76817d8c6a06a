"""A conversation's name: the same on every turn, and another for another beginning."""

import numpy as np

from serving.text.session import session_of, session_of_text
from serving.types import Message, TokenIds

SYSTEM, FIRST = Message("system", "Be brief."), Message("user", "Hello")
LATER = [Message("assistant", "Hi."), Message("user", "And now?")]


def test_later_turns_and_edits_of_them_keep_the_name() -> None:
    name = session_of([SYSTEM, FIRST])
    assert session_of([SYSTEM, FIRST, *LATER]) == name
    assert session_of([SYSTEM, FIRST, LATER[0], Message("user", "Something else")]) == name


def test_another_beginning_has_another_name() -> None:
    begun = [[SYSTEM, FIRST], [FIRST], [SYSTEM, Message("user", "Hello!")], [Message("system", "Be"), FIRST], [SYSTEM]]
    assert len({session_of(messages) for messages in begun}) == len(begun)
    assert session_of([Message("user", "a"), Message("user", "b")]) == session_of([Message("user", "a")])


def test_half_a_surrogate_pair_has_a_name() -> None:
    assert session_of([Message("user", "\ud800")])


def test_a_text_keeps_its_name_as_it_grows_from_its_64th_token_on() -> None:
    text: TokenIds = np.arange(200, dtype=np.int32)
    assert session_of_text(text[:64]) == session_of_text(text)
    assert session_of_text(text[:63]) != session_of_text(text)
