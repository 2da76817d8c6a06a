"""Numbers and lists: counting, sorting, reversing, picking, comparing, continuing."""

from builder.demo.training.draw import Draw
from builder.demo.training.turns import Check, Turn, fact
from builder.demo.training.wording import wordings
from builder.demo.training.words import ANIMALS, COLOURS, FOODS, NAMES, OBJECTS, listed, novel

ORDINALS = ("first", "second", "third", "fourth", "fifth")
_SPELLED = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def lists(draw: Draw) -> Turn:
    """One question about a list or an order."""
    kinds = (_sort_numbers, _sort_words, _reverse_list, _pick, _extreme, _how_many, _count_to, _compare, _next, _parity)
    return draw.rng.choices(kinds, weights=(4, 4, 3, 3, 3, 2, 2, 2, 2, 1))[0](draw)


def _numbers(draw: Draw, low: int = 3, high: int = 6) -> list[int]:
    top = draw.any((20, 100, 100, 999))
    numbers: list[int] = []
    count = draw.rng.randint(low, high)
    while len(numbers) < count:
        number = draw.rng.randint(0, top)
        if number not in numbers:
            numbers.append(number)
    return numbers


def _things(draw: Draw, low: int = 3, high: int = 5) -> list[str]:
    pool = draw.any((ANIMALS, COLOURS, FOODS, OBJECTS, NAMES))
    count = draw.rng.randint(low, high)
    strange = 0.5 if draw.chance(0.4) else 0.02
    things: list[str] = []
    while len(things) < count:
        things = list(dict.fromkeys([*things, novel(draw, pool, strange)]))
    return things


def _join(draw: Draw, items: list[str]) -> str:
    return listed(items) if draw.chance(0.3) else (", " if draw.chance(0.75) else " ").join(items)


def _sort_numbers(draw: Draw) -> Turn:
    numbers = _numbers(draw)
    asked = _join(draw, [str(n) for n in numbers])
    down = draw.chance(0.35)
    up_pool = wordings(
        """Sort {list} | Sort these numbers: {list} | Put {list} in order. |
        Order these from smallest to largest: {list} | Arrange {list} in ascending order. | Sort the list {list} |
        Can you sort {list}? | Please sort {list} from low to high. | Put these numbers in ascending order: {list} |
        Order {list} | Line up {list} from small to big. | Which order do {list} go in? | Sort the numbers {list}. |
        Sort {list} in ascending order. | Please sort {list}. | Arrange these numbers: {list} |
        Arrange {list} from small to large. | Order the numbers {list}. | Put {list} in ascending order. |
        Put the numbers {list} in order. | Order these numbers: {list} | Sort from low to high: {list} |
        Sort {list} from small to big. | Put these in order: {list} | Sort these: {list} |
        Sort {list}, smallest first. | Put the smallest first: {list} | {list} sorted | Sort the list: {list}"""
    )
    down_pool = wordings(
        """Sort {list} from largest to smallest. | Sort these numbers in descending order: {list} |
        Put {list} in descending order. | Order these from biggest to smallest: {list} |
        Sort {list} from high to low. | Arrange {list} in descending order. | Sort {list} downwards. |
        Can you sort {list}, biggest first? | List these from high to low: {list} |
        Sort {list} in reverse order, largest first. | Put the biggest first: {list} |
        Order {list} from largest to smallest. | Sort the numbers {list} from high to low. |
        Put {list} in order from high to low. | Sort these numbers from largest to smallest: {list} |
        Order the numbers {list} from biggest to smallest. | Sort {list} descending. | Sort descending: {list} |
        Arrange {list} from largest to smallest. | Arrange these from high to low: {list} |
        Sort {list}, largest first. | Put {list} in descending order, please. | Sort {list} from big to small. |
        Order these numbers in descending order: {list}"""
    )
    answer = ", ".join(map(str, sorted(numbers, reverse=down)))
    reply = draw.reply(("From largest to smallest: {s}" if down else "In order: {s}",), s=answer)
    return Turn(draw.phrase(down_pool if down else up_pool, list=asked), reply, Check(contains=(answer,)), answer)


def _sort_words(draw: Draw) -> Turn:
    things = _things(draw)
    pool = wordings(
        """Sort these words alphabetically: {list} | Sort {list} alphabetically. | Put {list} in alphabetical order. |
        Alphabetical order please: {list} | Order {list} from a to z. | Arrange these words by the alphabet: {list} |
        Can you sort {list} alphabetically? | Sort the words {list} | Sort {list} by letter | Alphabetize {list} |
        Sort from a to z: {list} | How would {list} stand in a dictionary? | Sort the list {list} alphabetically. |
        Sort alphabetically: {list} | Put these words in alphabetical order: {list} |
        Order these words alphabetically: {list} | Order {list} alphabetically. | Arrange {list} alphabetically. |
        Arrange {list} in alphabetical order. | Sort the words {list} from a to z. | Sort {list} from a to z. |
        Sort {list} by the alphabet. | Put {list} in order, alphabetically. |
        Can you put {list} in alphabetical order? | Alphabetize these words: {list} | Alphabetize the list {list}. |
        Put the words {list} in order from a to z. | Order the words {list}."""
    )
    answer = ", ".join(sorted(things, key=str.lower))
    return Turn(
        draw.phrase(pool, list=_join(draw, things)),
        f"In alphabetical order: {answer}",
        Check(contains=(answer,)),
        answer,
    )


def _reverse_list(draw: Draw) -> Turn:
    items = [str(n) for n in _numbers(draw)] if draw.chance(0.5) else _things(draw)
    pool = wordings(
        """Reverse the list {list} | Reverse the order of {list} | Say {list} in reverse order. |
        List {list} backwards. | Turn this list around: {list} | Put {list} in the opposite order. |
        Reverse this list: {list} | Can you reverse the list {list}? | Give me {list} from last to first. |
        Flip the order of {list}. | From last to first: {list} | Read the list {list} backwards. | Reverse {list} |
        Reverse the order: {list} | Reverse the order of this list: {list} | Say the list {list} backwards. |
        List these backwards: {list} | Say {list} backwards. | Put the list {list} in reverse order. |
        Put {list} in reverse order. | Turn around the list {list}. | Turn the list {list} around. |
        Turn {list} around. | Give me {list} in reverse order. | Give me the list {list} in the opposite order. |
        List {list} in reverse. | Flip the list {list}. | Can you say {list} in reverse order? |
        Read {list} from last to first."""
    )
    answer = ", ".join(reversed(items))
    return Turn(
        draw.phrase(pool, list=_join(draw, items)), f"The other way round: {answer}", Check(contains=(answer,)), answer
    )


def _pick(draw: Draw) -> Turn:
    items = [str(n) for n in _numbers(draw, 3, 5)] if draw.chance(0.3) else _things(draw)
    index = draw.rng.randrange(-1, len(items))
    which = "last" if index < 0 else ORDINALS[index]
    pool = wordings(
        """What is the {which} item in this list: {list}? | Which is the {which} of {list}? |
        What comes {which} in {list}? | Tell me the {which} one of {list}. |
        From the list {list}, give me the {which}. | The {which} of these: {list}? |
        In the list {list}, which one is {which}? | Name the {which} entry of {list}. |
        Pick the {which} item: {list} | Here is a list: {list}. What is the {which} item? |
        {list}: which one is the {which}? | Which item is {which} here: {list}? |
        What is {which} in the list {list}? | Which item is the {which} in {list}? | What is the {which} of {list}? |
        Which one is {which} in {list}? | Tell me the {which} item of {list}. | Give me the {which} item in {list}. |
        Give me the {which} of these: {list} | What is the {which} entry in the list {list}? |
        Name the {which} one in this list: {list} | Here is a list: {list}. Which one is {which}? |
        Here is my list: {list}. Name the {which} item."""
    )
    answer = items[index]
    reply = f"The {which} one is {answer}."
    return fact(draw.phrase(pool, which=which, list=_join(draw, items)), reply, answer)


def _extreme(draw: Draw) -> Turn:
    numbers = _numbers(draw)
    big = draw.chance(0.5)
    which = draw.any(("largest", "biggest", "highest") if big else ("smallest", "lowest"))
    pool = wordings(
        """Which is the {which} of {list}? | What is the {which} number in {list}? | Find the {which} number: {list} |
        {which} of {list}? | Which number is {which}: {list}? | Tell me the {which} of these numbers: {list} |
        Out of {list}, which is {which}? | What's the {which}: {list} |
        Give me the {which} number in the list {list} | Of {list}, which number is the {which}? |
        Look at {list}. Which is {which}? | Pick the {which} number from {list}. | What is {which} in {list}? |
        Find the {which} number in {list}. | Find the {which} of {list}. | Pick the {which} of {list}. |
        Tell me the {which} of {list}. | Tell me which is {which}: {list} | Which is {which}: {list}? |
        Which number is the {which} in {list}? | What is the {which} of these: {list}? |
        Which of {list} is the {which}? | Look at these numbers: {list}. Which is the {which}? |
        Which one is {which}: {list}? | Name the {which} number in {list}."""
    )
    answer = str(max(numbers) if big else min(numbers))
    text = draw.phrase(pool, which=which, list=_join(draw, [str(n) for n in numbers]))
    return fact(text, f"The {which} number is {answer}.", answer)


def _how_many(draw: Draw) -> Turn:
    items = _things(draw, 2, 7)
    pool = wordings(
        """How many items are in this list: {list}? | Count these: {list} | How many things are there: {list}? |
        How many words are in the list {list}? | Count the items: {list} | How many did I name: {list}? |
        How long is the list {list}? | How many entries has {list}? | {list}: how many is that? |
        Can you count {list}? | How many are these: {list}? | Tell me how many items this has: {list} | Count {list} |
        Count the words: {list} | How many words are in {list}? | How many items does this list have: {list}? |
        How many items are there: {list}? | How many items are in {list}? | How many is that: {list}? |
        Tell me how many things there are: {list} | How many things are in this list: {list}? |
        How many words are these: {list}? | Can you count these: {list}? | Can you count the items: {list}? |
        Count how many there are: {list}"""
    )
    asked = listed(items) if draw.chance(0.3) else ", ".join(items)
    return fact(draw.phrase(pool, list=asked), f"There are {len(items)}.", str(len(items)), _SPELLED[len(items)])


def _count_to(draw: Draw) -> Turn:
    kind = draw.rng.randrange(3)
    if kind == 0:
        top = draw.rng.randint(3, 20)
        pool = wordings(
            """Count to {n} | Count from 1 to {n}. | Can you count to {n}? | Please count up to {n}. | Count up to {n} |
            Say the numbers from 1 to {n}. | List the numbers 1 to {n}."""
        )
        return _series(draw.phrase(pool, n=top), list(range(1, top + 1)))
    if kind == 1:
        top = draw.rng.randint(3, 15)
        pool = wordings(
            """Count down from {n} | Count backwards from {n}. | Do a countdown from {n}. | Count down from {n} to 1. |
            Countdown from {n} | Start at {n} and count down. | Can you count backwards from {n}?"""
        )
        return _series(draw.phrase(pool, n=top), list(range(top, 0, -1)))
    step = draw.any((2, 3, 5, 10))
    top = step * draw.rng.randint(3, 10)
    pool = wordings(
        """Count to {n} by {s}s. | Count in {s}s to {n}. | Count by {s} up to {n} | Count to {n} in steps of {s}. |
        Can you count in {s}s up to {n}? | List the multiples of {s} up to {n}. | Go up to {n} in steps of {s}."""
    )
    return _series(draw.phrase(pool, n=top, s=step), list(range(step, top + 1, step)))


def _series(user: str, numbers: list[int]) -> Turn:
    answer = ", ".join(map(str, numbers))
    return Turn(user, answer, Check(contains=(answer,)), answer)


def _compare(draw: Draw) -> Turn:
    a, b = draw.some(range(0, draw.any((20, 100, 1000))), 2)
    big = draw.chance(0.6)
    which = draw.any(("bigger", "larger", "greater") if big else ("smaller", "less"))
    pool = wordings(
        """Which is {which}, {a} or {b}? | What is {which}: {a} or {b}? | Is {a} or {b} {which}? |
        Which number is {which}, {a} or {b}? | {a} or {b}, which is {which}? | Of {a} and {b}, which is {which}? |
        Tell me which is {which}: {a} or {b} | {a} or {b}: which is {which}? | Which is {which}: {a} or {b}? |
        Which one is {which}, {a} or {b}? | Is {a} {which} or {b}? | What is {which}, {a} or {b}? |
        Of {a} and {b}, what is {which}? | Which of {a} and {b} is {which}? | Which number is {which}: {a} or {b}? |
        Tell me which number is {which}, {a} or {b}. | Compare {a} and {b}: which is {which}? |
        Compare {a} and {b}. Which number is {which}? | Between {a} and {b}, which one is {which}? |
        Between {a} and {b}, what is {which}?"""
    )
    answer = max(a, b) if big else min(a, b)
    other = min(a, b) if big else max(a, b)
    reply = f"{answer} is {which} than {other}."
    return Turn(draw.phrase(pool, which=which, a=a, b=b), reply, Check(starts=str(answer)), str(answer))


def _next(draw: Draw) -> Turn:
    start, step = draw.rng.randint(0, 60), draw.any((1, 2, 3, 4, 5, 10, -1, -2))
    if step < 0:
        start += 12
    numbers = [start + step * i for i in range(draw.any((3, 4, 5)))]
    answer = str(numbers[-1] + step)
    pool = wordings(
        """What comes next: {list}? | What number comes next in {list}? | Continue the series {list} |
        Which number follows {list}? | What is the next number: {list}? | Next number after {list}? |
        {list}, and then? | Complete the sequence {list} | Continue: {list} | Guess the next number: {list} |
        What should follow {list}? | How does {list} go on? | Continue the sequence {list} |
        What is the next number in the series {list}? | Which number comes next: {list}? |
        Which number is next: {list}? | What number follows {list}? | What comes after {list}? |
        What comes after these: {list}? | What is next: {list}? | Guess what comes next: {list} |
        Tell me the next number: {list} | Continue these numbers: {list} | Complete the series {list} |
        Complete these numbers: {list} | Which number comes after {list}? | {list}, what is next?"""
    )
    return fact(draw.phrase(pool, list=", ".join(map(str, numbers))), f"The next number is {answer}.", answer)


def _parity(draw: Draw) -> Turn:
    n = draw.number(0, 999)
    pool = wordings(
        """Is {n} even or odd? | Is {n} odd or even? | Is the number {n} even or odd? | Even or odd: {n}? |
        {n}, odd or even? | Tell me if {n} is even or odd. | Would you call {n} even or odd? | {n}: even or odd? |
        Is {n} an even or an odd number? | Is {n} an odd number or an even number? |
        Tell me if the number {n} is odd or even. | Is {n} even? | Is {n} odd? | Is the number {n} odd? |
        Is the number {n} even? | Is {n} an even number? | Is {n} an odd number? | Even or odd: the number {n}? |
        The number {n}: odd or even?"""
    )
    answer = "odd" if n % 2 else "even"
    return Turn(draw.phrase(pool, n=n), f"{n} is {answer}.", Check(contains=(answer,)), answer)
