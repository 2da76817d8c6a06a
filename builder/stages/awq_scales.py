"""AWQ's search for the scales of a module's inputs (arXiv:2306.00978): Quark's candidates, its measure, fewer tokens.

Quark measures every candidate on all tokens. Here all are measured on a few, the best of them on more, and so on
(successive halving, arXiv:1502.07943): which of two scales is better shows early unless they are about equally good.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Linear, Parameter

from builder.stages.awq_rounding import round_scaled

RATIOS = [step / 20 for step in range(20)]  # as Quark tries them
ROUNDS = ((512, 5), (4096, 2), (16384, 1))  # tokens seen by the end of a round, and candidates left after it
BATCH, SAMPLE = ROUNDS[0][0], ROUNDS[-1][0]  # tokens that are looked at together, and at most

Run = Callable[[Tensor], Tensor]


def scales_for(ratio: float, mean: Tensor) -> Tensor:
    """What to multiply each input by [in], from the mean magnitude of the inputs [in]."""
    scales = mean.pow(ratio).clamp(min=1e-4)
    return scales / (scales.max() * scales.min()).sqrt()


def best_scales(
    run: Run, batches: Sequence[Tensor], linears: Sequence[Linear], candidates: dict[float, Tensor], group_size: int
) -> tuple[float, float]:
    """The ratio whose scales change the outputs of a module least when its linears are rounded, and its mean loss.

    run: the module's outputs [n, tokens, out] for a batch [n, tokens, in]; it is called with other weights in linears,
    which are put back. batches: what to measure on, in the order in which to look at it. candidates: scales [in] by
    ratio. Raises ValueError where the outputs are not finite.
    """
    loss = dict.fromkeys(candidates, 0.0)
    seen, elements, left = 0, 0, list(batches)
    for tokens, keep in ROUNDS:
        now: list[Tensor] = []
        while left and seen < tokens:
            now.append(left.pop(0))
            seen += now[-1].shape[0] * now[-1].shape[1]
        expected = [run(batch) for batch in now]
        if not all(output.isfinite().all() for output in expected):
            raise ValueError("the outputs are not finite")
        elements += sum(output.numel() for output in expected)
        for ratio in loss:
            with _rounded(linears, candidates[ratio], group_size):
                for batch, output in zip(now, expected, strict=True):
                    loss[ratio] += float((run(batch) - output).float().square().sum())
        loss = {ratio: loss[ratio] for ratio in sorted(loss, key=loss.__getitem__)[:keep]}
        if not left:
            break
    best = min(loss, key=loss.__getitem__)
    return best, loss[best] / elements


@contextmanager
def _rounded(linears: Sequence[Linear], scales: Tensor, group_size: int) -> Iterator[None]:
    """Linears with their weights rounded as they would be with these scales; the weights are put back, not copied."""
    weights = [linear.weight for linear in linears]
    for linear, weight in zip(linears, weights, strict=True):
        changed = torch.empty_like(weight)
        round_scaled(weight, scales, group_size, changed)
        linear.weight = Parameter(changed, requires_grad=False)
    try:
        yield
    finally:
        for linear, weight in zip(linears, weights, strict=True):
            linear.weight = weight
