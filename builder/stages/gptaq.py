"""Quark's GPTAQ with statistics and a rounding that are ours, through two methods of it.

Quark 0.13 runs a layer twice for each of its linears and knows the original model's inputs of the first layer only;
its rounding takes each group's whole range for its scale. Here linears that read the same share what is known of it, a
layer runs no further than to them, and the original's inputs are given.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from builder.stages.gptaq_rounding import round_weight, towards_original
from builder.stages.quark_settings import replaced

# The linears of a layer in the order in which they are rounded, those that read the same together: patterns, which
# Quark matches with the ends of names. Its own lists lack linears of some families, which it then rounds to nearest.
LINEARS = (
    "attn.[qkv]*_proj", "attn.in_proj_[qz]*", "conv.in_proj", "mamba.in_proj",
    "attn.o_proj", "attn.out_proj", "conv.out_proj", "mamba.out_proj",
    "mlp.[gu]*_proj", "feed_forward.w[13]", "shared_expert.[gu]*_proj", "input_linear",
    "mlp.down_proj", "feed_forward.w2", "shared_expert.down_proj", "output_linear",
)  # fmt: skip

DRIFT_DAMPING = 0.1  # what few tokens say of drift is mostly of these tokens


@contextmanager
def searched(originals: Sequence[Tensor], outputs: list[Tensor]) -> Iterator[None]:
    """GPTAQ of a model with one layer.

    originals: what goes into the layer in the original model, [1, length, hidden] each. outputs: gets what the
    quantized layer makes of the calibration.
    """
    import quark.torch.algorithm.common as common
    from quark.torch.algorithm.gptaq.gptaq import Gptaq, GptaqProcessor

    forward = common.block_forward

    def collect(
        processor: Any, layer: Any, linears: Mapping[str, Any], algorithms: Mapping[str, Any], inputs: Any, *_: Any
    ) -> None:
        first = next(iter(linears.values()), None)
        if first is None:  # this family's layers have no such linears
            return
        with _ending_at(first) as inputs_of:
            gram, drift = _statistics(inputs_of, layer, processor.module_kwargs, inputs, originals)
        for algorithm in algorithms.values():
            algorithm.H, algorithm.delta_X_Xt = gram, drift

    def once(*arguments: Any, **named: Any) -> Any:
        if outputs:  # what the original layer makes of the same inputs, which nothing needs
            return []
        outputs[:] = forward(*arguments, **named)
        return list(outputs)

    with (
        replaced(GptaqProcessor, _collect_statistics=collect),
        replaced(Gptaq, quantize=_quantize),
        replaced(common, block_forward=once),
    ):
        yield


def _statistics(
    inputs_of: Any, layer: Any, named: Mapping[str, Any], quantized: Sequence[Tensor], originals: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Over a linear's inputs x, and o in the original model: the sums of x x^T and of (o - x) x^T, in float32."""
    from quark.torch.algorithm.common import RestoreOriginalWeights

    gram = drift = torch.zeros(())
    for given, original in zip(quantized, originals, strict=True):
        x = inputs_of(layer, given, named)
        with RestoreOriginalWeights(layer):
            away = inputs_of(layer, original.to(given.device), named) - x
        gram, drift = gram + x.T @ x, drift + away.T @ x
    return gram, drift


@contextmanager
def _ending_at(linear: Any) -> Iterator[Any]:
    """A way to run a layer up to a linear: answers with what the linear reads, [tokens, columns] in float32."""
    from quark.torch.algorithm.blockwise_tuning.blockwise_utils import block_forward

    class Reached(Exception):
        pass

    seen: list[Tensor] = []

    def reach(_: Any, arguments: tuple[Tensor, ...]) -> None:
        seen[:] = [arguments[0].flatten(0, -2).float()]
        raise Reached

    def inputs_of(layer: Any, states: Tensor, named: dict[str, Any]) -> Tensor:
        try:
            block_forward(layer, named, 1, states.device, [states], [], True)
        except Reached:
            return seen.pop()
        raise AssertionError("the layer never came to its linear")

    hook = linear.register_forward_pre_hook(reach)
    try:
        yield inputs_of
    finally:
        hook.remove()


def _quantize(algorithm: Any, _blocksize: int, damping: float, _alpha: float, group: int, *_: Any) -> None:
    """Instead of `Gptaq.quantize`: round the linear's weight, and tell its quantizer the scales and zero points."""
    linear, quantizer = algorithm.layer, algorithm.layer._weight_quantizer
    bits = algorithm.original_qspec.dtype.to_bitwidth()
    weight, gram = algorithm._get_weight().float(), algorithm.H.clone()
    unused = gram.diagonal() == 0
    gram[unused, unused] = 1
    weight[:, unused] = 0
    weight = towards_original(weight, gram, algorithm.delta_X_Xt, DRIFT_DAMPING)
    rounded = round_weight(weight, gram, group, bits, damping)
    algorithm._set_weight(rounded.values, linear.weight.dtype)
    quantizer.scale, quantizer.zero_point = rounded.scales, rounded.zero_points.to(torch.int32)
