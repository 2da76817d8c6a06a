"""The demo model's training text: conversations generated from a seed, in a train and a held-out version."""

import random
from collections.abc import Callable, Iterator

from builder.demo import Conversation, Split
from builder.demo.training import facts, styles
from builder.demo.training.arithmetic import arithmetic
from builder.demo.training.draw import Draw
from builder.demo.training.followups import followup, quote
from builder.demo.training.letters import letters
from builder.demo.training.lists import lists
from builder.demo.training.memory import Notebook, echo
from builder.demo.training.product import product
from builder.demo.training.refusals import refusals
from builder.demo.training.smalltalk import greeting, smalltalk
from builder.demo.training.snippets import snippets
from builder.demo.training.stories import poems, stories
from builder.demo.training.turns import Turn

SKILLS: dict[str, Callable[[Draw], Turn]] = {
    "small talk": smalltalk,
    "product": product,
    "arithmetic": arithmetic,
    "lists": lists,
    "letters": letters,
    "facts": facts.forward,
    "facts backwards": facts.backward,
    "stories": stories,
    "poems": poems,
    "snippets": snippets,
    "declining": refusals,
    "echo": echo,
}
"""Every skill that needs nothing from earlier in the chat."""

_WEIGHTS = {
    "small talk": 7, "product": 9, "arithmetic": 12, "lists": 12, "letters": 14, "facts": 9, "facts backwards": 7,
    "stories": 5, "poems": 2,
    "snippets": 5, "declining": 7, "echo": 4,
}  # fmt: skip
_STATES, _RECALLS, _MISSES, _FOLLOWUPS, _QUOTES = 7.0, 9.0, 2.0, 4.0, 1.0
_MOST_NOTES = 12


def conversations(split: Split, seed: int) -> Iterator[Conversation]:
    """Endless conversations; the same split and seed always give the same ones.

    Messages are `{"role": "system" | "user" | "assistant", "content": text}`: at most one system message, first;
    then user and assistant in turn, ending with the assistant.
    """
    rng = random.Random(f"{split}/{seed}")
    while True:
        draw = Draw(split, rng)
        yield styled(draw) if draw.chance(0.26) else _plain(draw)


def skilled(draw: Draw) -> Turn:
    """One turn of a randomly chosen skill."""
    name = draw.rng.choices(list(SKILLS), weights=[_WEIGHTS[skill] for skill in SKILLS])[0]
    turn = SKILLS[name](draw)
    return styles.inline(draw, turn) if _is_one_word(turn.short) and draw.chance(0.04) else turn


def messages(turns: list[Turn], system: str = "") -> Conversation:
    """The turns as chat messages."""
    chat = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        chat += [{"role": "user", "content": turn.user}, {"role": "assistant", "content": turn.reply}]
    return chat


def short_answered(draw: Draw) -> Turn:
    """A turn with a one-word answer, for system prompts that ask for one."""
    pool = (arithmetic, facts.forward, facts.backward, lists, facts.forward)
    while True:
        turn = draw.any(pool)(draw)
        if _is_one_word(turn.short):
            return turn


def brief(draw: Draw) -> Turn:
    """A turn with a short answer, for system prompts that change its dress."""
    pool = (arithmetic, facts.forward, facts.backward, smalltalk, smalltalk, product, refusals, lists)
    return draw.any(pool)(draw)


def _is_one_word(text: str) -> bool:
    return len(text.split()) == 1


def _length(draw: Draw) -> int:
    """Turns in a conversation: many short ones, some long enough to fill the context."""
    return draw.rng.choices(
        (draw.rng.randint(1, 3), draw.rng.randint(3, 8), draw.rng.randint(8, 16), draw.rng.randint(16, 30)),
        weights=(40, 35, 20, 5),
    )[0]


def _plain(draw: Draw) -> Conversation:
    notebook = Notebook(draw)
    turns: list[Turn] = []
    count = _length(draw)
    if draw.chance(0.25):
        turns.append(greeting(draw))
    memory = draw.rng.uniform(0.0, 1.0)
    while len(turns) < count:
        turns += _next_turns(draw, notebook, memory, turns)
    if len(notebook) and draw.chance(0.5):
        turns.append(notebook.recall())
    return messages(turns, styles.plain_system(draw) if draw.chance(0.15) else "")


def _next_turns(draw: Draw, notebook: Notebook, memory: float, before: list[Turn]) -> list[Turn]:
    weights = {
        "skill": float(sum(_WEIGHTS.values())),
        "state": _STATES * 4 * memory if len(notebook) < _MOST_NOTES else 0.0,
        "recall": _RECALLS * 4 * memory if len(notebook) else 0.0,
        "missing": _MISSES,
        "follow up": _FOLLOWUPS,
        "quote": _QUOTES if before else 0.0,
    }
    match draw.rng.choices(list(weights), weights=list(weights.values()))[0]:
        case "state":
            return [notebook.state()]
        case "recall":
            return [notebook.recall()]
        case "missing":
            return [notebook.missing()]
        case "follow up":
            return followup(draw)
        case "quote" if quoted := quote(draw, before[-1]):
            return [quoted]
    return [skilled(draw)]


def styled(draw: Draw) -> Conversation:
    """A chat under a system prompt that changes every answer."""
    style = styles.style(draw)
    turns: list[Turn] = []
    for _ in range(draw.rng.randint(1, 6)):
        if style.own and draw.chance(0.5):
            turns.append(draw.any(style.own))
        else:
            turns.append(style.restyle(short_answered(draw) if style.needs_short else brief(draw)))
    return messages(turns, style.system)
