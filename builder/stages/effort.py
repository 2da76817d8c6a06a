"""How long a layer takes to quantize, from what two pieces of the work took on this machine. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.checkpoint.model import Shape
from builder.progress import spoken

# The search for scales (awq_scales.py): tokens seen by the end of a round, and how many scales each round tries.
_ROUNDS = ((512, 20), (4096, 5), (16_384, 2))
_ONE_LINEAR = 4096  # rows that stand for all tokens, where one linear is searched alone
_ROUNDED = 27 + 30  # times that AWQ rounds a weight: 20, 5 and 2 scales; clippings, which cost about three each
_PASSES, _HESSIANS = 5, 1.2  # of GPTQ: the layer once for each group of its linears, and its Hessians in such passes
_COLUMNS = 150  # roundings that GPTQ's loop over columns takes as long as
LONG = 3600  # seconds, above which it is said what would take less


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that this machine takes: for a product of a weight and a token, and to round a weight."""

    product: float
    rounding: float


def weights(shape: Shape) -> tuple[int, int]:
    """Weights of a layer's linears: all, and those of the linears that AWQ searches alone (o_proj, down_proj)."""
    attention = shape.hidden * shape.head_size
    alone = attention * shape.heads + shape.hidden * shape.intermediate
    return alone + attention * (shape.heads + 2 * shape.kv_heads) + 2 * shape.hidden * shape.intermediate, alone


def layer_seconds(shape: Shape, knobs: Mapping[str, Any], tokens: int, measured: int, pace: Pace) -> float:
    """Of one layer. knobs: of the recipe. tokens: calibrated on. measured: of what the model is proved on."""
    every, alone = weights(shape)
    products, roundings = float(every * measured), float(every)
    if knobs["quant_algo"] == "awq":
        products += every * tokens + (every - alone) * _seen(tokens) + alone * _seen(min(tokens, _ONE_LINEAR))
        roundings += every * _ROUNDED
    elif knobs["quant_algo"] == "gptq":
        products += every * tokens * (_PASSES + _HESSIANS)
        roundings += every * _COLUMNS
    return products * pace.product + roundings * pace.rounding


def _seen(tokens: int) -> int:
    """Tokens that a search computes with, over all scales that it tries."""
    seen = before = 0
    for end, tried in _ROUNDS:
        now = min(tokens, end)
        seen += (now - before) * (tried + 1)  # and without rounding, to compare
        before = now
    return seen


def advice(shape: Shape, knobs: Mapping[str, Any], tokens: int, measured: int, pace: Pace) -> str:
    """What would take less time, and how much; "" where all of it takes less than an hour."""

    def whole(algorithm: str, fewer: int) -> float:
        return shape.layers * layer_seconds(shape, {**knobs, "quant_algo": algorithm}, tokens // fewer, measured, pace)

    algorithm = str(knobs["quant_algo"])
    expected = whole(algorithm, 1)
    if expected < LONG:
        return ""
    ways = []
    if algorithm != "none" and knobs["num_calib_data"] >= 8:
        ways.append(f"--num-calib-data {knobs['num_calib_data'] // 4} ({spoken(whole(algorithm, 4))})")
    ways += [
        f"--quant-algo {other} ({spoken(whole(other, 1))})"
        for other in ("gptq", "none")
        if whole(other, 1) < 0.8 * expected
    ]
    ways.append("--quantize-on with a GPU (minutes)")
    return (
        f"quantizing takes about {spoken(expected)} on this machine, and goes on where it is stopped. Less would take: "
        f"{', '.join(ways)}; or a model that somebody has quantized already."
    )
