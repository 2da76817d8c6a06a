"""Checkpoints that are quantized already, as AutoAWQ, AutoGPTQ and GPTQModel write them, of whole ones.

Packed number by number, as those programs' loops have it: what reads them here computes with whole arrays.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from builder.checkpoint.quantization import Packing

GROUP = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the output at each place of a word, from its lowest bits
Array = NDArray[Any]
Tensors = dict[str, Array]
CONFIGS: dict[str, dict[str, Any]] = {
    "awq": {
        "quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True, "version": "gemm",
        "modules_to_not_convert": None,
    },
    "gptq": {
        "quant_method": "gptq", "bits": 4, "group_size": GROUP, "damp_percent": 0.01, "desc_act": False, "sym": True,
        "static_groups": False, "true_sequential": True, "model_name_or_path": None, "model_file_base_name": "model",
    },
    "gptq_v2": {
        "quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": False, "lm_head": False,
        "checkpoint_format": "gptq_v2", "format": "gptq_v2", "pack_dtype": "int32", "dynamic": None,
        "meta": {"quantizer": ["gptqmodel:2.2.0"]},
    },
}  # fmt: skip


def rounded(weight: Array, symmetric: bool) -> tuple[Array, Array, Array]:
    """Of [outputs, inputs]: numbers [inputs, outputs], zero points and float16 scales [groups, outputs]."""
    outputs, inputs = weight.shape
    groups = weight.T.reshape(inputs // GROUP, GROUP, outputs).astype(np.float32)
    if symmetric:
        scales = (np.abs(groups).max(axis=1) / 7).astype(np.float16)
        zeros = np.full(scales.shape, 8)
    else:
        low, high = np.minimum(groups.min(axis=1), 0), np.maximum(groups.max(axis=1), 0)
        scales = ((high - low) / 15).astype(np.float16)
        zeros = np.clip(np.round(-low / scales.astype(np.float32)), 1, 15).astype(int)  # GPTQ's first format has no 0
    numbers = np.clip(np.round(groups / scales[:, None].astype(np.float32)) + zeros[:, None], 0, 15).astype(int)
    return numbers.reshape(inputs, outputs), zeros, scales


def words(numbers: Array, order: tuple[int, ...] = tuple(range(8))) -> Array:
    """Neighbours along the last axis, eight to a word; `order` says which is at each place."""
    packed = np.zeros((len(numbers), numbers.shape[1] // 8), dtype=np.uint32)
    for column in range(packed.shape[1]):
        for place, which in enumerate(order):
            packed[:, column] |= numbers[:, column * 8 + which].astype(np.uint32) << np.uint32(4 * place)
    return packed.view(np.int32)


def awq(weight: Array) -> Tensors:
    """As AutoAWQ's GEMM linear."""
    numbers, zeros, scales = rounded(weight, symmetric=False)
    return {"qweight": words(numbers, AWQ_ORDER), "qzeros": words(zeros, AWQ_ORDER), "scales": scales}


def gptq(weight: Array, second: bool = False) -> Tensors:
    """As AutoGPTQ's linear: neighbouring inputs in a word, zero points less 1; or as GPTQModel's second format."""
    numbers, zeros, scales = rounded(weight, symmetric=not second)
    packed = words(numbers.T).T
    return {
        "qweight": np.ascontiguousarray(packed),
        "qzeros": words(zeros if second else zeros - 1),
        "scales": scales,
        "g_idx": (np.arange(len(numbers)) // GROUP).astype(np.int32),
    }


def gptq_v2(weight: Array) -> Tensors:
    """As GPTQModel's second format, with zero points that are as they are."""
    return gptq(weight, second=True)


PACK: Mapping[Packing, Callable[[Array], Tensors]] = {"awq": awq, "gptq": gptq, "gptq_v2": gptq_v2}


def pack(
    checkpoint: Path,
    packed: Path,
    packing: Packing,
    spoil: Callable[[Tensors], Tensors] = dict,
    head: bool = False,
    **config: Any,
) -> Path:
    """A checkpoint whose decoder layers are packed, and whose other tensors are float16.

    spoil: changes the tensors of each linear. head: pack the output layer too. config: of its quantization_config.
    """
    shutil.copytree(checkpoint, packed, ignore=shutil.ignore_patterns("*.safetensors*", "config.json"))
    tensors: Tensors = {}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        linear = name.removesuffix(".weight")
        if tensor.ndim == 2 and (".layers." in name or (head and linear == "lm_head")):
            made = spoil(PACK[packing](tensor))
            tensors |= {f"{linear}.{part}": np.ascontiguousarray(array) for part, array in made.items()}
        else:
            tensors[name] = tensor.astype(np.float16)
    save_file(tensors, packed / "model.safetensors", {"format": "pt"})
    whole = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    whole |= {"quantization_config": {**CONFIGS[packing], **config}}
    (packed / "config.json").write_text(json.dumps(whole), encoding="utf-8")
    return packed


# What an exporter that reads them wrongly would see, as a checkpoint that is read rightly.


def swapped_nibbles(tensors: Tensors) -> Tensors:
    """The two numbers of each byte changed places."""
    found = tensors["qweight"].view(np.uint32)
    swapped = ((found & 0x0F0F0F0F) << 4) | ((found >> 4) & 0x0F0F0F0F)
    return {**tensors, "qweight": swapped.astype(np.uint32).view(np.int32)}


def plain_order(tensors: Tensors) -> Tensors:
    """AWQ's words read in their order."""

    def reread(packed: Array) -> Array:
        places = [(packed.view(np.uint32) >> np.uint32(4 * place)) & np.uint32(15) for place in range(8)]
        return words(np.stack(places, axis=-1).reshape(len(packed), -1), AWQ_ORDER)

    return {**tensors, "qweight": reread(tensors["qweight"]), "qzeros": reread(tensors["qzeros"])}


def lost_zero_points(tensors: Tensors) -> Tensors:
    """All of them in the middle, as without any."""
    middle = 0x77777777 if "g_idx" in tensors else 0x88888888
    return {**tensors, "qzeros": np.full(tensors["qzeros"].shape, middle, np.uint32).view(np.int32)}


def off_by_one(tensors: Tensors) -> Tensors:
    """The 1 not added that GPTQ's first format takes off: here, taken off twice."""
    return {**tensors, "qzeros": (tensors["qzeros"].view(np.uint32) - np.uint32(0x11111111)).view(np.int32)}
