"""What is put into a message so that it is drawn as it is written, and taken out again."""

import random

import pytest

from serving.page.marks import MARK, said, shown

PIECES = [
    "<", ">", "</", "<!--", "<?", "<b", "div", "$", "\\", "\\(", "\\)", "$$", "`", "```", "~~~", "\n", " ", "5", "x",
    "^2", "a_1", "é", "=",
]  # fmt: skip


def test_whatever_is_said_comes_back_as_it_was() -> None:
    rng = random.Random(5)
    for _ in range(20_000):
        text = "".join(rng.choices(PIECES, k=rng.randrange(12)))
        assert said(shown(text)) == text
        assert said(shown(said(shown(text)))) == text


def test_no_tag_is_left() -> None:
    rng = random.Random(6)
    for _ in range(20_000):
        drawn = shown("".join(rng.choices(PIECES, k=rng.randrange(12))))
        assert not any(f"<{c}" in drawn for c in "abdivx!?/")


@pytest.mark.parametrize(
    "text",
    ["a < b and 3 <4", "$5 and $10", "it costs $5, or 10$ more", "US$5=5$", "$HOME=$PATH", "`$x=1$`", r"\$x=1\$"],
)
def test_what_is_no_tag_and_no_formula_stays(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize("formula", ["x", "x^2", "f(x)", r"\frac{a}{b}", "a = b", "y_1"])
def test_a_formula_is_one(formula: str) -> None:
    assert shown(f"So ${formula}$ it is") == f"So {MARK}\\({formula}\\){MARK} it is"


def test_nor_is_anything_in_code() -> None:
    for code in ("```\n$x=1$\n```", "~~~\n$x=1$\n~~~", "```\n$x=1$"):
        assert shown(f"Look:\n{code}") == f"Look:\n{code}"
