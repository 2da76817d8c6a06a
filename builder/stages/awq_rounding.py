"""What the searches of AWQ try: weights rounded to 4 bits as Quark's quantizer rounds them, a few rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

_LEVELS = 15  # of UINT4, above 0
_PIECE = 1 << 20  # weights that are rounded at once: their temporary copies stay in the processor's cache


def pieces(weight: Tensor) -> Iterator[slice]:
    """Rows of a weight [out, in] that are worked on together."""
    step = max(1, _PIECE // weight.shape[1])
    return (slice(start, start + step) for start in range(0, weight.shape[0], step))


def rounded(groups: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Groups [n, size] in float32 as they are after UINT4, asymmetric, with the smallest and largest of each [n]."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = ((high - low) / _LEVELS).clamp(min=torch.finfo(torch.float32).eps)
    zero = (-low / scale).round().clamp(0, _LEVELS).int()
    return torch.fake_quantize_per_channel_affine(groups, scale, zero, 0, 0, _LEVELS)


def round_scaled(weight: Tensor, scales: Tensor, group_size: int, out: Tensor) -> None:
    """Write into out what weight [out, in] becomes when it is rounded with its inputs scaled by scales [in]."""
    for rows in pieces(weight):
        groups = (weight[rows].float() * scales).view(-1, group_size)
        out[rows] = rounded(groups, *groups.aminmax(dim=1)).view(-1, weight.shape[1]).div_(scales)
