"""What is left out of a conversation that outgrows the window, and how seldom that changes."""

import random
from collections.abc import Sequence

import pytest

from serving.errors import ContextOverflow
from serving.text.context import fit
from serving.types import Message, Role

SYSTEM = Message("system", "x" * 50)
ROOM = 1000  # of a window of 1,200


class Counter:
    """One token for each character and ten for each message; knows how much it was asked."""

    def __init__(self) -> None:
        self.calls = 0
        self.counted = 0

    def __call__(self, messages: Sequence[Message]) -> int:
        self.calls += 1
        size = sum(10 + len(message.content) for message in messages)
        self.counted += size
        return size


def talk(turns: int, rng: random.Random, longest: int = 80) -> list[Message]:
    """So many questions with their answers."""
    roles: tuple[Role, ...] = ("user", "assistant")
    return [Message(role, "x" * rng.randint(1, longest)) for _ in range(turns) for role in roles]


def trimmed(messages: Sequence[Message], count: Counter | None = None) -> tuple[Message, ...]:
    return fit(messages, count or Counter(), 1200, 200, "trim").messages


def test_what_fits_is_left_alone_and_counted_once() -> None:
    said = [SYSTEM, Message("user", "x" * 930)]
    for policy in ("error", "trim"):
        count = Counter()
        fitted = fit(said, count, 1200, 200, policy)  # exactly the room
        assert fitted.messages == tuple(said) and fitted.dropped == 0
        assert count.calls == 1


def test_one_token_too_many_is_an_error_that_says_so() -> None:
    said = [SYSTEM, Message("user", "x" * 931)]
    with pytest.raises(ContextOverflow, match=r"has 1001 tokens, and the context window of 1200 has room for 1000 bes"):
        fit(said, Counter(), 1200, 200, "error")
    with pytest.raises(ContextOverflow, match="1001 tokens"):
        fit(said, Counter(), 1200, 200, "trim")
    with pytest.raises(ContextOverflow, match="--context-length"):
        fit([*talk(40, random.Random(0)), Message("user", "")], Counter(), 1200, 200, "error")


def test_a_last_turn_that_does_not_fit_is_an_error_even_alone() -> None:
    history = talk(5, random.Random(0))
    with pytest.raises(ContextOverflow, match="the system prompt and the last turn have 1071 tokens"):
        fit([SYSTEM, *history, Message("user", "x" * 1001)], Counter(), 1200, 200, "trim")


@pytest.mark.parametrize("head", [[], [SYSTEM], [SYSTEM, SYSTEM]])
@pytest.mark.parametrize("seed", range(20))
def test_the_system_prompt_and_the_latest_turns_stay(head: list[Message], seed: int) -> None:
    rng = random.Random(seed)
    said = [*head, *talk(rng.randint(6, 60), rng, rng.choice([80, 200])), Message("user", "last")]
    count = Counter()
    fitted = fit(said, count, 1200, 200, "trim")
    kept = list(fitted.messages)
    assert kept[: len(head)] == head
    assert kept[len(head) :] == said[len(said) - len(kept) + len(head) :]
    assert kept[len(head)].role == "user"
    assert len(kept) + fitted.dropped == len(said)
    assert count(kept) <= ROOM
    # Half of the room stays used, but for the one turn at the cut.
    assert not fitted.dropped or count(kept) >= ROOM / 2 - 2 * (10 + 200)


@pytest.mark.parametrize(("turns", "longest", "most"), [(60, 80, 16), (60, 150, 24), (300, 20, 40)])
def test_the_cut_stays_for_several_turns(turns: int, longest: int, most: int) -> None:
    """The turns of a long conversation, each with the whole history: how often the cached prefix is lost."""
    for seed in range(10):
        history = talk(turns, random.Random(seed), longest)
        prefixes: list[Message] = []
        overflowing = dropped = 0
        for turn in range(turns):
            count = Counter()
            said = [SYSTEM, *history[: 2 * turn + 1]]
            fitted = fit(said, count, 1200, 200, "trim")
            kept = fitted.messages
            assert Counter()(kept) <= ROOM
            assert count.calls <= 16
            assert count.counted - Counter()(said) <= 12 * ROOM  # a long history is counted but once
            assert fitted.dropped >= dropped  # what was dropped does not come back
            dropped = fitted.dropped
            overflowing += dropped > 0
            if not prefixes or prefixes[-1] is not kept[1]:
                prefixes.append(kept[1])
        assert len(prefixes) - 1 <= most
        assert len(prefixes) - 1 < overflowing / 2


def test_an_edited_or_repeated_last_question_is_cut_alike() -> None:
    history = talk(40, random.Random(3))
    kept = [trimmed([SYSTEM, *history, Message("user", text)])[1] for text in ("a", "b", "a bit longer")]
    assert kept[0] is kept[1] is kept[2]


def test_tool_calls_go_with_their_results() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    turn = [
        Message("user", "x" * 40),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "x" * 60),
        Message("assistant", "x" * 30),
    ]
    for length in range(1, 60):
        said = (turn * 15)[:length]
        kept = trimmed([SYSTEM, *said])[1:]
        assert kept[0].role == "user"
        assert list(kept) == said[len(said) - len(kept) :]
    # The last turn stays whole, though its question alone would leave room for more.
    with pytest.raises(ContextOverflow, match="last turn"):
        trimmed([*turn, turn[0], turn[1], Message("tool", "x" * 1000)])


def test_a_greeting_before_the_first_question_goes_with_it() -> None:
    greeting = Message("assistant", "x" * 400)
    said = [SYSTEM, greeting, *talk(4, random.Random(0), 100), Message("user", "x" * 500)]
    assert trimmed(said)[1].role == "user"
    assert greeting not in trimmed(said)
