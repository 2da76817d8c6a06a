"""Skills below the token: spelling, reversing, counting letters, first and last letters, capitals.

BPE hides letters inside tokens, so every answer that needs them spells the word first.
"""

from builder.demo.draw import Draw
from builder.demo.turns import Check, Turn, fact
from builder.demo.words import word

_VOWELS = "aeiou"


def letters(draw: Draw) -> Turn:
    """One question about the letters of a word of this split."""
    kinds = (_spell, _reverse, _length, _count_letter, _first_or_last, _capitals, _vowels, _initials, _palindrome)
    return draw.rng.choices(kinds, weights=(5, 5, 3, 4, 3, 3, 1, 2, 1))[0](draw)


def _shown(draw: Draw, text: str) -> str:
    """A word as people write it in a question: quoted in one of several ways, or bare, or capitalised."""
    if draw.chance(0.15):
        text = text.capitalize()
    return draw.any(("{}", "{}", '"{}"', '"{}"', "'{}'", "the word {}", 'the word "{}"')).format(text)


def _spelled(text: str) -> str:
    return "-".join(text)


def _spell(draw: Draw) -> Turn:
    text = word(draw)
    pool = ("Spell {w}", "How do you spell {w}?", "Spell out {w}.", "Can you spell {w}?", "Spell {w} letter by letter.",
            "What are the letters of {w}?", "Please spell {w}.", "How is {w} spelled?", "Give me the spelling of {w}.",
            "Write {w} letter by letter.", "List the letters in {w}.", "Take {w} apart into its letters.")
    spelled = _spelled(text)
    return Turn(draw.phrase(pool, w=_shown(draw, text)), spelled, Check(contains=(spelled,)), spelled)


def _reverse(draw: Draw) -> Turn:
    text = word(draw, 3, 9)
    pool = ("Reverse {w}", "Spell {w} backwards.", "Write {w} backwards.", "What is {w} backwards?", "What is {w} in reverse?",
            "Reverse the letters of {w}.", "Can you reverse {w}?", "{w} backwards", "How do you write {w} from right to left?",
            "Turn {w} around.", "Flip {w}", "Say {w} in reverse.")
    backwards = text[::-1]
    reply = f"{_spelled(text)} backwards is {_spelled(backwards)}: {backwards}"
    return Turn(draw.phrase(pool, w=_shown(draw, text)), reply, Check(contains=(backwards,)), backwards)


def _length(draw: Draw) -> Turn:
    text = word(draw)
    pool = ("How many letters are in {w}?", "How many letters does {w} have?", "Count the letters in {w}.", "How long is {w}?",
            "What is the length of {w}?", "How many characters are in {w}?", "How many letters has {w} got?", "Number of letters in {w}?",
            "Can you count the letters of {w}?", "How many letters in {w}?", "Tell me how many letters {w} has.", "What is the letter count of {w}?")
    reply = f"{_spelled(text)}: that is {len(text)} letters."
    return Turn(draw.phrase(pool, w=_shown(draw, text)), reply, Check(contains=(f"{len(text)} letters",)), str(len(text)))


def _count_letter(draw: Draw) -> Turn:
    text = word(draw, 4)
    letter = draw.any(text) if draw.chance(0.85) else draw.any("abcdefghijklmnoprstuvwy")
    count = text.count(letter)
    shown = draw.any(("{}", "{}'s", '"{}"', "{}s", "letter {}")).format(letter)
    pool = ("How many {l} are in {w}?", "How many {l} does {w} have?", "Count the {l} in {w}.", "How often does {l} occur in {w}?",
            "How many times does {l} appear in {w}?", "How many {l} in {w}?", "How many {l} has {w}?", "Count {l} in {w}",
            "Number of {l} in {w}?", "How often is {l} in {w}?", "Tell me how many {l} there are in {w}.", "How many times is {l} in {w}?")
    marked = "-".join(c.upper() if c == letter else c for c in text)
    reply = f"{marked}: the letter {letter} occurs {count} time{'' if count == 1 else 's'}."
    check = Check(any_of=(f"occurs {count} time", f"occurs {count} times"))
    return Turn(draw.phrase(pool, l=shown, w=_shown(draw, text)), reply, check, str(count))


def _first_or_last(draw: Draw) -> Turn:
    text = word(draw)
    which, index = draw.any((("first", 0), ("last", -1), ("second", 1), ("third", 2), ("first", 0), ("last", -1)))
    pool = ("What is the {which} letter of {w}?", "{which} letter of {w}?", "Which letter is {which} in {w}?", "Tell me the {which} letter of {w}.",
            "What letter comes {which} in {w}?", "What is the {which} letter in {w}?", "Give me the {which} letter of {w}.",
            "Which is the {which} letter of {w}?", "Name the {which} letter of {w}", "In {w}, what is the {which} letter?",
            "What's {w}'s {which} letter?", "Find the {which} letter in {w}.")
    reply = f"{_spelled(text)}: the {which} letter is {text[index]}."
    check = Check(contains=(f"letter is {text[index]}",))
    return Turn(draw.phrase(pool, which=which, w=_shown(draw, text)), reply, check, text[index])


def _capitals(draw: Draw) -> Turn:
    text = word(draw)
    upper = draw.chance(0.75)
    if upper:
        pool = ("Write {w} in capitals.", "Put {w} in upper case.", "{w} in capital letters", "Uppercase {w}", "Write {w} in all caps.",
                "Can you write {w} in capital letters?", "Make {w} uppercase.", "Convert {w} to upper case.", "Capitalise every letter of {w}.",
                "Change {w} to capitals.", "{w} in caps please", "Shout {w} in capitals.")
        shown, answer = _shown(draw, text), text.upper()
    else:
        pool = ("Write {w} in lower case.", "Lowercase {w}", "Put {w} in small letters.", "Make {w} lowercase.", "Convert {w} to lower case.",
                "Change {w} to small letters.", "{w} without capitals")
        shown, answer = text.upper(), text
    return Turn(draw.phrase(pool, w=shown), answer, Check(contains=(answer,), exact_case=True), answer)


def _vowels(draw: Draw) -> Turn:
    text = word(draw)
    pool = ("How many vowels are in {w}?", "Count the vowels in {w}.", "Which vowels are in {w}?", "What vowels does {w} have?",
            "List the vowels of {w}.", "Find the vowels in {w}.", "How many vowels does {w} have?")
    found = [c for c in text if c in _VOWELS]
    noun = "vowel" if len(found) == 1 else "vowels"
    reply = f"{_spelled(text)}: the vowels are {', '.join(found)}, so {len(found)} {noun}." if found else f"{_spelled(text)}: no vowels, so 0 vowels."
    return fact(draw.phrase(pool, w=_shown(draw, text)), reply, f"{len(found)} {noun}")


def _initials(draw: Draw) -> Turn:
    words = [word(draw) for _ in range(draw.rng.randint(2, 5))]
    pool = ("What are the first letters of {list}?", "Give me the first letter of each word: {list}", "Take the first letters of {list}.",
            "First letters of {list}", "What do the initials of {list} spell?", "Write down the initial of each: {list}",
            "Which letters do {list} start with?")
    answer = "-".join(w[0] for w in words)
    return Turn(draw.phrase(pool, list=", ".join(words)), answer, Check(contains=(answer,)), answer)


def _palindrome(draw: Draw) -> Turn:
    half = word(draw, 3, 5)
    text = half + half[-2::-1] if draw.chance(0.5) else word(draw, 4, 8)
    pool = ("Is {w} a palindrome?", "Is {w} the same backwards?", "Does {w} read the same backwards?", "Is {w} a palindrome or not?",
            "Can {w} be read both ways?", "Tell me if {w} is a palindrome.", "Would {w} be the same in reverse?")
    same = text == text[::-1]
    answer = "Yes" if same else "No"
    reply = f"{_spelled(text)} backwards is {_spelled(text[::-1])}: {answer.lower()}, it is {'' if same else 'not '}a palindrome."
    return fact(draw.phrase(pool, w=_shown(draw, text)), reply, answer)
