"""AWQ's search for the best clipping of each group of weights (arXiv:2306.00978, as Quark does it), by Gram matrices.

A group's error on its inputs X [tokens, size] is |X (w - q)|^2 = (w - q) G (w - q)^T with G = X^T X: the tokens are
summed up once, not multiplied with every row of the weight for every clipping that is tried.
"""

import torch
from torch import Tensor

from builder.stages.awq_rounding import pieces, rounded

SHRINKS = [step / 20 for step in range(10)]  # of the largest weight, as Quark tries them


def best_clips(weight: Tensor, grams: Tensor) -> Tensor:
    """The largest magnitude to leave in each group, [out, groups, 1], of weight [out, in]; grams: [groups, size, size].

    Of equal errors the larger magnitude wins, as with Quark. The type is the weight's.
    """
    count, size, _ = grams.shape
    return torch.cat([_best_of_rows(weight[rows].float().view(-1, count, size), grams) for rows in pieces(weight)]).to(
        weight.dtype
    )


def _best_of_rows(groups: Tensor, grams: Tensor) -> Tensor:
    flat = groups.flatten(0, 1)
    low, high = flat.aminmax(dim=1)
    largest = torch.maximum(-low, high)
    best, least = largest.clone(), torch.full_like(largest, torch.inf)
    for shrink in SHRINKS:
        limit = largest * (1 - shrink)
        clamped = flat.clamp(-limit[:, None], limit[:, None])
        lost = rounded(clamped, low.clamp(min=-limit), high.clamp(max=limit)).sub_(flat).view_as(groups)
        by_group = lost.transpose(0, 1)  # [groups, rows, size]
        error = torch.bmm(by_group, grams).mul_(by_group).sum(dim=-1).T.flatten()
        better = error < least
        least = torch.where(better, error, least)
        best = torch.where(better, limit, best)
    return best.view(*groups.shape[:2], 1)
