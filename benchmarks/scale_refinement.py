"""What can be done to a rounded weight at no cost of bits: better scales for its integers, or better integers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from builder.stages import gptaq, gptaq_rounding
from builder.stages.gptaq_rounding import Rounded, nearest
from builder.stages.quark_settings import replaced

SWEEPS, BLOCK = 4, 128


def with_other_scales(weight: Tensor, gram: Tensor, group: int, damping: float, rounded: Rounded) -> Rounded:
    """The same integers and zero points, with the scales by which a row's outputs are nearest to the weight's.

    Of a row w the integers less their zero points are c, and c_g is c in group g and 0 elsewhere. With the damped Gram
    matrix H the scales s minimize (w - sum_g s_g c_g)^T H (w - sum_g s_g c_g): A s = b, where A_gh = c_g^T H c_h and
    b_g = c_g^T H w. A row with a scale that is not positive keeps its own. Arguments as of `round_weight`.
    """
    damped = _damped(gram, damping)
    integers = _integers(rounded, group)
    parts = integers.unflatten(1, (-1, group))
    rows, groups, _ = parts.shape
    a = torch.empty(rows, groups, groups, dtype=torch.float64)
    for number in range(groups):
        products = parts[:, number] @ damped[number * group : (number + 1) * group]
        a[:, number] = (products.unflatten(1, (-1, group)) * parts).sum(2)
    b = ((weight @ damped).unflatten(1, (-1, group)) * parts).sum(2).double()
    empty = a.diagonal(dim1=1, dim2=2) == 0
    a.diagonal(dim1=1, dim2=2)[empty] = 1
    b[empty] = rounded.scales.double()[empty]
    scales = torch.linalg.solve(a, b).to(weight.dtype)
    scales = torch.where((scales > 0).all(1, keepdim=True), scales, rounded.scales)
    return Rounded(integers * _by_column(scales, group), scales, rounded.zero_points)


def with_other_integers(
    weight: Tensor, gram: Tensor, group: int, bits: int, damping: float, rounded: Rounded
) -> Rounded:
    """The same scales and zero points, with integers by coordinate descent.

    A column at a time is rounded to where, with all others as they are, the loss under the damped Gram matrix is least.
    Several sweeps, each with those that matter most first. Arguments as of `round_weight`.
    """
    order, top = gram.diagonal().argsort(descending=True), 2**bits - 1
    damped = _damped(gram, damping)[order][:, order]
    values = rounded.values[:, order]
    slope = (weight[:, order] - values) @ damped
    for _ in range(SWEEPS):
        for start in range(0, len(order), BLOCK):
            block, before = slice(start, start + BLOCK), values[:, start : start + BLOCK].clone()
            own, among = slope[:, block].clone(), damped[block, block]
            for column in range(own.shape[1]):
                of = int(order[start + column]) // group
                wanted = values[:, start + column] + own[:, column] / among[column, column]
                near = nearest(wanted, rounded.scales[:, of], rounded.zero_points[:, of], top)
                own -= (near - values[:, start + column])[:, None] * among[column]
                values[:, start + column] = near
            slope -= (values[:, block] - before) @ damped[block]
    return Rounded(torch.empty_like(values).index_copy_(1, order, values), rounded.scales, rounded.zero_points)


def lost(weight: Tensor, gram: Tensor, rounded: Rounded) -> float:
    """Sum of squared differences of the outputs."""
    away = weight - rounded.values
    return float(((away @ gram) * away).sum())


@contextmanager
def refined(steps: str, drift: bool, ranges: int) -> Iterator[list[tuple[float, float]]]:
    """Our rounding followed by steps: s for other scales, i for other integers. Gets losses before them and after.

    drift: whether weights are first moved to where they make up for it. ranges: how many are tried for a scale.
    """
    losses: list[tuple[float, float]] = []
    whole = gptaq_rounding.round_weight

    def round_weight(weight: Tensor, gram: Tensor, group: int, bits: int, damping: float) -> Rounded:
        rounded = whole(weight, gram, group, bits, damping)
        before = lost(weight, gram, rounded)
        for step in steps:
            if step == "s":
                rounded = with_other_scales(weight, gram, group, damping, rounded)
            else:
                rounded = with_other_integers(weight, gram, group, bits, damping, rounded)
        losses.append((before, lost(weight, gram, rounded)))
        return rounded

    with (
        replaced(gptaq, round_weight=round_weight),
        replaced(gptaq, towards_original=gptaq.towards_original if drift else _first),
        replaced(gptaq_rounding, SHRUNK=gptaq_rounding.SHRUNK[:ranges]),
    ):
        yield losses


def _first(weight: Tensor, *_: object) -> Tensor:
    return weight


def _integers(rounded: Rounded, group: int) -> Tensor:
    return (rounded.values / _by_column(rounded.scales, group)).round()


def _by_column(table: Tensor, group: int) -> Tensor:
    return table.repeat_interleave(group, 1)


def _damped(gram: Tensor, damping: float) -> Tensor:
    damped = gram.clone()
    damped.diagonal().add_(damping * gram.diagonal().mean())
    return damped
