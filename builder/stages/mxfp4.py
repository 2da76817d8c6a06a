"""MXFP4 (OCP Microscaling Formats, 1.0): the weights that gpt-oss's experts are published as.

A value has 4 bits, a sign, two of an exponent and one of a mantissa; 32 neighbours share a power of two, stored with
127 added. Two values are in a byte, the first in its lower half.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

BLOCKS, SCALES = "_blocks", "_scales"
_HALF = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_BIAS = 127


def whole(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Tensors, each that is packed so replaced by the weights that it stands for, the input first.

    Packed are NAME_blocks, uint8 [experts, out, in / 32, 16], and NAME_scales, uint8 [experts, out, in / 32]; they
    stand for NAME, [experts, in, out], without rounding.
    """
    known = {name: tensor for name, tensor in tensors.items() if not name.endswith((BLOCKS, SCALES))}
    for name, blocks in tensors.items():
        if name.endswith(BLOCKS):
            stem = name.removesuffix(BLOCKS)
            known[stem] = _weights(blocks, tensors[stem + SCALES], dtype).transpose(1, 2)
    return known


def _weights(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    values = torch.tensor([*_HALF, *(-value for value in _HALF)], dtype=dtype)
    pairs = torch.stack((values.repeat(16), values.repeat_interleave(16)), dim=-1)  # of each byte
    weights = torch.empty(*blocks.shape[:2], 32 * blocks.shape[2], dtype=dtype)
    for own, packed, exponents in zip(weights, blocks, scales, strict=True):  # one expert after another, for memory
        own.view(*packed.shape[:2], 32)[...] = torch.ldexp(
            pairs[packed.int()].flatten(-2), exponents[..., None].int() - _BIAS
        )
    return weights
