"""GPTQ's tensors as the loader of OGA's model builder expects them, which knows its first format only.

As of onnxruntime-genai 0.18: it adds 1 to each zero point, and asks every linear for the group of each input.
"""

from collections.abc import Mapping
from typing import Any

from builder.checkpoint.quantization import Quantization

_ZEROS, _NUMBERS = ".qzeros", ".qweight"


def as_first_format(tensors: Mapping[str, Any], quantization: Quantization | None) -> dict[str, Any]:
    """Of a GPTQ checkpoint, tensors in its first format, with the groups of inputs where they were left out."""
    if quantization is None or not quantization.packing.startswith("gptq"):
        return dict(tensors)
    import torch

    known = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(_ZEROS) and quantization.packing == "gptq_v2":
            known[name] = less_one(tensor)
        groups = f"{name.removesuffix(_NUMBERS)}.g_idx"
        if name.endswith(_NUMBERS) and groups not in tensors:
            known[groups] = torch.arange(tensor.shape[0] * 8, dtype=torch.int32) // quantization.group_size
    return known


def less_one(words: Any) -> Any:
    """Each of the eight numbers in each int32, less 1, and 15 for 0."""
    import torch

    shifts = torch.arange(0, 32, 4)
    numbers = ((words.long()[..., None] >> shifts) + 15) & 15
    packed = (numbers << shifts).sum(dim=-1)
    return torch.where(packed >= 1 << 31, packed - (1 << 32), packed).to(torch.int32)
