"""The training text: deterministic, well formed, and divided into train and held-out for good."""

import random
import re
from functools import cache
from itertools import islice

import pytest

from builder.demo import EXAMPLES, Conversation, Split
from builder.demo.training.arithmetic import arithmetic
from builder.demo.training.corpus import SKILLS, conversations
from builder.demo.training.draw import Draw, value_split
from builder.demo.training.memory_kinds import NAME
from builder.demo.training.score import questions
from builder.demo.training.wording import divide, wording_key
from builder.demo.training.words import HELD_WORDS, NAMES


def some(split: Split, seed: int, count: int) -> list[Conversation]:
    return list(islice(conversations(split, seed), count))


@cache
def many(split: Split) -> list[Conversation]:
    return some(split, 11, 8000 if split == "train" else 2000)


def words_of(chats: list[Conversation]) -> set[str]:
    return {word for chat in chats for m in chat for word in re.findall(r"[a-z]+", m["content"].lower())}


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_the_same_seed_gives_the_same_conversations(split: Split) -> None:
    assert some(split, 7, 50) == some(split, 7, 50)
    assert some(split, 7, 50) != some(split, 8, 50)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_conversation_alternates_and_ends_with_the_assistant(split: Split) -> None:
    for chat in many(split):
        roles = [m["role"] for m in chat]
        if roles[0] == "system":
            roles = roles[1:]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert roles
        assert all(m["content"].strip() == m["content"] != "" for m in chat)


def test_nothing_is_left_unfilled() -> None:
    for chat in many("train") + many("heldout"):
        for m in chat:
            # Python code and JSON have brackets of their own.
            if "```" not in m["content"] and '{"answer"' not in m["content"] and "items" not in m["content"]:
                assert not re.search(r"\{\w*\}|\[[^\]]*\|", m["content"]), m["content"]


def test_held_out_questions_are_never_asked_in_training() -> None:
    asked = {wording_key(m["content"]) for chat in many("train") for m in chat if m["role"] == "user"}
    held = [q for q in questions(5, 1700) if wording_key(q.messages[-1]["content"]) in asked]
    # Openers and left-out words of one pool may by chance make a wording of another one: a few in a thousand.
    assert len(held) <= 8, [q.messages[-1]["content"] for q in held]


def test_held_out_wordings_are_not_in_the_train_part() -> None:
    for pool in (NAME.state, NAME.ask):
        train, held = divide(pool)
        assert held
        assert pool[0] in train
        assert not {wording_key(w) for w in train} & {wording_key(w) for w in held}
        assert {wording_key(w) for w in (*train, *held)} == {wording_key(w) for w in pool}


def test_held_out_words_and_names_stay_out_of_training() -> None:
    seen = words_of(many("train"))
    assert not seen & set(HELD_WORDS)
    train = {n for _ in range(3000) if (n := Draw("train", _rng(_)).value(NAMES))}
    held = {n for _ in range(500) if (n := Draw("heldout", _rng(_)).value(NAMES))}
    assert len(held) > 20
    assert not train & held


def test_held_out_words_are_asked_about() -> None:
    assert len(words_of(many("heldout")) & set(HELD_WORDS)) > 100


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_sum_belongs_to_one_split(split: Split) -> None:
    draw = Draw(split, random.Random(4))
    replies = [arithmetic(draw).reply for _ in range(1500)]
    pairs = [tuple(map(int, found.groups())) for r in replies if (found := re.fullmatch(r"(\d+) \+ (\d+) = \d+", r))]
    # Single digits are few and belong to both.
    large = [(min(pair), max(pair)) for pair in pairs if max(pair) > 9]
    assert len(large) > 100
    assert {value_split("+", *pair) for pair in large} == {split}


def test_every_skill_makes_both_splits() -> None:
    for skill in SKILLS.values():
        for split in ("train", "heldout"):
            turn = skill(Draw(split, _rng(1)))
            assert turn.user
            assert turn.check.accepts(turn.reply)


def test_there_are_six_examples() -> None:
    assert len(set(EXAMPLES)) == 6


def _rng(seed: int) -> random.Random:
    return random.Random(seed)
