"""What is said of how long quantizing takes, and of what would take less."""

import pytest

from builder.checkpoint.model import Shape
from builder.progress import Step
from builder.stages.effort import Estimate, Pace, weights

LLAMA_2_7B = Shape(
    vocabulary=32_000, hidden=4096, intermediate=11_008, layers=32, heads=32, kv_heads=32, head_size=128, rotated=128,
    tied=False, attention=16_384,
)  # fmt: skip
SLOW, FAST = Pace(1e-11, 2e-9), Pace(1e-12, 1e-10)
TOKENS = 128 * 512


def estimate(algorithm: str = "awq", tokens: int = TOKENS) -> Estimate:
    knobs = {"quant_algo": algorithm, "num_calib_data": 128}
    return Estimate(LLAMA_2_7B, knobs, tokens, 4096)


def test_the_weights_of_a_layer_are_those_of_its_linears() -> None:
    assert weights(LLAMA_2_7B) == (4 * 4096 * 4096 + 3 * 4096 * 11_008, 4096 * 4096 + 4096 * 11_008)


def test_time_grows_with_the_calibration_but_where_nothing_is_looked_at() -> None:
    few, many = (estimate(tokens=tokens).layer_seconds(SLOW) for tokens in (TOKENS // 4, TOKENS))
    assert few < many < 4 * few
    assert estimate(tokens=TOKENS).layer_seconds(SLOW, fewer=4) == few
    assert estimate("none", 0).layer_seconds(SLOW) == estimate("none").layer_seconds(SLOW) < few


def test_time_follows_the_machine() -> None:
    assert estimate().layer_seconds(FAST) < estimate().layer_seconds(SLOW) / 9


def test_what_takes_hours_is_said_with_what_would_take_less() -> None:
    steps: list[Step] = []
    estimate().tell(steps.append, 2, SLOW)
    left = steps[0].left
    assert left == pytest.approx(30 * estimate().layer_seconds(SLOW)) and left > 3600
    assert (steps[0].done, steps[0].total, steps[0].note, steps[0].lasting) == (2, 32, "layer 3 of 32", False)
    said = steps[1].note
    assert steps[1].lasting and said.startswith("quantizing takes about ") and " h " in said
    assert "--num-calib-data 32 (" in said and "--quant-algo none (" in said and "GPU" in said


def test_what_takes_minutes_needs_no_advice() -> None:
    steps: list[Step] = []
    estimate().tell(steps.append, 0, FAST)
    assert [step.lasting for step in steps] == [False]


def test_what_takes_longer_is_not_advised() -> None:
    slow_to_round = Pace(1e-12, 1e-7)
    said = estimate(tokens=64).advice(slow_to_round, 1e6)
    assert "gptq" not in said and "--quant-algo none" in said


@pytest.mark.parametrize("tokens", [1, 511, 512, 513, 4096, 16_384, 1 << 20])
def test_the_search_never_looks_at_more_than_its_sample(tokens: int) -> None:
    products = Pace(1.0, 0.0)
    searched = estimate(tokens=tokens).layer_seconds(products) - estimate("none").layer_seconds(products)
    every, _ = weights(LLAMA_2_7B)
    assert every * tokens < searched <= every * (tokens + 21 * 512 + 6 * 3584 + 3 * 12_288)
