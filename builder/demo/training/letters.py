"""Skills below the token: spelling, reversing, counting letters, first and last letters, capitals.

BPE hides letters inside tokens, so every answer that needs them spells the word first.
"""

from builder.demo.training.draw import Draw
from builder.demo.training.turns import Check, Turn, fact
from builder.demo.training.wording import wordings
from builder.demo.training.words import word

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
    pool = wordings(
        """Spell {w} | How do you spell {w}? | Spell out {w}. | Can you spell {w}? | Spell {w} letter by letter. |
        What are the letters of {w}? | Please spell {w}. | How is {w} spelled? | Give me the spelling of {w}. |
        Write {w} letter by letter. | List the letters in {w}. | Take {w} apart into its letters. |
        What is the spelling of {w}? | Can you spell out {w}? | How is {w} spelled letter by letter? |
        How do I spell {w}? | How would you spell {w}? | Tell me how to spell {w}. | Tell me how {w} is spelled. |
        Give me the letters of {w}. | Give me the letters in {w}. | What letters are in {w}? |
        Which letters are in {w}? | List the letters of {w}. | Say the letters of {w}. | Spell it: {w} |
        Spell the following: {w} | Tell me the spelling of {w}. | Tell me the letters of {w}. |
        Write out the letters of {w}. | Spelling of {w}?"""
    )
    spelled = _spelled(text)
    return Turn(draw.phrase(pool, w=_shown(draw, text)), spelled, Check(contains=(spelled,)), spelled)


def _reverse(draw: Draw) -> Turn:
    text = word(draw, 3, 9)
    pool = wordings(
        """Reverse {w} | Spell {w} backwards. | Write {w} backwards. | What is {w} backwards? |
        What is {w} in reverse? | Reverse the letters of {w}. | Can you reverse {w}? | {w} backwards |
        How do you write {w} from right to left? | Turn {w} around. | Flip {w} | Say {w} in reverse. |
        Spell {w} in reverse. | Write {w} in reverse. | Put {w} in reverse. |
        Put the letters of {w} in reverse order. | Write the letters of {w} in reverse order. |
        Reverse the word: {w} | Reverse this: {w} | Reverse this word: {w} | Turn the letters of {w} around. |
        Turn {w} backwards. | Say {w} backwards. | Can you say {w} backwards? | Can you write {w} backwards? |
        Can you spell {w} backwards? | How do you write {w} backwards? | How do you spell {w} backwards? |
        How do you say {w} backwards? | What is the reverse of {w}? | What does {w} look like backwards? |
        Tell me what {w} is backwards. | Give me {w} backwards. | Give me {w} in reverse. |
        Flip the letters of {w}. | Flip {w} around. | {w} reversed | {w} in reverse"""
    )
    backwards = text[::-1]
    reply = f"{_spelled(text)} backwards is {_spelled(backwards)}: {backwards}"
    return Turn(draw.phrase(pool, w=_shown(draw, text)), reply, Check(contains=(backwards,)), backwards)


def _length(draw: Draw) -> Turn:
    text = word(draw)
    pool = wordings(
        """How many letters are in {w}? | How many letters does {w} have? | Count the letters in {w}. |
        How long is {w}? | What is the length of {w}? | How many characters are in {w}? |
        How many letters has {w} got? | Number of letters in {w}? | Can you count the letters of {w}? |
        How many letters in {w}? | Tell me how many letters {w} has. | What is the letter count of {w}? |
        Tell me the number of letters in {w}. | What is the number of letters in {w}? |
        Count how many letters {w} has. | How many letters are there in {w}? | Tell me how many letters are in {w}. |
        How many characters does {w} have? | How many characters has {w}? | Count the characters in {w}. |
        What is the number of characters in {w}? | Tell me the length of {w}. | Give me the length of {w}. |
        Length of {w}? | How long is {w} in letters? | How many letters does {w} have in all? |
        Can you tell me how many letters {w} has?"""
    )
    reply = f"{_spelled(text)}: that is {len(text)} letters."
    return Turn(
        draw.phrase(pool, w=_shown(draw, text)), reply, Check(contains=(f"{len(text)} letters",)), str(len(text))
    )


def _count_letter(draw: Draw) -> Turn:
    text = word(draw, 4)
    letter = draw.any(text) if draw.chance(0.85) else draw.any("abcdefghijklmnoprstuvwy")
    count = text.count(letter)
    shown = draw.any(("{}", "{}'s", '"{}"', "{}s", "letter {}")).format(letter)
    pool = wordings(
        """How many {l} are in {w}? | How many {l} does {w} have? | Count the {l} in {w}. |
        How often does {l} occur in {w}? | How many times does {l} appear in {w}? | How many {l} in {w}? |
        How many {l} has {w}? | Count {l} in {w} | Number of {l} in {w}? | How often is {l} in {w}? |
        Tell me how many {l} there are in {w}. | How many times is {l} in {w}? | Count how many {l} are in {w}. |
        Count how often {l} is in {w}. | Tell me how many {l} are in {w}. | Tell me how often {l} is in {w}. |
        How many {l} are there in {w}? | How many times does {w} have {l}? | How often does {l} appear in {w}? |
        How many times does {l} occur in {w}? | Count every {l} in {w}. | How often do you see {l} in {w}? |
        How many {l} do you see in {w}? | In {w}, how many {l} are there? | In {w}, how often is {l}? |
        What is the number of {l} in {w}? | Can you count the {l} in {w}? | {w}: how many {l}?"""
    )
    marked = "-".join(c.upper() if c == letter else c for c in text)
    reply = f"{marked}: the letter {letter} occurs {count} time{'' if count == 1 else 's'}."
    check = Check(any_of=(f"occurs {count} time", f"occurs {count} times"))
    return Turn(draw.phrase(pool, l=shown, w=_shown(draw, text)), reply, check, str(count))


def _first_or_last(draw: Draw) -> Turn:
    text = word(draw)
    which, index = draw.any((("first", 0), ("last", -1), ("second", 1), ("third", 2), ("first", 0), ("last", -1)))
    pool = wordings(
        """What is the {which} letter of {w}? | {which} letter of {w}? | Which letter is {which} in {w}? |
        Tell me the {which} letter of {w}. | What letter comes {which} in {w}? | What is the {which} letter in {w}? |
        Give me the {which} letter of {w}. | Which is the {which} letter of {w}? | Name the {which} letter of {w} |
        In {w}, what is the {which} letter? | What's {w}'s {which} letter? | Find the {which} letter in {w}. |
        What is the {which} letter in the spelling of {w}? | Find the {which} letter of {w}. |
        Name the {which} letter in {w}. | Give me the {which} letter in {w}. | Tell me the {which} letter in {w}. |
        Which letter comes {which} in {w}? | Which letter is the {which} of {w}? |
        Which letter is the {which} one in {w}? | What letter is {which} in {w}? |
        What letter is the {which} of {w}? | In {w}, which letter is {which}? | In {w}, which letter comes {which}? |
        {w}: what is the {which} letter? | {w}: which letter is {which}? | What would be the {which} letter of {w}?"""
    )
    reply = f"{_spelled(text)}: the {which} letter is {text[index]}."
    check = Check(contains=(f"letter is {text[index]}",))
    return Turn(draw.phrase(pool, which=which, w=_shown(draw, text)), reply, check, text[index])


def _capitals(draw: Draw) -> Turn:
    text = word(draw)
    upper = draw.chance(0.75)
    if upper:
        pool = wordings(
            """Write {w} in capitals. | Put {w} in upper case. | {w} in capital letters | Uppercase {w} |
            Write {w} in all caps. | Can you write {w} in capital letters? | Make {w} uppercase. |
            Convert {w} to upper case. | Capitalise every letter of {w}. | Change {w} to capitals. |
            {w} in caps please | Shout {w} in capitals. | Write {w} in capital letters. | Write {w} in upper case. |
            Write {w} in uppercase. | Write {w} in caps. | Put {w} in capitals. | Put {w} in capital letters. |
            Put {w} in all caps. | Turn {w} into capitals. | Turn {w} into upper case. |
            Turn {w} into capital letters. | Convert {w} to capitals. | Convert {w} to capital letters. |
            Convert {w} to uppercase. | Change {w} to upper case. | Change {w} to capital letters. |
            Make {w} upper case. | Make every letter of {w} a capital. | Capitalise {w} |
            Capitalise all letters of {w}. | {w} in upper case | {w} in all caps | {w} in capitals |
            How does {w} look in capitals? | How do you write {w} in capitals? | Give me {w} in capitals. |
            Give me {w} in capital letters. | Say {w} in capitals. | Can you put {w} in upper case? |
            Can you write {w} in all caps?"""
        )
        shown, answer = _shown(draw, text), text.upper()
    else:
        pool = wordings(
            """Write {w} in lower case. | Lowercase {w} | Put {w} in small letters. | Make {w} lowercase. |
            Convert {w} to lower case. | Change {w} to small letters. | {w} without capitals |
            Write {w} in small letters. | Write {w} in lowercase. | Write {w} without capitals. |
            Put {w} in lower case. | Turn {w} into lower case. | Turn {w} into small letters. |
            Convert {w} to small letters. | Convert {w} to lowercase. | Change {w} to lower case. |
            Make {w} lower case. | {w} in lower case | {w} in small letters | Give me {w} in lower case. |
            Can you write {w} in lower case? | Make every letter of {w} small."""
        )
        shown, answer = text.upper(), text
    return Turn(draw.phrase(pool, w=shown), answer, Check(contains=(answer,), exact_case=True), answer)


def _vowels(draw: Draw) -> Turn:
    text = word(draw)
    pool = wordings(
        """How many vowels are in {w}? | Count the vowels in {w}. | Which vowels are in {w}? |
        What vowels does {w} have? | List the vowels of {w}. | Find the vowels in {w}. |
        How many vowels does {w} have? | How many vowels has {w}? | How many vowels are there in {w}? |
        Count all vowels in {w}. | Count the vowels of {w}. | What are the vowels in {w}? |
        What are the vowels of {w}? | What vowels are in {w}? | Which vowels does {w} have? |
        Which are the vowels of {w}? | List the vowels in {w}. | Find all vowels in {w}. |
        Tell me the vowels in {w}. | Tell me how many vowels {w} has. | Name the vowels of {w}."""
    )
    found = [c for c in text if c in _VOWELS]
    noun = "vowel" if len(found) == 1 else "vowels"
    reply = (
        f"{_spelled(text)}: the vowels are {', '.join(found)}, so {len(found)} {noun}."
        if found
        else f"{_spelled(text)}: no vowels, so 0 vowels."
    )
    return fact(draw.phrase(pool, w=_shown(draw, text)), reply, f"{len(found)} {noun}")


def _initials(draw: Draw) -> Turn:
    words = [word(draw) for _ in range(draw.rng.randint(2, 5))]
    pool = wordings(
        """What are the first letters of {list}? | Give me the first letter of each word: {list} |
        Take the first letters of {list}. | First letters of {list} | What do the initials of {list} spell? |
        Write down the initial of each: {list} | Which letters do {list} start with? |
        What letters do {list} start with? | Which letter does each word start with: {list}? |
        Give me the first letters of {list}. | Tell me the first letters of {list}. |
        List the first letters of {list}. | Take the first letter of each word: {list} |
        Write the first letter of each: {list} | Write the first letters of {list}. |
        What is the first letter of each word: {list}? | What are the initials of {list}? |
        Give me the initials of {list}. | Initials of {list} | Write down the initials of {list}. |
        The first letters of these words: {list} | First letter of each: {list}"""
    )
    answer = "-".join(w[0] for w in words)
    return Turn(draw.phrase(pool, list=", ".join(words)), answer, Check(contains=(answer,)), answer)


def _palindrome(draw: Draw) -> Turn:
    half = word(draw, 3, 5)
    text = half + half[-2::-1] if draw.chance(0.5) else word(draw, 4, 8)
    pool = wordings(
        """Is {w} a palindrome? | Is {w} the same backwards? | Does {w} read the same backwards? |
        Is {w} a palindrome or not? | Can {w} be read both ways? | Tell me if {w} is a palindrome. |
        Would {w} be the same in reverse? | Is {w} the same in reverse? | Is {w} the same both ways? |
        Is {w} a palindrome, yes or no? | Does {w} read the same both ways? | Does {w} read the same in reverse? |
        Is it a palindrome: {w}? | Would {w} be a palindrome? | Would {w} read the same backwards? |
        Tell me if {w} is the same backwards. | Tell me if {w} reads the same both ways. |
        Can {w} be read backwards? | Check if {w} is a palindrome. | Check if {w} is the same backwards. |
        {w}: palindrome or not? | {w}: is it a palindrome?"""
    )
    same = text == text[::-1]
    answer = "Yes" if same else "No"
    verdict = "yes, it is a palindrome." if same else "no, it is not a palindrome."
    reply = f"{_spelled(text)} backwards is {_spelled(text[::-1])}: {verdict}"
    return fact(draw.phrase(pool, w=_shown(draw, text)), reply, answer)
