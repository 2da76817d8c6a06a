"""A few hundred facts, asked forwards and backwards. The facts are shared by both splits; the wordings are not."""

from collections.abc import Callable

from builder.demo.training.draw import Draw
from builder.demo.training.fact_tables import (
    ANIMAL_FACTS,
    CAPITALS,
    COLOUR_MIXES,
    COLOUR_OF,
    CONTINENTS,
    DAYS,
    ELEMENTS,
    LANGUAGES,
    MONTHS,
    OPPOSITES,
    PLANETS,
    PLURALS,
    SHAPES,
    UNITS,
)
from builder.demo.training.turns import Check, Turn, fact
from builder.demo.training.wording import wordings
from builder.demo.training.words import a, listed, made_up


def forward(draw: Draw) -> Turn:
    """A fact asked the usual way round: from the thing to its property."""
    kinds: tuple[Callable[[Draw], Turn], ...] = (
        _capital,
        _capital,
        _capital,
        _continent,
        _language,
        _colour_of,
        _mix,
        _animal,
        _animal,
        _element,
        _element,
        _unit,
        _calendar,
        _planet,
        _opposite,
        _plural,
        _sides,
    )
    return draw.any(kinds)(draw)


def backward(draw: Draw) -> Turn:
    """The same facts from the other end: from the property to the thing."""
    kinds: tuple[Callable[[Draw], Turn], ...] = (
        _country_of,
        _country_of,
        _baby,
        _sound,
        _element_of,
        _element_of,
        _element_at,
        _month_number,
        _before,
        _shape_with,
        _singular,
    )
    return draw.any(kinds)(draw)


def unknown(draw: Draw) -> Turn:
    """A country, element or animal that does not exist: the model says that it does not know it."""
    thing = made_up(draw, 4, 9)
    if draw.chance(0.5):
        place = thing.capitalize()
        pool = wordings(
            """What is the capital of {x}? | Capital of {x} | Which city is the capital of {x}? |
            Tell me the capital of {x}. | Do you know the capital of {x}? | Which continent is {x} in? |
            What is the capital city of {x}? | What is the capital called in {x}?"""
        )
        return Turn(draw.phrase(pool, x=place), f"I do not know {place}.", Check(contains=("do not know", place)))
    pool = wordings(
        """What is {x}? | What does {x} mean? | What colour is {x}? | What sound does {x} make? | Explain {x} |
        Tell me about {x}. | What is the symbol for {x}? | Do you know what {x} is? | Have you heard of {x}? |
        Explain {x}. | Explain what {x} is. | Please explain {x}. | Can you explain {x}? | Describe {x}. |
        Who is {x}? | What is {x}, please? | What are {x}? | Tell me what {x} is. | What do you know about {x}? |
        Is {x} an animal? | Where can I buy {x}? | How does {x} work? | What is the meaning of {x}? |
        What does the word {x} mean? | I need {x}. What is it?"""
    )
    return Turn(draw.phrase(pool, x=thing), f"I do not know the word {thing}.", Check(contains=("do not know", thing)))


def _capital(draw: Draw) -> Turn:
    country, city = draw.any(CAPITALS)
    pool = wordings(
        """What is the capital of {x}? | capital of {x} | Capital of {x}? | Which city is the capital of {x}? |
        Tell me the capital of {x}. | What city is {x}'s capital? | Do you know the capital of {x}? |
        What is the capital city of {x}? | Name the capital of {x}. | {x}'s capital? | What is {x}'s capital? |
        What is the name of the capital of {x}? | Can you tell me the capital of {x}? |
        I want to know the capital of {x}. | The capital of {x} is? | What is the seat of government of {x}? |
        {x} has which capital? | Which capital does {x} have?"""
    )
    return fact(draw.phrase(pool, x=country), f"The capital of {country} is {city}.", city)


def _country_of(draw: Draw) -> Turn:
    country, city = draw.any(CAPITALS)
    pool = wordings(
        """{x} is the capital of which country? | Which country has {x} as its capital? |
        What country is {x} the capital of? | {x} is the capital of what? | Of which country is {x} the capital? |
        Which country's capital is {x}? | {x} is capital of which land? | Tell me which country has the capital {x}. |
        What country has {x} for a capital? | In which country is {x} the capital? |
        Name the country whose capital is {x}. | If the capital is {x}, which country is it?"""
    )
    return fact(draw.phrase(pool, x=city), f"{city} is the capital of {country}.", country)


def _continent(draw: Draw) -> Turn:
    country, continent = draw.any(CONTINENTS)
    pool = wordings(
        """Which continent is {x} in? | What continent is {x} on? | Where is {x}? | On which continent is {x}? |
        Where is {x} located? | In what part of the world is {x}? | What is the continent of {x}? |
        {x} is on which continent? | Tell me the continent of {x}. | Is {x} in Europe, Asia or elsewhere? |
        Which continent does {x} belong to? | Where in the world is {x}?"""
    )
    return fact(draw.phrase(pool, x=country), f"{country} is in {continent}.", continent)


def _language(draw: Draw) -> Turn:
    country, language = draw.any(LANGUAGES)
    pool = wordings(
        """What language is spoken in {x}? | Which language do people speak in {x}? | What do they speak in {x}? |
        Language of {x}? | What is the main language of {x}? | Which language is used in {x}? |
        What is the language of {x}? | Tell me the language of {x}. | In {x}, which language is spoken? |
        What language do people in {x} speak? | People in {x} speak what? | Which tongue is spoken in {x}?"""
    )
    return fact(draw.phrase(pool, x=country), f"People in {country} mostly speak {language}.", language)


def _colour_of(draw: Draw) -> Turn:
    thing, colour = draw.any(COLOUR_OF)
    verb = "are" if thing.endswith("s") and thing not in ("grass", "moss") else "is"
    pool = wordings(
        """What colour {v} {x}? | What color {v} {x}? | Which colour {v} {x}? | The colour of {x}? |
        What is the colour of {x}? | Tell me the colour of {x}. | Colour of {x} | What is the color of {x}? |
        {x}: which colour? | Which color {v} {x}? | Do you know the colour of {x}? | Name the colour of {x}."""
    )
    text = draw.phrase(pool, x=thing, v=verb)
    return fact(text, f"{thing.capitalize()} {verb} usually {colour}.", colour)


def _mix(draw: Draw) -> Turn:
    one, two, result = draw.any(COLOUR_MIXES)
    if draw.chance(0.5):
        one, two = two, one
    pool = wordings(
        """What do you get if you mix {a} and {b}? | Mix {a} and {b} | What colour do {a} and {b} make? |
        What is {a} mixed with {b}? | Which colour is {a} plus {b}? | {a} and {b} make which colour? |
        If I mix {a} with {b}, what colour is it? | What color do {a} and {b} make? | Combine {a} and {b} |
        I mix {a} paint with {b} paint. What do I get? | What happens if I mix {a} with {b}? |
        Blend {a} and {b}, what comes out?"""
    )
    return fact(draw.phrase(pool, a=one, b=two), f"{one.capitalize()} and {two} make {result}.", result)


def _animal(draw: Draw) -> Turn:
    animal, sound, baby, legs, home = draw.any(ANIMAL_FACTS)
    kind = draw.rng.randrange(4)
    if kind == 0 and sound:
        pool = wordings(
            """What sound does {x} make? | What does {x} say? | Which sound does {x} make? | How does {x} sound? |
            What noise does {x} make? | Tell me the sound of {x}. | What is the sound of {x}? | How does {x} go? |
            {x} says what? | What do you hear from {x}? | What noise comes from {x}? | Make the sound of {x}."""
        )
        return fact(draw.phrase(pool, x=a(animal)), f"{a(animal).capitalize()} says {sound}.", sound)
    if kind == 1 and baby:
        pool = wordings(
            """What is a baby {x} called? | What do you call a baby {x}? | What is a young {x} called? |
            Name for a baby {x}? | What is the young of {an}? | How do you call a young {x}? | Baby {x} name? |
            What is the word for a baby {x}? | Tell me the name for a baby {x}. | A baby {x} is called? |
            A young {x} is a what? | What name has the child of {an}?"""
        )
        return fact(draw.phrase(pool, x=animal, an=a(animal)), f"A baby {animal} is called {a(baby)}.", baby)
    if kind == 2:
        pool = wordings(
            """How many legs does {x} have? | How many legs has {x}? | Number of legs of {x}? |
            How many legs are on {x}? | Count the legs of {x}. | Tell me how many legs {x} has. |
            {x} has how many legs? | Do you know how many legs {x} has? | On how many legs does {x} walk? |
            How many feet does {x} have? | What number of legs does {x} have? | Legs of {x}?"""
        )
        return fact(draw.phrase(pool, x=a(animal)), f"{a(animal).capitalize()} has {legs} legs.", f"{legs} legs")
    pool = wordings(
        """Where does {x} live? | Where do you find {x}? | What is the home of {x}? | Where would I find {x}? |
        Where is {x} at home? | In which place does {x} live? | Tell me where {x} lives. | What does {x} call home? |
        Where can you see {x}? | Which place is home to {x}? | What is the habitat of {x}? |
        Where does {x} have its home?"""
    )
    return fact(draw.phrase(pool, x=a(animal)), f"{a(animal).capitalize()} lives {home}.", home)


def _baby(draw: Draw) -> Turn:
    _, _, baby, _, _ = draw.any([row for row in ANIMAL_FACTS if row[2]])
    same = tuple(row[0] for row in ANIMAL_FACTS if row[2] == baby)
    pool = wordings(
        """Which animal has a baby called {x}? | {x} is the baby of which animal? | What animal is {x} the young of? |
        What grows out of {x}? | What does {x} grow up to be? | {x} grows into what? | Which animal starts as {x}? |
        What will {x} become? | Of which animal is {x} the baby? | What animal does {x} become? |
        When {x} is grown up, what is it? | {x} is a young what?"""
    )
    choice = listed([*same], " or ")
    return fact(draw.phrase(pool, x=a(baby)), f"{a(baby).capitalize()} is a baby {choice}.", same[0], *same[1:])


def _sound(draw: Draw) -> Turn:
    _, sound, _, _, _ = draw.any([row for row in ANIMAL_FACTS if row[1]])
    same = tuple(row[0] for row in ANIMAL_FACTS if row[1] == sound)
    pool = wordings(
        """Which animal says {x}? | What animal says {x}? | Who says {x}? | Which animal makes the sound {x}? |
        What says {x}? | What animal goes {x}? | I hear {x}. Which animal is it? | Name an animal that says {x}. |
        Which animal goes {x}? | {x} is the sound of which animal? | Something says {x}, what is it? |
        {x}! Which animal was that?"""
    )
    choice = listed([a(s) for s in same], " or ")
    return fact(draw.phrase(pool, x=sound), f"It is {choice} that says {sound}.", same[0], *same[1:])


def _element(draw: Draw) -> Turn:
    number, symbol, element = draw.any(ELEMENTS)
    if draw.chance(0.6):
        pool = wordings(
            """What is the symbol for {x}? | Chemical symbol of {x}? | What is the chemical symbol of {x}? |
            Symbol for {x} | Which symbol does {x} have? | What is {x}'s symbol? | Tell me the symbol of {x}. |
            How is {x} written in chemistry? | What is the symbol of the element {x}? | Which letters stand for {x}? |
            The element {x} has which symbol? | What is the sign for {x} in the periodic table?"""
        )
        return fact(draw.phrase(pool, x=element), f"The symbol for {element} is {symbol}.", symbol)
    pool = wordings(
        """What is the atomic number of {x}? | Atomic number of {x}? | Which atomic number does {x} have? |
        How many protons does {x} have? | What number is {x} in the periodic table? |
        Tell me the atomic number of {x}. | What is {x}'s atomic number? |
        Which number has {x} in the periodic table? | The element {x} has which number? | Number of protons in {x}? |
        What is the number of the element {x}? | At which place in the periodic table is {x}?"""
    )
    return fact(draw.phrase(pool, x=element), f"The atomic number of {element} is {number}.", str(number))


def _element_of(draw: Draw) -> Turn:
    _, symbol, element = draw.any(ELEMENTS)
    pool = wordings(
        """Which element has the symbol {x}? | What element is {x}? | What does {x} stand for in chemistry? |
        Which element is {x}? | The symbol {x} is which element? | What is the element with the symbol {x}? |
        {x} is the symbol of which element? | Name the element with symbol {x}. | In chemistry, what is {x}? |
        In the periodic table, what is {x}? | Tell me which element {x} is. | Which element is written {x}?"""
    )
    return fact(draw.phrase(pool, x=symbol), f"{symbol} is the symbol for {element}.", element)


def _element_at(draw: Draw) -> Turn:
    number, _, element = draw.any(ELEMENTS)
    pool = wordings(
        """Which element has the atomic number {x}? | What element is number {x}? | Which element has {x} protons? |
        What is element {x}? | Element number {x}? | Name the element with atomic number {x}. |
        What is element number {x}? | What element has atomic number {x}? |
        Which element is number {x} in the periodic table? | {x} is the atomic number of which element? |
        Which element stands at place {x}? | Tell me the element with number {x}."""
    )
    return fact(draw.phrase(pool, x=number), f"Element number {number} is {element}.", element)


def _unit(draw: Draw) -> Turn:
    count, small, big = draw.any(UNITS)
    pool = wordings(
        """How many {s} are in {b}? | How many {s} in {b}? | How many {s} does {b} have? | {b} has how many {s}? |
        How many {s} make {b}? | How many {s} are there in {b}? | How many {s} is {b}? |
        Tell me how many {s} are in {b}. | Number of {s} in {b}? | What is {b} in {s}? | Convert {b} to {s}. |
        How many {s} fit into {b}?"""
    )
    return fact(draw.phrase(pool, s=small, b=big), f"There are {count} {small} in {big}.", str(count))


def _calendar(draw: Draw) -> Turn:
    kind = draw.rng.randrange(4)
    if kind == 0:
        month, length = draw.any(MONTHS)
        pool = wordings(
            """How many days does {x} have? | How many days are in {x}? | How long is {x}? | How many days has {x}? |
            Number of days in {x}? | How many days are there in {x}? | {x} has how many days? |
            Tell me how many days {x} has. | How many days in {x}? | Days in {x}? |
            What is the length of {x} in days? | With how many days comes {x}?"""
        )
        text = f"{month} has {length} days" + (", or 29 in a leap year." if length == 28 else ".")
        return fact(draw.phrase(pool, x=month), text, str(length))
    names = DAYS if kind == 1 else tuple(month for month, _ in MONTHS)
    index = draw.rng.randrange(len(names))
    if kind == 3:
        pool = wordings(
            """Which month number is {x}? | What number is {x}? | Which number does {x} have? |
            What number month is {x}? | Number of the month {x}? | {x} is which month of the year? |
            Tell me the number of the month {x}. | Which place in the year has {x}?"""
        )
        return fact(draw.phrase(pool, x=names[index]), f"{names[index]} is month number {index + 1}.", str(index + 1))
    what = "day" if kind == 1 else "month"
    pool = wordings(
        """Which {w} comes after {x}? | What comes after {x}? | What {w} follows {x}? | What is the {w} after {x}? |
        After {x} comes which {w}? | Which {w} follows {x}? | What is after {x}? | Tell me the {w} after {x}. |
        What's next after {x}? | Name the {w} after {x}. | {x} is followed by which {w}? | The {w} following {x} is?"""
    )
    answer = names[(index + 1) % len(names)]
    return fact(draw.phrase(pool, w=what, x=names[index]), f"{answer} comes after {names[index]}.", answer)


def _before(draw: Draw) -> Turn:
    days = draw.chance(0.5)
    names = DAYS if days else tuple(month for month, _ in MONTHS)
    index = draw.rng.randrange(len(names))
    pool = wordings(
        """Which {w} comes before {x}? | What comes before {x}? | What {w} is before {x}? |
        What is the {w} before {x}? | Before {x} comes which {w}? | Which {w} is just before {x}? |
        What is before {x}? | Tell me the {w} before {x}. | Which {w} precedes {x}? | Name the {w} before {x}. |
        {x} comes after which {w}? | The {w} preceding {x} is?"""
    )
    answer = names[index - 1]
    return fact(
        draw.phrase(pool, w="day" if days else "month", x=names[index]),
        f"{answer} comes before {names[index]}.",
        answer,
    )


def _month_number(draw: Draw) -> Turn:
    index = draw.rng.randrange(12)
    pool = wordings(
        """Which month is number {n}? | What is month {n}? | What is the name of month {n}? | Month number {n}? |
        Which month has the number {n}? | Name month number {n}. | What is month number {n} called? |
        Tell me the name of month {n}."""
    )
    return fact(draw.phrase(pool, n=index + 1), f"Month number {index + 1} is {MONTHS[index][0]}.", MONTHS[index][0])


def _planet(draw: Draw) -> Turn:
    index = draw.rng.randrange(len(PLANETS))
    ordinal = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")[index]
    if draw.chance(0.5):
        pool = wordings(
            """Which planet is {n} from the sun? | What is the {n} planet? | {n} planet from the sun? |
            Name the {n} planet. | Which is the {n} planet? | What is the {n} planet from the sun? |
            Tell me the {n} planet. | Counting from the sun, which planet is {n}?"""
        )
        return fact(
            draw.phrase(pool, n=ordinal), f"The {ordinal} planet from the sun is {PLANETS[index]}.", PLANETS[index]
        )
    pool = wordings(
        """Which planet from the sun is {x}? | What place does {x} have from the sun? |
        {x} is which planet from the sun? | Where is {x} in the row of planets? | What number planet is {x}? |
        Counting from the sun, where is {x}? | Which position has {x} from the sun?"""
    )
    return fact(draw.phrase(pool, x=PLANETS[index]), f"{PLANETS[index]} is the {ordinal} planet from the sun.", ordinal)


def _opposite(draw: Draw) -> Turn:
    pair = draw.any(OPPOSITES)
    one, two = pair if draw.chance(0.5) else pair[::-1]
    pool = wordings(
        """What is the opposite of {x}? | Opposite of {x}? | Tell me the opposite of {x}. | The opposite of {x} is? |
        What is the contrary of {x}? | Give me the opposite of {x}. | Do you know the opposite of {x}? |
        Which word is the opposite of {x}? | What word means the opposite of {x}? | Name the opposite of {x}. |
        If it is not {x}, what is it? | Which word is contrary to {x}?"""
    )
    return fact(draw.phrase(pool, x=one), f"The opposite of {one} is {two}.", two)


def _plural(draw: Draw) -> Turn:
    one, many = draw.any(PLURALS)
    pool = wordings(
        """What is the plural of {x}? | Plural of {x}? | What is the plural form of {x}? | Tell me the plural of {x}. |
        One {x}, two what? | How do you say more than one {x}? | The plural of {x} is? | Give me the plural of {x}. |
        Make {x} plural. | Do you know the plural of {x}? | Which form has {x} in the plural? |
        What are several of {x} called?"""
    )
    return fact(draw.phrase(pool, x=one), f"The plural of {one} is {many}.", many)


def _singular(draw: Draw) -> Turn:
    one, many = draw.any(PLURALS)
    pool = wordings(
        """What is the singular of {x}? | Singular of {x}? | What is one of {x} called? | Tell me the singular of {x}. |
        The singular of {x} is? | {x} is the plural of what? | Which word has the plural {x}? |
        What is the singular form of {x}?"""
    )
    return fact(draw.phrase(pool, x=many), f"The singular of {many} is {one}.", one)


def _sides(draw: Draw) -> Turn:
    shape, sides = draw.any(SHAPES)
    pool = wordings(
        """How many sides does {x} have? | How many sides has {x}? | Number of sides of {x}? |
        How many sides are on {x}? | Count the sides of {x}. | {x} has how many sides? |
        How many corners does {x} have? | Tell me how many sides {x} has."""
    )
    return fact(draw.phrase(pool, x=a(shape)), f"{a(shape).capitalize()} has {sides} sides.", str(sides))


def _shape_with(draw: Draw) -> Turn:
    shape, sides = draw.any([row for row in SHAPES if row[0] not in ("square", "rectangle")])
    pool = wordings(
        """Which shape has {n} sides? | What shape has {n} sides? | What do you call a shape with {n} sides? |
        Name a shape with {n} sides. | A shape with {n} sides is called? | What is a shape with {n} corners? |
        What figure has {n} sides? | Which figure has {n} sides?"""
    )
    return fact(draw.phrase(pool, n=sides), f"A shape with {sides} sides is {a(shape)}.", shape)
