"""Questions that lean on the turn before: "And of Italy?", "plus 5?", "What did I just say?"."""

from builder.demo.training.draw import Draw
from builder.demo.training.fact_tables import CAPITALS, ELEMENTS, LANGUAGES, OPPOSITES
from builder.demo.training.turns import Turn, fact
from builder.demo.training.wording import Pool, wordings

_AND: Pool = wordings(
    """And of {x}? | And for {x}? | What about {x}? | And {x}? | and {x} | How about {x}? | And what about {x}? | {x}? |
    Now {x}. | Now {x} | Now for {x}. | And now {x}? | And that of {x}? | What of {x}? | Same for {x}. |
    The same for {x}, please. | And how about {x}? | Also for {x}. | Do the same for {x}. | Also {x}? | Then {x}? |
    Next, {x}. | Now do {x}. | And do you know {x}? | Ok, and {x}? | Good, and {x}? | Ok, what about {x}? |
    Good. What about {x}? | Ok, now {x}. | Great, and for {x}?"""
)  # fmt: skip
_PLUS: Pool = wordings(
    """And plus {n}? | plus {n}? | Add {n}. | Now add {n}. | And {n} more? | Add {n} to that. | Plus {n}. |
    And if you add {n}? | What if I add {n}? | Now add {n} to it. | Add {n} to the result. | Add {n} more. |
    What is that plus {n}? | And that plus {n}? | plus {n} | And then plus {n}? | Then add {n}. |
    And add {n} to that? | Can you add {n} to that? | What is it plus {n}?"""
)  # fmt: skip
_MINUS: Pool = wordings(
    """And minus {n}? | minus {n}? | Subtract {n}. | Now subtract {n}. | And {n} less? | Subtract {n} from that. |
    Minus {n}. | And if you subtract {n}? | What if I subtract {n}? | Take away {n}. | Now take away {n}. |
    Take {n} away from that. | What is that minus {n}? | And that minus {n}? | minus {n} | And then minus {n}? |
    Then subtract {n}. | Subtract {n} from the result. | Can you subtract {n} from that? | What is it minus {n}?"""
)  # fmt: skip
_SAID: Pool = wordings(
    """What did I just say? | What did I say? | What did I just ask? | What was my last message? | Repeat what I said. |
    what did i just say | What did I ask you? | What did I just ask you? | What was my question? |
    What was my last question? | Repeat my last message. | Repeat what I just said. | Can you repeat what I said? |
    Can you repeat my question? | Can you repeat my last message? | Tell me what I just said. | Tell me what I said. |
    Say again what I just said. | What were my last words? | What did I just write? | What did I write? |
    Do you remember what I just said? | Do you remember my last message? | Do you remember what I asked?"""
)  # fmt: skip
_LONGEST_QUOTE = 60
_TABLES = (
    (CAPITALS, "The capital of {x} is {y}.", "What is the capital of {x}?"),
    (LANGUAGES, "People in {x} mostly speak {y}.", "What language is spoken in {x}?"),
    (OPPOSITES, "The opposite of {x} is {y}.", "What is the opposite of {x}?"),
    (
        tuple((name, symbol) for _, symbol, name in ELEMENTS),
        "The symbol for {x} is {y}.",
        "What is the symbol for {x}?",
    ),
)


def followup(draw: Draw) -> list[Turn]:
    """A question and one or two that lean on it."""
    kind = draw.rng.random()
    if kind < 0.5:
        return _another_fact(draw)
    return _more_sums(draw)


def quote(draw: Draw, before: Turn) -> Turn | None:
    """The user asks what the last message was; None if that was too long to repeat."""
    if len(before.user) > _LONGEST_QUOTE:
        return None
    return fact(draw.phrase(_SAID), f'You said: "{before.user}"', before.user)


def _another_fact(draw: Draw) -> list[Turn]:
    # The opening question is only context: its one wording belongs to training.
    table, reply, opening = draw.any(_TABLES)
    rows = draw.rng.sample(table, draw.rng.randint(2, 3))
    asked = [draw.typed(opening.format(x=rows[0][0])), *(draw.phrase(_AND, x=row[0]) for row in rows[1:])]
    return [fact(user, reply.format(x=row[0], y=row[1]), row[1]) for user, row in zip(asked, rows, strict=True)]


def _more_sums(draw: Draw) -> list[Turn]:
    a, b = draw.number(1, 400), draw.number(1, 99)
    turns, total = [fact(draw.typed(f"What is {a} + {b}?"), f"{a} + {b} = {a + b}", str(a + b))], a + b
    for _ in range(draw.rng.randint(1, 2)):
        n = draw.number(1, 99)
        if draw.chance(0.6) or n > total:
            turns.append(fact(draw.phrase(_PLUS, n=n), f"{total} + {n} = {total + n}", str(total + n)))
            total += n
        else:
            turns.append(fact(draw.phrase(_MINUS, n=n), f"{total} - {n} = {total - n}", str(total - n)))
            total -= n
    return turns
