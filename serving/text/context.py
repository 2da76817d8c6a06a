"""A conversation that outgrows the window: refused, or its oldest turns left out. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from serving.errors import ContextOverflow
from serving.types import Message, Policy


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages to answer, and how many of the client's were dropped."""

    messages: tuple[Message, ...]
    dropped: int


class AtLeast(int):
    """A number of tokens that was not counted to its end."""

    def __format__(self, spec: str) -> str:
        return f"at least {int(self):{spec}}"


def fit(
    messages: Sequence[Message],
    count: Callable[[Sequence[Message]], int],
    context_length: int,
    answer_room: int,
    policy: Policy,
) -> Fitted:
    """Leave `answer_room` tokens of the window free for the answer.

    count: the tokens of a rendered conversation; AtLeast where there are more than the whole window takes. It is called
    once if everything fits, and about ten times on some of the last turns if not.

    "trim" keeps the system messages at the beginning and the last turn, and drops the oldest turns: each a user's
    message with all that answers it, tool calls and results too. A client sends the whole history each time, and the
    KV cache is of use only while the cut stays where it was. So more is dropped than must be, down to half of the
    room at most, and of the turns where the rest may begin the one with the roundest number (most often divisible by
    two) is taken: as the conversation grows it stays the roundest for several turns.

    Raises ContextOverflow where nothing may be dropped, or not enough.
    """
    room = context_length - answer_room
    size = count(messages)
    if size <= room:
        return Fitted(tuple(messages), 0)
    if policy == "error":
        raise _overflow(f"the conversation has {size} tokens", context_length, answer_room)

    head = list(takewhile(lambda message: message.role == "system", messages))
    starts = [n for n, message in enumerate(messages) if n > len(head) and message.role == "user"]  # of later turns
    sizes: dict[int, int] = {}

    def kept_size(turn: int) -> int:
        if turn not in sizes:
            sizes[turn] = count([*head, *messages[starts[turn - 1] :]])
        return sizes[turn]

    last = len(starts)  # turns are numbered from 0, and the first one does not fit together with all others
    if not last or kept_size(last) > room:
        least = kept_size(last) if last else size
        raise _overflow(f"the system prompt and the last turn have {least} tokens", context_length, answer_room)
    first = _first_below(room, kept_size, last)
    turn = _roundest(first, _first_below(room // 2, kept_size, last))
    return Fitted((*head, *messages[starts[turn - 1] :]), starts[turn - 1] - len(head))


def _first_below(limit: int, size: Callable[[int], int], last: int) -> int:
    """The first turn from which on the rest has at most `limit` tokens; the last one if there is none."""
    step = 1  # from the end in doubling steps, because a long history costs more to count than what is kept of it
    while last - step >= 1 and size(last - step) <= limit:
        step *= 2
    low, high = max(last - step, 0), last - step // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if size(middle) <= limit else (middle, high)
    return high


def _roundest(first: int, last: int) -> int:
    """The number from `first` to `last` that is divisible by the highest power of two."""
    while last & (last - 1) >= first:  # without its lowest bit
        last &= last - 1
    return last


def _overflow(what: str, context_length: int, answer_room: int) -> ContextOverflow:
    return ContextOverflow(
        f"{what}, and the context window of {context_length} has room for {context_length - answer_room} beside "
        f"{answer_room} for the answer: shorten it, start a new chat, or serve a longer window with --context-length."
    )
