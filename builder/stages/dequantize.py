"""The weights that a quantized checkpoint stands for, from its packed tensors. Pure numpy.

What OGA's model builder makes of the same tensors is proved against this, so nothing of its reading is used here: each
packing is written down from the program that writes it.

- AWQ (AutoAWQ's WQLinear_GEMM, and Quark's "reorder"): a word of 32 bits has eight neighbouring outputs of one input,
  from its lowest bits those numbered 0, 2, 4, 6, 1, 3, 5, 7. Zero points lie in the same way.
- Quark's single layers of 8 bits: a byte each, of one input and output, in their order.
- GPTQ (AutoGPTQ's and GPTQModel's linears): a word has eight neighbouring inputs of one output, in their order. Zero
  points are eight neighbouring outputs of one group, in their order; the first format stores each less 1.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.checkpoint.packed import NAMES
from builder.checkpoint.quantization import Packing
from builder.errors import UnsupportedModel

_SHIFTS = np.arange(0, 32, 4, dtype=np.uint32)
_OUTPUTS = np.array([0, 2, 4, 6, 1, 3, 5, 7])  # of AWQ, by their place in a word

Words = NDArray[np.int32]


def dequantized(tensors: Mapping[str, NDArray[Any]], name: str, packing: Packing) -> NDArray[np.float32]:
    """The weight of a linear [outputs, inputs], from the tensors of its layer by their names.

    Raises UnsupportedModel where readers of the packing disagree on what is stored.
    """
    numbers, zeros, scales = (tensors[f"{name}.{part}"] for part in NAMES[packing])
    if packing.startswith("gptq"):
        quantized, zero_points = _by_rows(numbers), _in_order(zeros)
        if packing == "gptq":
            if (zero_points == 15).any():
                raise UnsupportedModel(
                    f"{name} has a zero point that is stored as 15 in GPTQ's first format: some readers take it for "
                    "0, some for 16, some add to its neighbour. Use one in the format gptq_v2, or the original."
                )
            zero_points = zero_points + np.uint8(1)
    elif numbers.dtype == np.uint8:
        quantized, zero_points = numbers, zeros.astype(np.uint8)
    else:
        quantized, zero_points = _interleaved(numbers), _interleaved(zeros)
    group = np.arange(len(quantized)) // (len(quantized) // len(scales))
    if not np.array_equal(tensors.get(f"{name}.g_idx", group), group):
        raise UnsupportedModel(
            f"{name} has groups of inputs that are not neighbours (act-order, by its g_idx), which is not supported: "
            "use a checkpoint that was quantized without desc_act, or the original."
        )
    steps = quantized.astype(np.float32) - zero_points.astype(np.float32)[group]
    weight: NDArray[np.float32] = (steps * scales.astype(np.float32)[group]).T
    return np.ascontiguousarray(weight)


def _numbers(words: Words) -> NDArray[np.uint8]:
    """The eight numbers of each word, from its lowest bits: [...] -> [..., 8]."""
    return ((words.view(np.uint32)[..., None] >> _SHIFTS) & 15).astype(np.uint8)


def _interleaved(words: Words) -> NDArray[np.uint8]:
    """AWQ's: [rows, outputs / 8] -> [rows, outputs]."""
    found = _numbers(words)
    ordered = np.empty_like(found)
    ordered[..., _OUTPUTS] = found
    return ordered.reshape(len(words), -1)


def _in_order(words: Words) -> NDArray[np.uint8]:
    """GPTQ's zero points: [groups, outputs / 8] -> [groups, outputs]."""
    return _numbers(words).reshape(len(words), -1)


def _by_rows(words: Words) -> NDArray[np.uint8]:
    """GPTQ's weights: [inputs / 8, outputs] -> [inputs, outputs]."""
    return _numbers(words).transpose(0, 2, 1).reshape(-1, words.shape[1])
