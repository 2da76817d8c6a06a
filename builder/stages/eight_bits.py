"""Linears of 8 bits among those of 4, for OGA's loader of Quark's checkpoints.

The model builder writes products of 8 bits; its loader takes every linear of a decoder layer for one of 4. Quark packs
8 bits as bytes and 4 bits as 32-bit integers, so that the type of a tensor tells. As of onnxruntime-genai 0.18.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from builder.checkpoint.checkpoint import Checkpoint
from builder.checkpoint.weights import layer_of
from builder.stages import model_builder
from builder.stages.quark_settings import replaced

_BYTES = "U8"


def linears_of_8_bits(checkpoint: Checkpoint) -> int:
    """How many there are in the decoder of a checkpoint that Quark quantized."""
    return sum(
        tensor.dtype == _BYTES and name.endswith(".weight") and layer_of(name)[0] is not None
        for name, tensor in checkpoint.weights.tensors.items()
    )


@contextmanager
def eight_bits_read() -> Iterator[None]:
    """Let the loader read them while this is open."""
    import torch

    loader = model_builder.module("loaders.quark").QuarkModel
    set_properties, repack = loader.set_quantized_tensor_properties, loader.repack_quantized_tensor

    def set_quantized_tensor_properties(model: Any, module: Any) -> None:
        if module.qweight.dtype == torch.uint8:
            module.bits = 8
        set_properties(model, module)

    def repack_quantized_tensor(model: Any, module: Any, clear_g_idx: bool) -> None:
        if module.bits != 8 or module.qweight is None:
            repack(model, module, clear_g_idx)
            return
        # By way of 16-bit floats, as those of 4 bits go, they would not stay what they are.
        model.pack_ort_format(module, module.qweight.int())
        module.g_idx = None

    with replaced(
        loader,
        set_quantized_tensor_properties=set_quantized_tensor_properties,
        repack_quantized_tensor=repack_quantized_tensor,
    ):
        yield
