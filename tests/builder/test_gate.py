"""The demo as a yardstick: a sound build answers a fixed sample of held-out questions, a spoiled one does not."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.demo.training.score import Question, questions
from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.text.prompt import Prompt
from serving.types import Message, SamplingOptions, complete
from tests.builder.test_build import change_rotary_base, drop_zero_points, export, swap_nibbles

__all__ = ["export"]  # a fixture

GATE = 0.8


@pytest.fixture(scope="module")
def sample() -> list[Question]:
    """Three questions of each skill."""
    return questions(seed=3, count=51)


def share(folder: Path, asked: list[Question], end_ids: frozenset[int] | None = None) -> float:
    """Share of right greedy answers of an exported folder; one that does not end by itself is wrong.

    Once so many are wrong that GATE is out of reach, the rest counts as right and is not asked.
    """
    prompt = Prompt.load(folder)
    prompt = prompt if end_ids is None else dataclasses.replace(prompt, fixed_end_ids=end_ids)
    options = SamplingOptions(temperature=0.0, max_tokens=100)
    wrong = 0
    with Engine(OgaRuntime(ModelFolder.open(folder), None, usable_cores()), prompt) as engine:
        for question in asked:
            messages = [Message(m["role"], m["content"]) for m in question.messages]  # type: ignore[arg-type]
            answer = complete(engine.generate(messages, options))
            wrong += answer.last.finish_reason != "stop" or not question.check.accepts(answer.text)
            if 1 - wrong / len(asked) < GATE:
                break
    return 1 - wrong / len(asked)


def write_another_familys_template(model: Path) -> int:
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }} [/{{ m.role }}]{% endfor %}"
    return (model / "chat_template.jinja").write_text(template)


def test_the_build_passes(demo_model: Path, sample: list[Question]) -> None:
    assert share(demo_model, sample) >= GATE


@pytest.mark.parametrize("spoil", [swap_nibbles, drop_zero_points, change_rotary_base, write_another_familys_template])
def test_a_spoiled_build_fails(export: Path, sample: list[Question], spoil: Callable[[Path], int]) -> None:
    assert spoil(export) > 0
    assert share(export, sample) < GATE


def test_a_wrong_end_of_turn_fails(exact_model: Path, sample: list[Question]) -> None:
    assert share(exact_model, sample, end_ids=frozenset({0})) < GATE
