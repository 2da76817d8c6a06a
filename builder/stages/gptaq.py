"""Quark's GPTAQ with a rounding that is ours, through two methods of it: the same statistics, other arithmetic.

Quark 0.13 reads the original model's inputs of the first layer only, so a layer by itself must be given them. Its
rounding takes each group's whole range for its scale, and corrects a quarter of the drift.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from builder.stages.gptaq_rounding import round_weight, towards_original
from builder.stages.quark_settings import replaced

_BITS = {"uint4": 4, "uint8": 8}
# The linears of a layer in the order in which they are rounded, those that read the same together: patterns, which
# Quark matches with the ends of names. Its own lists lack linears of some families, which it then rounds to nearest.
LINEARS = ("attn.[qkv]*_proj", "attn.o_proj", "mlp.[gu]*_proj", "mlp.down_proj", "input_linear", "output_linear")


@contextmanager
def searched(originals: Sequence[Tensor], outputs: list[Tensor]) -> Iterator[None]:
    """GPTAQ of a model with one layer.

    originals: what goes into the layer in the original model, [1, length, hidden] each. outputs: gets what the
    quantized layer makes of the calibration.
    """
    import quark.torch.algorithm.common as common
    from quark.torch.algorithm.gptaq.gptaq import Gptaq, GptaqProcessor

    collect, forward = GptaqProcessor._collect_statistics, common.block_forward

    def with_originals(
        processor: Any, layer: Any, linears: Any, algorithms: Any, inputs: Any, _: Any, *more: Any
    ) -> None:
        collect(processor, layer, linears, algorithms, inputs, originals, *more)

    def once(*arguments: Any, **named: Any) -> Any:
        if outputs:  # what the whole layer makes of the same inputs, which nothing needs
            return []
        outputs[:] = forward(*arguments, **named)
        return list(outputs)

    with (
        replaced(GptaqProcessor, _collect_statistics=with_originals),
        replaced(Gptaq, quantize=_quantize),
        replaced(common, block_forward=once),
    ):
        yield


def _quantize(algorithm: Any, _blocksize: int, damping: float, _alpha: float, group: int, *_: Any) -> None:
    """Instead of `Gptaq.quantize`: round the linear's weight, and tell its quantizer the scales and zero points."""
    linear, gram, drift = algorithm.layer, algorithm.H, algorithm.delta_X_Xt
    weight = algorithm._get_weight().float()
    unused = gram.diagonal() == 0
    gram[unused, unused] = 1
    weight[:, unused] = 0
    bits = _BITS[linear._weight_quantizer.dtype.name]
    rounded = round_weight(towards_original(weight, gram, drift, damping), gram, group, bits, damping)
    algorithm._set_weight(rounded.values, linear.weight.dtype)
    quantizer = linear._weight_quantizer
    quantizer.scale, quantizer.zero_point = rounded.scales, rounded.zero_points.to(torch.int32)
