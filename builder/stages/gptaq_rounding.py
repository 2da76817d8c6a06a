"""Rounding a weight to few bits by what its inputs make of the errors: GPTQ (arXiv:2210.17323), towards what the
original model's inputs gave (GPTAQ, arXiv:2504.02692), with scales that are searched.

Instead of GPTAQ's correction column by column, the weight is first moved to where its product with the quantized
model's inputs is nearest to the original product: the same least squares, solved once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SHRUNK = tuple(1 - number / 24 for number in range(12))  # ranges of a group that are tried, as parts of the whole
_BLOCK = 128  # columns whose errors are passed on together


@dataclass(frozen=True, slots=True)
class Rounded:
    """values: [rows, columns], as they come back. scales, zero_points: [rows, groups]; the zero points are whole."""

    values: Tensor
    scales: Tensor
    zero_points: Tensor


def towards_original(weight: Tensor, gram: Tensor, drift: Tensor, damping: float) -> Tensor:
    """The weight for the quantized model's inputs x whose outputs are nearest to the original ones.

    weight: [rows, columns]. gram: [columns, columns], the sum of x x^T. drift: the sum of (o - x) x^T with the original
    model's inputs o. damping: how much it costs to leave the weight as it is, a part of the mean of gram's diagonal.
    """
    factor = torch.linalg.cholesky(_damped(gram, damping))
    return weight + torch.cholesky_solve((weight @ drift).T, factor).T


def round_weight(weight: Tensor, gram: Tensor, group: int, bits: int, damping: float) -> Rounded:
    """Round column after column, those that matter most first, and let the columns that are left make up for it.

    weight: [rows, columns]. gram: [columns, columns], the sum of x x^T over the inputs x. group: columns that share a
    scale and a zero point, which are chosen before. damping: as above.
    """
    top, importance = 2**bits - 1, gram.diagonal()
    starts = range(0, len(importance), group)
    of_group = [searched(weight[:, at : at + group], importance[at : at + group], top) for at in starts]
    scale, zero_point = (torch.cat(parts, 1) for parts in zip(*of_group, strict=True))

    order = importance.argsort(descending=True)
    left, rounded = weight[:, order], torch.empty_like(weight)
    factor = torch.linalg.cholesky(_damped(gram, damping)[order][:, order])
    passed_on = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
    for start in range(0, len(order), _BLOCK):
        end = min(start + _BLOCK, len(order))
        errors = torch.empty_like(left[:, start:end])
        for column in range(start, end):
            of = int(order[column]) // group
            near = nearest(left[:, column], scale[:, of], zero_point[:, of], top)
            error = (left[:, column] - near) / passed_on[column, column]
            left[:, column:end] -= error[:, None] * passed_on[column, column:end]
            rounded[:, order[column]], errors[:, column - start] = near, error
        left[:, end:] -= errors @ passed_on[start:end, end:]
    return Rounded(rounded, scale, zero_point)


def searched(weight: Tensor, importance: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each row, [rows, 1]: of the ranges that are tried, those that lose least.

    weight: [rows, group]. importance: [group], what an error of one costs, squared.
    """
    low, high = weight.amin(1, keepdim=True).clamp(max=0), weight.amax(1, keepdim=True).clamp(min=0)
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for part in SHRUNK:
        scale = ((high - low) * part / top).clamp(min=torch.finfo(weight.dtype).tiny)
        zero_point = (-low * part / scale).round().clamp(0, top)
        lost = ((nearest(weight, scale, zero_point, top) - weight).square() @ importance)[:, None]
        if best is None:
            best = lost, scale, zero_point
        else:
            better = lost < best[0]
            tried = lost, scale, zero_point
            best = tuple(torch.where(better, new, old) for new, old in zip(tried, best, strict=True))  # type: ignore[assignment]
    assert best is not None
    return best[1], best[2]


def nearest(weight: Tensor, scale: Tensor, zero_point: Tensor, top: int) -> Tensor:
    """Of the values that can be stored, those nearest to the weights."""
    return ((weight / scale).round().add_(zero_point).clamp_(0, top) - zero_point) * scale


def _damped(gram: Tensor, damping: float) -> Tensor:
    damped = gram.clone()
    damped.diagonal().add_(damping * gram.diagonal().mean())
    return damped
