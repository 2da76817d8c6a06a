"""The checks: right answers pass, wrong ones do not."""

import random

import pytest

from builder.demo.training.score import questions
from builder.demo.training.turns import Check


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (Check(contains=("42",)), "17 + 25 = 42", "17 + 25 = 421"),
        (Check(contains=("-4",)), "5 - 9 = -4", "5 - 9 = 4"),
        (Check(contains=("Paris",)), "It is paris.", "It is Parisville."),
        (Check(contains=("milk", "eggs")), "On your list: milk and eggs.", "On your list: milk."),
        (Check(any_of=("cow", "whale")), "A calf is a baby whale.", "A calf is a baby horse."),
        (Check(contains=("Anna",), excludes=("not told me",)), "Your name is Anna.", "You have not told me, Anna."),
        (Check(contains=("n-r-e-t",)), "backwards: n-r-e-t", "backwards: n-r-e-t-n"),
        (Check(starts="yes"), "Yes, it is.", "No, yes is wrong."),
        (Check(ends="leaf"), "The sum is 4. Leaf.", "Leaf. The sum is 4."),
        (Check(contains=("LAMP",), exact_case=True), "LAMP", "lamp"),
        (Check(contains=("4",), form="capitals"), "IT IS 4.", "It is 4."),
        (Check(form="lower case"), "it is 4.", "It is 4."),
        (Check(contains=("4",), form="one word"), "4", "It is 4"),
        (Check(contains=("4",), form="json"), '{"answer": "4"}', '{"answer": "4"'),
        (Check(contains=("4",), form="json"), '{"answer": "4"}', '{"result": "4"}'),
        (Check(any_of=("print(1)",), form="python"), "```python\nprint( 1 )\n```", "```python\nprint(2)\n```"),
        (Check(any_of=("print(1)",), form="python"), "```python\nprint(1)\n```", "```python\nprint(1\n```"),
        (Check(form="story"), "A. B! C? D.", "A. B. A. B."),
        (Check(form="story"), "A fox ran. It fell. It rose. It slept.", "A fox ran. It fell. It rose. It"),
        (Check(form="poem"), "one,\ntwo,\nthree,\nfour.", "one, two, three, four."),
    ],
)
def test_a_check_tells_right_from_wrong(check: Check, right: str, wrong: str) -> None:
    assert check.accepts(right)
    assert not check.accepts(wrong)
    assert not check.accepts("")


def test_every_question_accepts_its_own_answer() -> None:
    wrong = [q for q in questions(2, 1700) if not q.check.accepts(q.reference)]
    assert wrong == []


def test_answers_to_other_questions_are_mostly_refused() -> None:
    asked = [q for q in questions(3, 1700) if q.skill not in ("stories", "declining", "small talk", "not told")]
    shuffled = [q.reference for q in asked]
    random.Random(0).shuffle(shuffled)
    accepted = sum(q.check.accepts(answer) for q, answer in zip(asked, shuffled, strict=True))
    assert accepted < 0.05 * len(asked)


def test_an_answer_without_its_number_or_name_is_refused() -> None:
    for question in questions(4, 340):
        if question.skill in ("arithmetic", "memory", "facts"):
            assert not question.check.accepts("I do not know that. I am a tiny model and know only simple things.")
