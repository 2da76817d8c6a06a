"""Short Python snippets whose names and numbers come from the question."""

import keyword

from builder.demo.training.draw import Draw
from builder.demo.training.turns import Check, Turn
from builder.demo.training.wording import wordings
from builder.demo.training.words import FOODS, novel, word

_ASK = wordings(
    """{task} in Python. | Write Python code that {does}. | Show me how to {task_lower} in Python. |
    Python: {task_lower} | Can you write Python code to {task_lower}? | How do I {task_lower} in Python? |
    Give me a Python snippet that {does}. | I need Python code to {task_lower}. | python code to {task_lower} |
    Please {task_lower} with Python. | Write a short Python program that {does}. |
    What is the Python code to {task_lower}? | How can I {task_lower} in Python? | Write code to {task_lower}. |
    Code that {does}, please. | In Python, how do you {task_lower}? | Some Python that {does}? |
    A little Python script that {does}. | Write a Python program that {does}. | Write a Python script that {does}. |
    Write Python code to {task_lower}. | Show me Python code that {does}. | Show me Python code to {task_lower}. |
    Show me a Python program that {does}. | Give me Python code that {does}. | Give me Python code to {task_lower}. |
    Give me a short Python script that {does}. | I need a Python program that {does}. |
    I need Python code that {does}. | Can you {task_lower} in Python? | Can you write a Python program that {does}? |
    Can you write a short Python script that {does}? | Can you show me Python code that {does}? |
    How can I write Python code that {does}? | How do I write a program that {does}? |
    How would you {task_lower} in Python? | Python program that {does} | Python code that {does} |
    Python script to {task_lower} | A Python snippet that {does}, please. | In Python, {task_lower}. |
    With Python, {task_lower}. | Using Python, {task_lower}. | What Python code {does}? | Program: {task_lower} |
    Code: {task_lower}"""
)


def snippets(draw: Draw) -> Turn:
    """One small programming task with its code."""
    task, does, code = draw.any((_print, _loop, _function, _list, _condition, _convert, _countdown))(draw)
    text = draw.phrase(_ASK, task=task, task_lower=task[:1].lower() + task[1:], does=does)
    return Turn(text, f"```python\n{code}\n```", Check(any_of=(code,), form="python"))


def _print(draw: Draw) -> tuple[str, str, str]:
    text = (
        draw.any(("hello world", "hello"))
        if draw.chance(0.2)
        else " ".join(word(draw, 2, 8) for _ in range(draw.rng.randint(1, 3)))
    )
    return f'Print "{text}"', f'prints "{text}"', f'print("{text}")'


def _loop(draw: Draw) -> tuple[str, str, str]:
    n = draw.number(2, 200)
    kind = draw.rng.randrange(4)
    if kind == 0:
        return (
            f"Print the numbers from 1 to {n}",
            f"prints the numbers from 1 to {n}",
            f"for i in range(1, {n + 1}):\n    print(i)",
        )
    if kind == 1:
        text = word(draw)
        return f'Print "{text}" {n} times', f'prints "{text}" {n} times', f'for i in range({n}):\n    print("{text}")'
    if kind == 2:
        return (
            f"Print the even numbers up to {n}",
            f"prints the even numbers up to {n}",
            f"for i in range(2, {n + 1}, 2):\n    print(i)",
        )
    return (
        f"Add the numbers from 1 to {n}",
        f"adds the numbers from 1 to {n}",
        f"total = sum(range(1, {n + 1}))\nprint(total)",
    )


_FUNCTIONS = (
    ("adds two numbers", "a, b", "a + b"), ("multiplies two numbers", "a, b", "a * b"), ("subtracts two numbers",
    "a, b", "a - b"), ("doubles a number", "x", "2 * x"), ("squares a number", "x", "x * x"),
    ("returns the larger of two numbers", "a, b", "max(a, b)"), ("returns the smaller of two numbers", "a, b",
    "min(a, b)"), ("reverses a string", "text", "text[::-1]"), ("counts the letters of a word", "text", "len(text)"),
    ("checks if a number is even", "n", "n % 2 == 0"), ("checks if a number is odd", "n", "n % 2 == 1"),
    ("turns a text into capitals", "text", "text.upper()"), ("returns the first letter of a word", "text", "text[0]"),
    ("sorts a list", "items", "sorted(items)"), ("returns the sum of a list", "items", "sum(items)"),
    ("returns the last item of a list", "items", "items[-1]"), ("returns the length of a list", "items",
    "len(items)"),
    ("checks if a word is a palindrome", "text", "text == text[::-1]"), ("returns the average of a list", "items",
    "sum(items) / len(items)"), ("counts a letter in a word", "text, letter", "text.count(letter)"),
)  # fmt: skip


def _function(draw: Draw) -> tuple[str, str, str]:
    does, arguments, result = draw.any(_FUNCTIONS)
    name = word(draw, 3, 8)
    while keyword.iskeyword(name):
        name = word(draw, 3, 8)
    code = f"def {name}({arguments}):\n    return {result}"
    return f"Define a function {name} that {does}", f"defines a function {name} that {does}", code


def _list(draw: Draw) -> tuple[str, str, str]:
    items = [novel(draw, FOODS) for _ in range(draw.rng.randint(2, 4))]
    listing = ", ".join(items)
    code = "items = [" + ", ".join(f'"{item}"' for item in items) + "]"
    return f"Make a list of {listing}", f"makes a list of {listing}", code


def _condition(draw: Draw) -> tuple[str, str, str]:
    n, text = draw.number(1, 200), word(draw)
    code = f'if x > {n}:\n    print("{text}")'
    return f'Print "{text}" if x is greater than {n}', f'prints "{text}" if x is greater than {n}', code


def _convert(draw: Draw) -> tuple[str, str, str]:
    text = word(draw)
    task, does, call = draw.any(
        (
            ("Reverse the word", "reverses the word", "[::-1]"),
            ("Put in capitals the word", "puts in capitals the word", ".upper()"),
        )
    )
    return f'{task} "{text}"', f'{does} "{text}"', f'print("{text}"{call})'


def _countdown(draw: Draw) -> tuple[str, str, str]:
    n = draw.number(2, 200)
    return f"Count down from {n}", f"counts down from {n}", f"for i in range({n}, 0, -1):\n    print(i)"
