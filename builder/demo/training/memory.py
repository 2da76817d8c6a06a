"""Things said earlier in the chat: stated, corrected and asked for again."""

from collections.abc import Sequence
from dataclasses import dataclass

from builder.demo.training import memory_kinds as kinds
from builder.demo.training.draw import Draw
from builder.demo.training.memory_kinds import PET_KINDS, PLACES, RELATIVES, THINGS, Kind
from builder.demo.training.turns import Check, Turn, fact
from builder.demo.training.wording import Pool, wordings
from builder.demo.training.words import (
    COLOURS,
    FOODS,
    HOBBIES,
    JOBS,
    OBJECTS,
    PETS,
    city,
    listed,
    made_up,
    name,
    novel,
    word,
)

_SIMPLE = (
    *(kinds.NAME,) * 4, *(kinds.CITY,) * 2, *(kinds.NUMBER,) * 2, kinds.COLOUR, kinds.FOOD, kinds.JOB, kinds.HOBBY,
    kinds.WORD, kinds.AGE,
)  # fmt: skip
_KEYED: tuple[tuple[Kind, Sequence[str]], ...] = (
    (kinds.PET, PET_KINDS),
    (kinds.RELATIVE, RELATIVES),
    (kinds.PLACE, OBJECTS),
    (kinds.COLOURED, THINGS),
)
_CORRECTABLE = (kinds.NAME, kinds.NUMBER, kinds.COLOUR, kinds.CITY, kinds.WORD)
_MOST_SUMMED = 5
_ORDINALS = ("first", "second", "third", "fourth", "fifth")


@dataclass
class _Note:
    kind: Kind
    key: str
    value: str
    items: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The note as the assistant says it back."""
        return self.kind.told.format(k=self.key, v=self.value)

    @property
    def wanted(self) -> tuple[str, ...]:
        """What an answer about this note must contain."""
        return self.items or (self.value,)


class Notebook:
    """What one user has said so far in one conversation."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._notes: list[_Note] = []

    def __len__(self) -> int:
        return len(self._notes)

    def state(self) -> Turn:
        """The user states something new, or two things, or corrects what was said before."""
        draw = self._draw
        correctable = [note for note in self._notes if note.kind in _CORRECTABLE]
        if correctable and draw.chance(0.15):
            return self._correct(draw.any(correctable))
        first = self._stated()
        if draw.chance(0.12):
            return self._both(first, self._stated())
        return first

    def recall(self) -> Turn:
        """The user asks for something stated earlier."""
        draw = self._draw
        if draw.chance(0.07):
            return self._summary()
        note = draw.any(self._notes)
        if note.items and draw.chance(0.3):
            return self._about_list(note)
        if note.kind is kinds.NUMBER and int(note.value) < 900 and draw.chance(0.15):
            return self._plus(note)
        return self._asked(note)

    def missing(self) -> Turn:
        """The user asks for something that was never said."""
        draw = self._draw
        if not self._notes and draw.chance(0.05):
            return Turn(
                draw.phrase(kinds.ABOUT_ME), "You have not told me anything yet.", Check(contains=("have not told me",))
            )
        note = self._unused_note()
        rivals = [old for old in self._notes if old.key]
        if rivals and draw.chance(0.5):
            # The same kind of thing, about something else: the dog's name is not the cat's.
            like = draw.any(rivals).kind
            while note.kind is not like:
                note = self._unused_note()
        reply = note.kind.missing.format(k=note.key)
        return Turn(draw.phrase(note.kind.ask, k=note.key), reply, Check(contains=("have not told me",)))

    def first_and_recall(self) -> tuple[Turn, Turn]:
        """A statement and, for later, the question for it."""
        stated = self._stated()
        return stated, self._asked(self._notes[-1])

    def _stated(self) -> Turn:
        draw, note = self._draw, self._unused_note()
        self._notes.append(note)
        user = draw.told(note.kind.state, k=note.key, v=note.value)
        reply = draw.reply(note.kind.heard, k=note.key, v=note.value)
        return Turn(user, reply[:1].upper() + reply[1:], Check(contains=note.wanted))

    def _both(self, first: Turn, second: Turn) -> Turn:
        link = self._draw.any((" and ", ", and ", ". ", " "))
        start = (
            second.user
            if link in (". ", " ") or second.user.startswith("I ")
            else second.user[:1].lower() + second.user[1:]
        )
        user = first.user.rstrip(".!?") + link + start if link != " " else f"{first.user} {start}"
        check = Check(contains=first.check.contains + second.check.contains)
        return Turn(user, f"{first.reply} {second.reply}", check)

    def _asked(self, note: _Note) -> Turn:
        user = self._draw.phrase(note.kind.ask, k=note.key)
        short = note.value if len(note.value.split()) == 1 else ""
        return Turn(user, note.told, Check(contains=note.wanted, excludes=("not told me",)), short)

    def _summary(self) -> Turn:
        notes = self._notes[-_MOST_SUMMED:]
        wanted = tuple(value for note in notes for value in note.wanted)
        return Turn(self._draw.phrase(kinds.ABOUT_ME), " ".join(note.told for note in notes), Check(contains=wanted))

    def _plus(self, note: _Note) -> Turn:
        more = self._draw.number(1, 99)
        total = int(note.value) + more
        return fact(self._draw.phrase(kinds.PLUS, n=more), f"{note.value} + {more} = {total}", str(total))

    def _correct(self, note: _Note) -> Turn:
        draw = self._draw
        old, note.value = note.value, _value(draw, note.kind)
        pool = kinds.CORRECTIONS.get(note.kind.topic, kinds.OTHER_CORRECTIONS)
        user = draw.phrase(pool, v=note.value, o=old, t=note.kind.topic)
        reply = draw.reply(("Ok, {v} it is.", "Thanks, I will remember: {v}."), v=note.value)
        return Turn(user, reply, Check(contains=(note.value,)))

    def _about_list(self, note: _Note) -> Turn:
        draw = self._draw
        if draw.chance(0.5):
            count = len(note.items)
            return fact(draw.phrase(kinds.LIST_LENGTH), f"There are {count} things on your list.", str(count))
        index = draw.rng.randrange(-1, len(note.items))
        which = "last" if index < 0 else _ORDINALS[index]
        answer = note.items[index]
        return fact(draw.phrase(kinds.LIST_ITEM, w=which), f"The {which} thing on your list is {answer}.", answer)

    def _unused_note(self) -> _Note:
        while True:
            note = self._new_note()
            if not any(old.kind is note.kind and old.key == note.key for old in self._notes):
                return note

    def _new_note(self) -> _Note:
        draw = self._draw
        if draw.chance(0.1):
            count = draw.rng.randint(2, 4)
            items: list[str] = []
            while len(items) < count:
                items = list(dict.fromkeys([*items, novel(draw, FOODS)]))
            return _Note(kinds.LIST, "", listed(items), tuple(items))
        if draw.chance(0.4):
            kind, keys = draw.any(_KEYED)
            return _Note(kind, draw.any(keys), _value(draw, kind))
        kind = draw.any(_SIMPLE)
        return _Note(kind, "", _value(draw, kind))


_ECHO: Pool = wordings(
    """Repeat after me: {w} | Say {w} | Repeat: {w} | Please say: {w} | Say the words {w} | Can you say {w}? |
    Write {w} | Repeat this: {w} | Just say {w}. | Copy this: {w} | Print {w} | Echo {w} | Say: {w} | Say this: {w} |
    Write: {w} | Write this: {w} | Write the words {w} | Print: {w} | Print this: {w} | Print the words {w} |
    Copy: {w} | Copy {w} | Copy the words {w} | Echo: {w} | Echo this: {w} | Echo the words {w} | Repeat {w} |
    Repeat the words {w} | Repeat these words: {w} | Say these words: {w} | Write these words: {w} |
    Copy these words: {w} | Can you repeat {w}? | Can you write {w}? | Can you repeat this: {w} |
    Can you say this: {w} | Say after me: {w} | Write after me: {w} | Just repeat {w}. | Just write {w}. |
    Say nothing but {w}. | Only say {w}. | Answer with {w} | Answer only with {w} | Reply with {w} |
    Reply only with {w} | Reply: {w} | Your answer must be {w}"""
)  # fmt: skip


def echo(draw: Draw) -> Turn:
    """Repeat words after the user."""
    words = " ".join(word(draw, 2, 9) for _ in range(draw.rng.randint(1, 5)))
    return fact(draw.phrase(_ECHO, w=words), words, words)


def _value(draw: Draw, kind: Kind) -> str:
    match kind.topic:
        case "name" | "relative":
            return name(draw)
        case "age":
            return str(draw.number(5, 99))
        case "city":
            return city(draw)
        case "favourite colour" | "coloured":
            return novel(draw, COLOURS, 0.12)
        case "favourite food":
            return novel(draw, FOODS[:-4], 0.1)
        case "job":
            return novel(draw, JOBS, 0.1)
        case "hobby":
            return novel(draw, HOBBIES, 0.1)
        case "number":
            return str(draw.number(1, draw.any((99, 999, 9999, 99999))))
        case "secret word":
            return word(draw)
        case "pet":
            return draw.value(PETS) if draw.chance(0.7) else made_up(draw, 3, 7).capitalize()
    return novel(draw, PLACES, 0.15)
