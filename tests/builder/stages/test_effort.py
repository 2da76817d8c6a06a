"""What is said of how long quantizing takes, and of what would take less."""

import pytest

from builder.checkpoint.model import Shape
from builder.stages.effort import Pace, advice, layer_seconds, weights

LLAMA_2_7B = Shape(
    vocabulary=32_000, hidden=4096, intermediate=11_008, layers=32, heads=32, kv_heads=32, head_size=128, rotated=128,
    tied=False,
)  # fmt: skip
SLOW, FAST = Pace(1e-11, 2e-9), Pace(1e-12, 1e-9)
AWQ = {"quant_algo": "awq", "num_calib_data": 128, "seq_len": 512}
TOKENS = 128 * 512


def seconds(algorithm: str = "awq", tokens: int = TOKENS, pace: Pace = SLOW) -> float:
    return layer_seconds(LLAMA_2_7B, {**AWQ, "quant_algo": algorithm}, tokens, 4096, pace)


def test_the_weights_of_a_layer_are_those_of_its_linears() -> None:
    assert weights(LLAMA_2_7B)[0] == 4 * 4096 * 4096 + 3 * 4096 * 11_008


def test_time_grows_with_the_calibration_and_less_than_it_does() -> None:
    assert seconds(tokens=TOKENS // 4) < seconds() < 4 * seconds(tokens=TOKENS // 4)
    assert seconds("none", TOKENS) == seconds("none", 0) < seconds("awq", 0)


def test_time_follows_the_machine() -> None:
    assert seconds(pace=FAST) < seconds() / 3


def test_what_takes_hours_is_said_with_what_would_take_less() -> None:
    said = advice(LLAMA_2_7B, AWQ, TOKENS, 4096, SLOW)
    assert said.startswith("quantizing takes about ") and " h " in said
    assert "--num-calib-data 32 (" in said and "--quant-algo none (" in said and "GPU" in said
    assert advice(LLAMA_2_7B, {**AWQ, "quant_algo": "none"}, TOKENS, 4096, Pace(1e-12, 1e-9)) == ""


def test_nothing_that_takes_longer_is_advised() -> None:
    said = advice(LLAMA_2_7B, AWQ, 64, 4096, Pace(1e-12, 1e-7))
    assert "gptq" not in said


@pytest.mark.parametrize("tokens", [1, 511, 512, 513, 4096, 16_384, 1 << 20])
def test_the_search_never_looks_at_more_than_its_sample(tokens: int) -> None:
    searched = seconds(tokens=tokens, pace=Pace(1.0, 0.0)) - seconds("none", pace=Pace(1.0, 0.0))
    every, _ = weights(LLAMA_2_7B)
    assert every * tokens < searched <= every * (tokens + 21 * 512 + 6 * 3584 + 3 * 12_288)
