"""Sums within stated limits: addition and subtraction up to 999, multiplication up to 99 x 9 and 12 x 12."""

from dataclasses import replace

from builder.demo.training.draw import Draw, value_split
from builder.demo.training.turns import Check, Turn, fact
from builder.demo.training.wording import spaced, wordings
from builder.demo.training.words import FOODS, OBJECTS, name

_PLAIN = wordings(
    """What is {sum}? | {sum} | {sum}? | {sum} = | Calculate {sum}. | How much is {sum}? | What does {sum} equal? |
    Compute {sum} | Can you work out {sum}? | {sum} is? | Tell me {sum}. | Solve {sum} | What do you get for {sum}? |
    Do you know what {sum} is? | Give me the result of {sum}. | I need {sum}. | Please calculate {sum} for me. |
    What is the answer to {sum}? | Work out {sum}. | {sum} equals what? | Evaluate {sum} | what's {sum} then? |
    Could you do {sum}? | I want to know {sum}. | Find {sum} | How much would {sum} be? | And {sum}? |
    What about {sum}? | Can you do {sum}? | Could you calculate {sum}? | Can you calculate {sum}? |
    Can you compute {sum}? | Can you solve {sum}? | Please compute {sum}. | Please solve {sum}. |
    Please work out {sum}. | I need to know {sum}. | I need the result of {sum}. | What is the result of {sum}? |
    What is the result if I do {sum}? | What do I get for {sum}? | What do you get if you do {sum}? |
    What comes out of {sum}? | What is {sum} equal to? | What is {sum} in total? | What does {sum} make? |
    What does {sum} come to? | How much does {sum} make? | How much does {sum} come to? | {sum} makes? |
    {sum} is how much? | {sum} is what? | Tell me how much {sum} is. | Tell me what {sum} is. |
    Do you know how much {sum} is? | Do you know the answer to {sum}? | Give me the answer to {sum}. |
    Give me {sum}. | Find the answer to {sum}. | Find the result of {sum}. | The answer to {sum}? |
    The result of {sum}? | result of {sum} | answer to {sum} | Do {sum}. | Do {sum} for me. | Do the sum {sum}. |
    Solve this: {sum} | Calculate this: {sum} | Work this out: {sum} | Help me calculate {sum}. |
    Help me to solve {sum}. | And how much is {sum}? | And what is {sum}? | So what is {sum}? | Help me with {sum}. |
    What will {sum} come to?"""
)
_SIGNS = {
    "+": (" + ", "+", " plus "),
    "-": (" - ", "-", " minus "),
    "/": (" / ", "/", " divided by "),
    "x": (" x ", "*", " times ", " * ", " multiplied by ", "x"),
}
_ADD = wordings(
    """What is the sum of {a} and {b}? | Add {a} and {b}. | Add {b} to {a}. | What do {a} and {b} add up to? |
    {a} and {b} together? | What is the total of {a} and {b}? | Sum {a} and {b} | Can you add {a} and {b}? |
    If I add {b} to {a}, what do I get? | Put {a} and {b} together, what is the total? | What is {b} more than {a}?"""
)
_SUBTRACT = wordings(
    """Subtract {b} from {a}. | Take {b} away from {a}. | What is the difference between {a} and {b}? |
    What is {a} take away {b}? | What is left if I take {b} from {a}? | What is {b} less than {a}? |
    Can you subtract {b} from {a}? | How much more is {a} than {b}? | What remains of {a} without {b}?"""
)
_MULTIPLY = wordings(
    """Multiply {a} by {b}. | What is the product of {a} and {b}? | Multiply {a} and {b} | How much is {a} times {b}? |
    Can you multiply {a} by {b}? | What do {a} times {b} make? | Give me the product of {a} and {b}."""
)
_DIVIDE = wordings(
    """Divide {a} into {b} parts. | If I divide {a} by {b}, what do I get? |
    If you divide {a} by {b}, what do you get? | How often does {b} go into {a}? |
    How often does {b} fit into {a}? | How many times does {b} fit into {a}? | {a} over {b}? |
    What is {a} over {b}? | What is {a} shared by {b}? | Share {a} by {b}. |
    What do you get if you divide {a} by {b}? | I divide {a} by {b}. What do I get? |
    I share {a} by {b}. How much is that? | How much is {a} shared by {b}? | Divide {a} by {b}, please. |
    How much do I get if I divide {a} by {b}? | What is left of {a} for each of {b}? |
    How often can I take {b} out of {a}?"""
)  # fmt: skip
_BUY = wordings(
    """I have {a} {things} and buy {b} more. How many do I have? |
    {who} has {a} {things} and gets {b} more. How many {things} does {who} have now? |
    There are {a} {things} in a box and I add {b}. How many {things} are in the box? |
    If I own {a} {things} and find {b} more, how many {things} do I own? |
    I have {a} {things} and I get {b} more. How many {things} do I have now? |
    I had {a} {things}, then I bought {b} more. How many do I have now? |
    {who} has {a} {things} and buys {b} more. How many {things} does {who} have? |
    {who} has {a} {things} and I have {b} {things}. How many do we have? |
    There are {a} {things} in a bag and {b} in a box. How many are there? |
    There are {a} {things} in a box and I put in {b} more. How many are in the box? |
    I find {a} {things} and then {b} more. How many {things} do I have? |
    {a} {things} and {b} {things}, how many is that? |
    I have {a} {things} and {who} gives me {b} more. How many do I have? |
    {who} gets {a} {things} and then {b} more {things}. How many is that? |
    If there are {a} {things} and I add {b} more, how many are there? |
    {who} picked {a} {things} and then {b} more. How many is that? |
    {who} owns {a} {things}. A friend brings {b} more. How many now? |
    With {a} {things} on the table and {b} more in the bag, how many {things} are there?"""
)
_LOSE = wordings(
    """I have {a} {things} and lose {b}. How many are left? |
    {who} has {a} {things} and gives away {b}. How many {things} does {who} have left? |
    There are {a} {things} and I eat {b}. How many remain? |
    If I start with {a} {things} and use {b}, how many are left? |
    {who} had {a} {things} but sold {b}. How many are left? |
    I had {a} {things} and lost {b}. How many do I have left? |
    I have {a} {things} and give away {b}. How many do I have now? |
    I had {a} {things} but lost {b}. How many are left? |
    {who} had {a} {things} and sold {b} of them. How many {things} are left? |
    There are {a} {things} and {b} are gone. How many are left? |
    There were {a} {things} but I ate {b}. How many remain? |
    {who} has {a} {things} and loses {b} of them. How many does {who} have left? |
    I take {b} of {a} {things}. How many are left? | Of {a} {things} I sold {b}. How many {things} remain? |
    {a} {things}, and {b} are gone. How many remain? |
    {who} has {a} {things} and gives me {b}. How many does {who} have now? |
    Out of {a} {things}, {b} are gone. How many {things} stay?"""
)


def arithmetic(draw: Draw) -> Turn:
    """One sum, asked in figures, in words or as a little story."""
    kinds = (_addition, _subtraction, _multiplication, _division, _story, _double_or_half)
    return draw.rng.choices(kinds, weights=(6, 6, 4, 2, 2, 1))[0](draw)


def _size(draw: Draw) -> int:
    return draw.rng.choice((10, 100, 100, 1000, 1000))


def _pair(draw: Draw, sign: str) -> tuple[int, int]:
    """Two numbers whose pair belongs to this split; single digits are few, so they belong to both."""
    while True:
        a, b = draw.rng.randrange(_size(draw)), draw.rng.randrange(_size(draw))
        if sign == "-" and a < b and draw.chance(0.85):
            a, b = b, a
        if (a < 10 and b < 10) or value_split(sign, min(a, b), max(a, b)) == draw.split:
            return a, b


def _ask(draw: Draw, a: int, b: int, sign: str, own: tuple[str, ...]) -> str:
    if draw.chance(0.25):
        return draw.phrase(own, a=a, b=b)
    return draw.phrase(_PLAIN, sum=f"{a}{draw.any(_SIGNS[sign])}{b}")


_ONES = spaced(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = spaced("twenty thirty forty fifty sixty seventy eighty ninety")


def in_words(number: int) -> str:
    """A number from 0 to 99 in words."""
    if number < 20:
        return _ONES[number]
    ones = number % 10
    return _TENS[number // 10 - 2] + (f"-{_ONES[ones]}" if ones else "")


def _addition(draw: Draw) -> Turn:
    a, b = _pair(draw, "+")
    if a < 100 and b < 100 and draw.chance(0.12):
        asked = draw.phrase(_PLAIN, sum=f"{in_words(a)} plus {in_words(b)}")
        return fact(asked, f"{a} + {b} = {a + b}", str(a + b))
    return fact(_ask(draw, a, b, "+", _ADD), f"{a} + {b} = {a + b}", str(a + b))


def _subtraction(draw: Draw) -> Turn:
    a, b = _pair(draw, "-")
    own = _SUBTRACT if a >= b else _SUBTRACT[:2] + _SUBTRACT[3:4] + _SUBTRACT[5:7]
    return fact(_ask(draw, a, b, "-", own), f"{a} - {b} = {a - b}", str(a - b))


def _multiplication(draw: Draw) -> Turn:
    if draw.chance(0.5):
        a, b = draw.rng.randint(0, 12), draw.rng.randint(0, 12)
        return fact(_ask(draw, a, b, "x", _MULTIPLY), f"{a} x {b} = {a * b}", str(a * b))
    while True:
        a, b = draw.rng.randint(11, 99), draw.rng.randint(2, 9)
        if value_split("x", a, b) == draw.split:
            break
    tens, ones = a // 10 * 10, a % 10
    worked = f"{tens} x {b} = {tens * b} and {ones} x {b} = {ones * b}, so {a} x {b} = {a * b}"
    asked = _ask(draw, *((a, b) if draw.chance(0.7) else (b, a)), "x", _MULTIPLY)
    # No bare answer: without the worked steps it would have to be guessed.
    return replace(fact(asked, worked if ones else f"{a} x {b} = {a * b}", str(a * b)), short="")


def _division(draw: Draw) -> Turn:
    b, result = draw.rng.randint(1, 12), draw.rng.randint(0, 12)
    return fact(_ask(draw, b * result, b, "/", _DIVIDE), f"{b * result} / {b} = {result}", str(result))


def _story(draw: Draw) -> Turn:
    a, b = _pair(draw, "+")
    a, b = a % 100, b % 100
    things = draw.value(draw.any((FOODS[5:48], tuple(f"{thing}s" for thing in OBJECTS[:20]))))
    if draw.chance(0.5):
        text, total, sign = draw.phrase(_BUY, a=a, b=b, things=things, who=name(draw)), a + b, "+"
    else:
        a, b = max(a, b), min(a, b)
        text, total, sign = draw.phrase(_LOSE, a=a, b=b, things=things, who=name(draw)), a - b, "-"
    return fact(text, f"{a} {sign} {b} = {total}, so it is {total} {things}.", str(total))


def _double_or_half(draw: Draw) -> Turn:
    n = draw.number(1, 200)
    if draw.chance(0.5):
        pool = wordings(
            """What is double {n}? | Double {n} | What is twice {n}? | Double the number {n}. | Can you double {n}? |
            Twice {n} is? | What is {n} doubled?"""
        )
        return fact(draw.phrase(pool, n=n), f"Twice {n} is {2 * n}.", str(2 * n))
    pool = wordings(
        """What is half of {n}? | Half of {n} | Halve {n}. | What is {n} halved? | Can you halve {n}? |
        Half of {n} is? | How much is one half of {n}?"""
    )
    return fact(draw.phrase(pool, n=2 * n), f"Half of {2 * n} is {n}.", str(n))


TOO_HARD = wordings(
    """What is {big} x {big2}? | Calculate {big} times {big2}. | What is the square root of {big}? | {big} * {big2} |
    How much is {big} divided by {big2}? | What is {big} to the power of {small}? | Integrate x^{small}. |
    What is the {small}th digit of pi? | Solve x^2 + {small}x = {big}. | What is the sine of {small}? |
    What is {big} + {big2}? | {big} + {big2} | What is {big} minus {big2}? | How much is {big} plus {big2}? |
    Calculate {big} - {big2}. | What is {big2} x {big}? | {big} times {big2} | {big} divided by {big2} |
    What is the root of {big}? | What is the square of {big}? | Calculate the square root of {big2}. |
    Compute {big} x {big2} | How much is {big2} times {big}? | Is {big} a prime number? |
    What is the factorial of {small}? | What is {big2} percent of {big}? | How much is {small} percent of {big}? |
    What is the cosine of {small}? | Calculate {big} / {big2}. | What is {big} * {big2}? |
    {big2} to the power of {small} | What is the cube root of {big}?"""
)


def too_hard(draw: Draw) -> Turn:
    """A sum beyond the limits, which the model says it cannot do reliably."""
    slots = {"big": draw.number(1200, 99999), "big2": draw.number(120, 9999), "small": draw.number(2, 99)}
    reply = draw.reply(
        (
            "That sum is beyond me. I can add and subtract numbers up to 999 and do small multiplications.",
            "I can't do that one reliably: I add and subtract up to 999 and do small multiplications.",
        )
    )
    return Turn(draw.phrase(TOO_HARD, **slots), reply, Check(any_of=("beyond me", "can't do that")))
