"""Embeddings in 8 bits, for OGA's model builder.

It quantizes a table of embeddings only as the output layer's, where both are one. Here the table has integers of its
own, whatever the output layer has. As of onnxruntime-genai 0.18.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from builder.stages import model_builder
from builder.stages.graph import UNTOUCHED
from builder.stages.quark_settings import replaced

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 32  # channels that share a scale
_ZERO = 128  # what the operator subtracts from bytes without zero points
_ROWS = 4096  # that are rounded at a time


def rounded(table: "Tensor") -> "tuple[Tensor, Tensor]":
    """Embeddings [rows, hidden] as bytes [rows, hidden] and float32 scales [rows, ceil(hidden / GROUP)].

    A byte b stands for (b - 128) times the scale of its group. The last group may be shorter.
    """
    import torch

    rows, hidden = table.shape
    groups = -(-hidden // GROUP)
    integers, scales = torch.empty(rows, hidden, dtype=torch.uint8), torch.empty(rows, groups)
    for begin in range(0, rows, _ROWS):
        piece = torch.nn.functional.pad(table[begin : begin + _ROWS].float(), (0, groups * GROUP - hidden))
        piece = piece.view(-1, groups, GROUP)
        scale = piece.abs().amax(-1) / (_ZERO - 1)
        whole = (piece / scale.clamp(min=torch.finfo(scale.dtype).tiny)[..., None]).round() + _ZERO
        integers[begin : begin + _ROWS] = whole.flatten(1)[:, :hidden].to(torch.uint8)
        scales[begin : begin + _ROWS] = scale
    return integers, scales


@contextmanager
def embeddings_of(bits: int) -> Iterator[None]:
    """Let the model builder write embeddings of so many bits while this is open; UNTOUCHED: as it does by itself."""
    if bits == UNTOUCHED:
        yield
        return

    def make_embedding_lookup(model: Any, embedding: Any, basename: str, _: Any) -> str:
        integers, scales = rounded(embedding)
        weight, name = "model.embed_tokens.weight", f"{basename}/GatherBlockQuantized"
        model.make_initializer(integers, f"{weight}_Q{bits}")
        model.make_initializer(scales, f"{weight}_scales", to=model.io_dtype)
        inputs, output = [f"{weight}_Q{bits}", model.input_names["input_ids"], f"{weight}_scales"], f"{name}/output_0"
        model.make_node(
            "GatherBlockQuantized", inputs=inputs, outputs=[output], name=name, domain="com.microsoft", bits=bits,
            block_size=GROUP, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        return output

    with replaced(model_builder.module("builders.base").Model, make_embedding_lookup=make_embedding_lookup):
        yield
