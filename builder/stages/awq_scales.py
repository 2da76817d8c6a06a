"""AWQ's search for the scales of a module's inputs (arXiv:2306.00978): Quark's candidates and measure, fewer tokens.

Quark measures every candidate on all tokens. Here all are measured on a few, the best of them on more, and so on
(successive halving, arXiv:1502.07943): which of two is better shows early, unless they are about equally good.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Linear, Parameter

from builder.recipe import AWQ_RATIOS, AWQ_ROUNDS
from builder.stages.awq_rounding import round_scaled

RATIOS = [step / AWQ_RATIOS for step in range(AWQ_RATIOS)]  # as Quark tries them
ROUNDS = AWQ_ROUNDS
BATCH, SAMPLE = ROUNDS[0][0], ROUNDS[-1][0]  # tokens to go through a module together, and in all at most

Run = Callable[[Tensor], Tensor]


def scales_for(ratio: float, mean: Tensor) -> Tensor:
    """What to multiply each input by [in], from the mean magnitude of the inputs [in]."""
    scales = mean.pow(ratio).clamp(min=1e-4)
    return scales / (scales.max() * scales.min()).sqrt()


def best_ratio(
    run: Run, sample: Sequence[Tensor], linears: Sequence[Linear], candidates: dict[float, Tensor], group_size: int
) -> float:
    """The ratio whose scales [in] change a module's outputs least when its linears, so scaled, are rounded.

    run: the module's outputs for inputs [n, tokens, width]; while it is measured its linears have other weights.
    sample: what to measure on, in the order to look at it. Raises ValueError where outputs are not finite.
    """
    weights = [linear.weight for linear in linears]
    changed = [Parameter(torch.empty_like(weight), requires_grad=False) for weight in weights]
    losses, seen, left = dict.fromkeys(candidates, 0.0), 0, list(sample)
    for tokens, stay in ROUNDS:
        batches: list[Tensor] = []
        while left and seen < tokens:
            batches.append(left.pop(0))
            seen += batches[-1].shape[:2].numel()
        outputs = [run(batch) for batch in batches]
        if not all(output.isfinite().all() for output in outputs):
            raise ValueError("not finite")
        with _having(linears, changed):
            for ratio in losses:
                for weight, other in zip(weights, changed, strict=True):
                    round_scaled(weight, candidates[ratio], group_size, other)
                for batch, output in zip(batches, outputs, strict=True):
                    losses[ratio] += float((run(batch) - output).float().square().sum())
        losses = {ratio: losses[ratio] for ratio in sorted(losses, key=losses.__getitem__)[:stay]}
    return min(losses, key=losses.__getitem__)


@contextmanager
def _having(linears: Sequence[Linear], weights: Sequence[Parameter]) -> Iterator[None]:
    """Linears with other weights; their own are put back."""
    own = [linear.weight for linear in linears]
    for linear, weight in zip(linears, weights, strict=True):
        linear.weight = weight
    try:
        yield
    finally:
        for linear, before in zip(linears, own, strict=True):
            linear.weight = before
