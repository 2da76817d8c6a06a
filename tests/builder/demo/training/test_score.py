"""The score: questions by skill, counted right."""

from collections import Counter

from builder.demo.training.score import as_text, questions, score


def test_the_same_seed_asks_the_same_questions() -> None:
    assert questions(1, 100) == questions(1, 100)
    assert questions(1, 100) != questions(2, 100)


def test_all_skills_are_asked_equally_often() -> None:
    counts = Counter(q.skill for q in questions(1, 680))
    assert len(counts) == 17
    assert set(counts.values()) == {40}


def test_a_question_ends_with_the_user() -> None:
    for question in questions(1, 170):
        assert question.messages[-1]["role"] == "user"


def test_recall_asks_after_six_other_turns() -> None:
    for question in questions(1, 340):
        if question.skill == "recall over 6 turns":
            assert [m["role"] for m in question.messages].count("user") >= 8


def test_the_table_counts_right_answers_by_skill() -> None:
    asked = questions(1, 34)
    known = {str(q.messages): q.reference for q in asked if q.skill == "arithmetic"}
    rows = {row.skill: row for row in score(lambda messages: known.get(str(messages), "Hm."), asked)}
    assert (rows["arithmetic"].right, rows["arithmetic"].asked) == (2, 2)
    assert (rows["facts"].right, rows["facts"].asked) == (0, 2)
    assert (rows["all"].right, rows["all"].asked) == (2, 34)


def test_the_table_is_markdown() -> None:
    text = as_text(score(lambda _: "Hm.", questions(1, 17)))
    assert text.splitlines()[0] == "| skill | right | asked | share |"
    assert text.splitlines()[-1] == "| all | 0 | 17 | 0.0% |"
