"""How long quantizing takes, from what two pieces of the work on its first layer take on this machine."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.checkpoint.model import Shape
from builder.progress import Report, Step, spoken
from builder.recipe import AWQ_RATIOS, AWQ_ROUNDS, AWQ_SKETCH

_TRIED = (AWQ_RATIOS, *(stay for _, stay in AWQ_ROUNDS[:-1]))  # scales, in each round of the search for them
_ROUNDED = sum(_TRIED) + 30  # times that AWQ rounds a weight: each scale; clippings, which cost about three each
_PASSES, _HESSIANS = 5, 1.2  # of GPTQ: the layer once for each group of its linears, and its Hessians in such passes
_COLUMNS = 150  # roundings that GPTQ's loop over columns takes as long as
_GPTAQ = 6.3  # such passes, of GPTAQ: the layer twice up to each group, once as a whole and once as it was; Hessians
_LONG = 3600  # seconds, above which it is said what would take less


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a machine takes: for a product of a weight and a token, and to round a weight."""

    product: float
    rounding: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a model by the knobs of a recipe. calibrated, measured: tokens that Quark looks at, and of the proof."""

    shape: Shape
    knobs: Mapping[str, Any]
    calibrated: int
    measured: int

    def tell(self, report: Report, layer: int, pace: Pace) -> None:
        """Report what is left when a layer begins, and where that is long what would take less."""
        left = (self.shape.layers - layer) * self.layer_seconds(pace)
        report(Step("quantize", layer, self.shape.layers, f"layer {layer + 1} of {self.shape.layers}", left=left))
        if advice := self.advice(pace, left):
            report(Step("quantize", layer, self.shape.layers, advice, lasting=True))

    def layer_seconds(self, pace: Pace, algorithm: str | None = None, fewer: int = 1) -> float:
        """Of one layer. algorithm: another than the recipe's. fewer: of so many calibration tokens one is looked at."""
        algorithm, tokens = algorithm or self.knobs["quant_algo"], self.calibrated // fewer
        every, alone = weights(self.shape)
        seen, experts = self.shape.seen, self.shape.hidden * self.shape.intermediate * self.shape.experts
        products, roundings = float(seen * self.measured), float(every)
        if algorithm == "awq":
            together = (
                every - alone - (2 * experts if self.shape.experts > 1 else 0)
            )  # what goes into experts is not scaled
            products += seen * tokens + together * _seen(tokens) + alone * _seen(min(tokens, AWQ_SKETCH))
            roundings += every * _ROUNDED
        elif algorithm in ("gptq", "gptaq"):
            products += seen * tokens * (_GPTAQ if algorithm == "gptaq" else _PASSES + _HESSIANS)
            roundings += every * _COLUMNS
        return products * pace.product + roundings * pace.rounding

    def advice(self, pace: Pace, left: float) -> str:
        """What would take less time than `left`, seconds, and how much; "" where that is less than an hour."""
        if left < _LONG:
            return ""
        share = left / self.layer_seconds(pace)  # layers that are left
        ways = {f"--quant-algo {other}": self.layer_seconds(pace, other) for other in ("awq", "gptq", "none")}
        if self.knobs["num_calib_data"] >= 8:
            ways[f"--num-calib-data {self.knobs['num_calib_data'] // 4}"] = self.layer_seconds(pace, fewer=4)
        shorter = [
            f"{way} ({spoken(seconds * share)})" for way, seconds in ways.items() if seconds * share < 0.8 * left
        ]
        return (
            f"quantizing takes about {spoken(left)} on this machine, and goes on where it is stopped. Less would take: "
            f"{', '.join([*shorter, 'a GPU (--quantize-on)'])}; or a model that is quantized already."
        )


def weights(shape: Shape) -> tuple[int, int]:
    """Weights of a layer's linears: all, and those of the linears that AWQ searches alone (o_proj, down_proj)."""
    return shape.linears, shape.hidden * (shape.heads * shape.head_size + shape.intermediate * shape.experts)


def measured_pace(shape: Shape, model: Any, tokens: int, seconds: float) -> Pace:
    """From the seconds that a layer took for so many tokens, and from rounding a piece of one of its weights."""
    import torch

    from builder.stages.awq_rounding import round_scaled

    linear = max((module for module in model.modules() if isinstance(module, torch.nn.Linear)), key=_size)
    piece = linear.weight[: max(1, _PIECE // linear.weight.shape[1])]
    began = time.perf_counter()
    round_scaled(piece, torch.ones_like(piece[0]), piece.shape[1], torch.empty_like(piece))
    return Pace(seconds / (shape.seen * tokens), (time.perf_counter() - began) / piece.numel())


_PIECE = 1 << 22  # weights


def _size(linear: Any) -> int:
    return int(linear.weight.numel())


def _seen(tokens: int) -> int:
    """Tokens that a search computes with, over all scales that it tries."""
    seen = before = 0
    for (end, _), tried in zip(AWQ_ROUNDS, _TRIED, strict=True):
        now = min(tokens, end)
        seen += (now - before) * (tried + 1)  # and without rounding, to compare
        before = now
    return seen
