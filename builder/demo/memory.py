"""Things said earlier in the chat: stated, corrected and asked for again."""

from collections.abc import Sequence
from dataclasses import dataclass

from builder.demo.draw import Draw
from builder.demo.turns import Check, Turn, fact
from builder.demo.words import ANIMALS, CITIES, COLOURS, FOODS, HOBBIES, JOBS, OBJECTS, PETS, city, listed, made_up, name, word


@dataclass(frozen=True)
class Kind:
    """One kind of fact: how users state it and ask for it; `{v}` is its value, `{k}` what it is about."""

    topic: str
    state: tuple[str, ...]
    ask: tuple[str, ...]
    heard: tuple[str, ...]
    told: str
    missing: str


_NAME = Kind(
    "name",
    ("My name is {v}.", "I am {v}.", "my name is {v}", "Hi, I am {v}.", "Call me {v}.", "Hello, my name is {v}!", "I'm {v}", "You can call me {v}.",
     "People call me {v}.", "Hi! My name is {v}.", "Hey, {v} here.", "Let me introduce myself: I am {v}.", "This is {v} speaking.", "By the way, I am {v}.",
     "Good morning, I am {v}.", "{v} is my name.", "hi im {v}", "They call me {v}."),
    ("What is my name?", "What's my name?", "whats my name", "Do you remember my name?", "Who am I?", "What did I say my name was?", "Do you know my name?",
     "Can you tell me my name?", "Tell me my name.", "Remember my name?", "What am I called?", "Do you still know my name?", "My name is?", "Say my name.",
     "What was my name again?", "Did you forget my name?", "By which name do you know me?", "Which name did I give you?"),
    ("Nice to meet you, {v}!", "Hello {v}, nice to meet you!", "Hi {v}! How can I help you?"),
    "Your name is {v}.",
    "You have not told me your name yet.",
)
_AGE = Kind(
    "age",
    ("I am {v} years old.", "My age is {v}.", "I'm {v} years old", "I turned {v} this year.", "I just turned {v}.", "I will be {v} soon.", "My age? {v}.",
     "I am {v}."),
    ("How old am I?", "What is my age?", "Do you remember my age?", "How old did I say I am?", "Tell me my age.", "How many years old am I?", "Do you know how old I am?",
     "What age am I?"),
    ("You are {v}, noted.", "Got it, you are {v} years old."),
    "You are {v} years old.",
    "You have not told me your age yet.",
)
_CITY = Kind(
    "city",
    ("I live in {v}.", "I am from {v}.", "My home is {v}.", "I come from {v}.", "I live in {v}, by the way.", "My city is {v}.", "I was born in {v}.",
     "I moved to {v}.", "home for me is {v}.", "I'm from {v}", "My flat is in {v}.", "I grew up in {v}."),
    ("Where do I live?", "Where am I from?", "Which city do I live in?", "What is my city?", "Do you remember where I live?", "Where did I say I live?",
     "Tell me where I live.", "Where do I come from?", "Where is my home?", "What city am I from?", "In which town do I live?", "Where is it that I live?"),
    ("{v} sounds like a nice place.", "Ah, {v}! I will remember that."),
    "You told me {v}.",
    "You have not told me where you live yet.",
)
_COLOUR = Kind(
    "favourite colour",
    ("My favourite colour is {v}.", "my favorite color is {v}", "I like the colour {v} best.", "I love {v}, it is my favourite colour.", "The colour I like most is {v}.",
     "{v} is my favourite colour.", "My favorite color is {v}.", "The best colour is {v}.", "For me the prettiest colour is {v}."),
    ("What is my favourite colour?", "what's my favorite color?", "Which colour do I like?", "Do you remember my favourite colour?", "What colour do I like best?",
     "Tell me my favourite colour.", "What is my favorite color?", "Which colour is my favourite?", "What color do I love?", "Which colour do I like most?"),
    ("{v} is a lovely colour.", "Good choice, I like {v} too."),
    "Your favourite colour is {v}.",
    "You have not told me your favourite colour yet.",
)
_FOOD = Kind(
    "favourite food",
    ("My favourite food is {v}.", "I love {v}.", "I like to eat {v}.", "I really like {v}.", "My favorite food is {v}.", "I could eat {v} every day.",
     "The food I like best is {v}.", "Nothing tastes better than {v}."),
    ("What is my favourite food?", "What do I like to eat?", "What's my favorite food?", "Which food do I like?", "Do you remember my favourite food?",
     "What food do I love?", "Tell me what I like to eat.", "What could I eat every day?"),
    ("{v}, tasty!", "Mmm, {v}. I will remember that."),
    "You like {v}.",
    "You have not told me what you like to eat yet.",
)
_JOB = Kind(
    "job",
    ("I work as a {v}.", "I am a {v}.", "My job is {v}.", "I'm a {v}", "I earn my money as a {v}.", "By profession I am a {v}.", "I have a job as a {v}.",
     "My work? I am a {v}."),
    ("What is my job?", "What do I do for a living?", "What's my job?", "What do I work as?", "Do you remember my job?", "What is my profession?", "Tell me my job.",
     "How do I earn my money?"),
    ("A {v}, how interesting!", "That is good work, being a {v}."),
    "You work as a {v}.",
    "You have not told me your job yet.",
)
_HOBBY = Kind(
    "hobby",
    ("My hobby is {v}.", "I like {v}.", "I enjoy {v}.", "In my free time I do {v}.", "My favourite hobby is {v}.", "I spend my weekends with {v}.", "{v} is my hobby.",
     "I am a fan of {v}."),
    ("What is my hobby?", "What do I do in my free time?", "What's my hobby?", "What do I enjoy?", "Do you remember my hobby?", "Which hobby do I have?", "Tell me my hobby.",
     "How do I spend my free time?"),
    ("{v} sounds like fun!", "{v} is a great hobby."),
    "Your hobby is {v}.",
    "You have not told me your hobby yet.",
)
_NUMBER = Kind(
    "number",
    ("My favourite number is {v}.", "My lucky number is {v}.", "Remember the number {v}.", "my number is {v}", "Please remember {v}.", "The number is {v}.",
     "Keep the number {v} in mind.", "I am thinking of the number {v}.", "Store the number {v}.", "Note the number {v}.", "The number to remember is {v}.",
     "Don't forget {v}."),
    ("What is my number?", "Which number did I tell you?", "What was the number?", "What number did I say?", "Do you remember the number?", "What is my lucky number?",
     "Tell me the number.", "What is my favourite number?", "What number did I ask you to remember?", "Which number should you remember?", "Can you recall the number?",
     "Say the number again."),
    ("{v}, I will remember that.", "Noted: {v}."),
    "The number is {v}.",
    "You have not told me a number yet.",
)
_WORD = Kind(
    "secret word",
    ("The secret word is {v}.", "The password is {v}.", "Remember the word {v}.", "my secret word is {v}", "Our code word is {v}.", "The magic word is {v}.",
     "Keep this word for me: {v}", "Please remember this word: {v}.", "The word of the day is {v}.", "Don't forget the word {v}."),
    ("What is the secret word?", "What was the word?", "Which word did I tell you?", "What is the password?", "Do you remember the word?", "What is our code word?",
     "Tell me the secret word.", "What is the magic word?", "What word should you remember?", "Say the secret word.", "Which word did I ask you to keep?", "Repeat the word I gave you."),
    ("I will remember the word {v}.", "Noted: {v}."),
    "The word is {v}.",
    "You have not told me a word yet.",
)
_PET = Kind(
    "pet",
    ("My {k} is called {v}.", "I have a {k} named {v}.", "My {k}'s name is {v}.", "I have a {k} called {v}.", "The name of my {k} is {v}.", "I own a {k}, {v}.",
     "We have a {k} and it is called {v}.", "Our {k} goes by {v}.", "my {k} is named {v}", "My {k} answers to {v}.", "{v} is my {k}.", "I got a {k}, its name is {v}."),
    ("What is my {k} called?", "What is the name of my {k}?", "What is my {k}'s name?", "What's my {k} called?", "Do you remember my {k}'s name?", "Tell me the name of my {k}.",
     "How is my {k} called?", "What did I call my {k}?", "Which name does my {k} have?", "Who is {v0} my {k}?", "My {k} is called?", "Do you know what my {k} is called?"),
    ("{v} is a nice name for a {k}.", "What a good name, {v}!"),
    "Your {k} is called {v}.",
    "You have not told me the name of your {k}.",
)
_RELATIVE = Kind(
    "relative",
    ("My {k}'s name is {v}.", "My {k} is called {v}.", "My {k} is {v}.", "I have a {k} named {v}.", "The name of my {k} is {v}.", "my {k} is named {v}",
     "{v} is my {k}.", "I was out with my {k} {v}."),
    ("What is my {k}'s name?", "What is my {k} called?", "What is the name of my {k}?", "Who is my {k}?", "Do you remember my {k}'s name?", "Tell me the name of my {k}.",
     "What's my {k}'s name?", "How is my {k} called?"),
    ("Say hello to {v} from me!", "{v} is a nice name."),
    "Your {k} is called {v}.",
    "You have not told me the name of your {k}.",
)
_PLACE = Kind(
    "place",
    ("The {k} is in the {v}.", "I put the {k} in the {v}.", "My {k} is in the {v}.", "Remember that the {k} is in the {v}.", "I left my {k} in the {v}.",
     "The {k} lies in the {v}.", "I keep the {k} in the {v}.", "You will find the {k} in the {v}."),
    ("Where is the {k}?", "Where did I put the {k}?", "Where is my {k}?", "Do you remember where the {k} is?", "Where can I find the {k}?", "Tell me where the {k} is.",
     "Where did I leave the {k}?", "In what place is the {k}?"),
    ("I will remember that the {k} is in the {v}.", "In the {v}, noted."),
    "The {k} is in the {v}.",
    "You have not told me where the {k} is.",
)
_COLOURED = Kind(
    "coloured",
    ("My {k} is {v}.", "I have a {v} {k}.", "I bought a {v} {k}.", "The colour of my {k} is {v}.", "I own a {v} {k}.", "my new {k} is {v}", "I painted my {k} {v}.", "I got a {v} {k} today."),
    ("What colour is my {k}?", "What color is my {k}?", "Which colour does my {k} have?", "What is the colour of my {k}?", "Do you remember the colour of my {k}?", "Tell me the colour of my {k}.",
     "Which color is my {k}?", "How did I paint my {k}?"),
    ("A {v} {k}, nice!", "{v} suits a {k}."),
    "Your {k} is {v}.",
    "You have not told me the colour of your {k}.",
)
_LIST = Kind(
    "list",
    ("I need to buy {v}.", "My shopping list: {v}.", "Remember this list: {v}.", "I have to buy {v}.", "Please remember: {v}.", "Shopping list: {v}", "On my list are {v}.", "We need {v}.",
     "My list is {v}.", "Keep this list: {v}.", "Don't let me forget {v}.", "I want to get {v}."),
    ("What is on my list?", "What do I need to buy?", "What was on my list?", "What is on my shopping list?", "Tell me my list.", "Can you repeat my list?", "What did I want to buy?", "Read me my list.",
     "What do I have to buy?", "Do you remember my list?", "What things are on my list?", "Which things do I need?"),
    ("Your list: {v}.", "I will remember your list: {v}."),
    "On your list: {v}.",
    "You have not told me a list yet.",
)

RELATIVES = ("sister", "brother", "mother", "father", "friend", "boss", "teacher", "neighbour", "uncle", "aunt", "cousin", "daughter", "son", "wife", "husband", "grandmother")
PET_KINDS = ("dog", "cat", "hamster", "rabbit", "parrot", "horse", "turtle", "goldfish", "pony", "canary", "snake", "lizard")
PLACES = ("kitchen", "garden", "drawer", "cellar", "box", "car", "bedroom", "garage", "attic", "office", "bag", "hall", "bathroom", "cupboard", "shed", "basket", "wardrobe", "fridge")
THINGS = ("car", "bike", "house", "coat", "hat", "bag", "sofa", "door", "phone", "boat", "scarf", "chair", "umbrella", "kite", "cup", "desk")

_SIMPLE = (_NAME, _NAME, _NAME, _NAME, _CITY, _CITY, _COLOUR, _FOOD, _JOB, _HOBBY, _NUMBER, _NUMBER, _WORD, _AGE)
_KEYED: tuple[tuple[Kind, Sequence[str]], ...] = ((_PET, PET_KINDS), (_RELATIVE, RELATIVES), (_PLACE, OBJECTS), (_COLOURED, THINGS))


@dataclass
class _Note:
    kind: Kind
    key: str
    value: str
    items: tuple[str, ...] = ()


class Notebook:
    """What one user has said so far in one conversation."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._notes: list[_Note] = []

    def __len__(self) -> int:
        return len(self._notes)

    def state(self) -> Turn:
        """The user states something new, or corrects what was said before."""
        draw = self._draw
        correctable = [note for note in self._notes if note.kind in (_NAME, _NUMBER, _COLOUR, _CITY, _WORD)]
        if correctable and draw.chance(0.15):
            return self._correct(draw.any(correctable))
        note = self._new_note()
        while any(old.kind is note.kind and old.key == note.key for old in self._notes):
            note = self._new_note()
        self._notes.append(note)
        user = draw.phrase(note.kind.state, k=note.key, v=note.value)
        reply = draw.reply(note.kind.heard, k=note.key, v=note.value)
        return Turn(user, reply[:1].upper() + reply[1:], self._check(note))

    def recall(self) -> Turn:
        """The user asks for something stated earlier."""
        note = self._draw.any(self._notes)
        if note.items and self._draw.chance(0.3):
            return self._about_list(note)
        return self._asked(note)

    def missing(self) -> Turn:
        """The user asks for something that was never said."""
        while True:
            note = self._new_note()
            if not any(old.kind is note.kind and old.key == note.key for old in self._notes):
                break
        user = self._draw.phrase(_askable(note.kind), k=note.key)
        reply = note.kind.missing.format(k=note.key)
        return Turn(user, reply, Check(contains=("have not told me",)))

    def first_and_recall(self) -> tuple[Turn, Turn]:
        """A statement and, for later, the question for it."""
        stated = self.state()
        return stated, self._asked(self._notes[-1])

    def _asked(self, note: _Note) -> Turn:
        user = self._draw.phrase(_askable(note.kind), k=note.key)
        reply = note.kind.told.format(k=note.key, v=note.value)
        short = note.value if len(note.value.split()) == 1 else ""
        return Turn(user, reply, self._check(note), short)

    def _check(self, note: _Note) -> Check:
        return Check(contains=note.items or (note.value,), excludes=("not told me",))

    def _correct(self, note: _Note) -> Turn:
        draw = self._draw
        old, note.value = note.value, _value(draw, note.kind)
        pools = {
            "name": ("Actually my name is {v}.", "Sorry, I am {v}, not {o}.", "I lied, my name is {v}.", "Please call me {v} instead.", "My name is {v} now.", "Change my name to {v}."),
            "city": ("Actually I live in {v}.", "I moved from {o} to {v}.", "Now I live in {v}.", "I have moved to {v}.", "Not {o}, I live in {v}.", "Correction: I live in {v}."),
        }
        other = ("Actually it is {v}.", "I changed my mind, my {t} is {v} now.", "Sorry, my {t} is {v}.", "No, not {o} but {v}.", "My {t} is {v} now, not {o}.", "Let us make my {t} {v} instead.")
        user = draw.phrase(pools.get(note.kind.topic, other[1:3] + other[4:]), v=note.value, o=old, t=note.kind.topic)
        return Turn(user, draw.reply(("Ok, {v} it is.", "Thanks, I will remember: {v}."), v=note.value), Check(contains=(note.value,)))

    def _about_list(self, note: _Note) -> Turn:
        draw = self._draw
        if draw.chance(0.5):
            pool = ("How many things are on my list?", "How long is my list?", "How many items are on my list?", "Count the things on my list.", "How many do I need to buy?",
                    "How many entries does my list have?")
            return fact(draw.phrase(pool), f"There are {len(note.items)} things on your list.", str(len(note.items)))
        index = draw.rng.randrange(-1, len(note.items))
        which = "last" if index < 0 else ("first", "second", "third", "fourth", "fifth")[index]
        pool = ("What is the {w} thing on my list?", "What was {w} on my list?", "Which is the {w} thing on my list?", "The {w} thing on my list?", "Tell me the {w} item of my list.",
                "What comes {w} on my list?")
        return fact(draw.phrase(pool, w=which), f"The {which} thing on your list is {note.items[index]}.", note.items[index])

    def _new_note(self) -> _Note:
        draw = self._draw
        if draw.chance(0.1):
            items = draw.some(FOODS, draw.rng.randint(2, 4))
            return _Note(_LIST, "", listed(items), tuple(items))
        if draw.chance(0.4):
            kind, keys = draw.any(_KEYED)
            return _Note(kind, draw.any(keys), _value(draw, kind))
        kind = draw.any(_SIMPLE)
        return _Note(kind, "", _value(draw, kind))


def echo(draw: Draw) -> Turn:
    """Repeat words after the user."""
    words = " ".join(word(draw, 2, 9) for _ in range(draw.rng.randint(1, 4)))
    pool = ("Repeat after me: {w}", "Say {w}", "Repeat: {w}", "Please say: {w}", "Say the words {w}", "Can you say {w}?", "Write {w}", "Repeat this: {w}",
            "Just say {w}.", "Copy this: {w}", "Print {w}", "Echo {w}")
    return fact(draw.phrase(pool, w=words), words, words)


def _askable(kind: Kind) -> tuple[str, ...]:
    return tuple(text for text in kind.ask if "{v0}" not in text)


def _value(draw: Draw, kind: Kind) -> str:
    match kind.topic:
        case "name" | "relative":
            return name(draw)
        case "age":
            return str(draw.number(5, 99))
        case "city":
            return city(draw)
        case "favourite colour" | "coloured":
            return draw.value(COLOURS)
        case "favourite food":
            return draw.value(FOODS[:-4])
        case "job":
            return draw.value(JOBS)
        case "hobby":
            return draw.value(HOBBIES)
        case "number":
            return str(draw.number(1, draw.any((99, 999, 9999, 99999))))
        case "secret word":
            return word(draw)
        case "pet":
            return draw.value(PETS) if draw.chance(0.7) else made_up(draw, 3, 7).capitalize()
    return draw.value(PLACES)


__all__ = ["ANIMALS", "CITIES", "Notebook", "echo"]
