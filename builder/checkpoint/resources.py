"""What a build will need of memory and disk, from a checkpoint's headers and configuration. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.checkpoint.families import family_of
from builder.recipe import CHATS, HELDOUT, ExportTarget, QuantRecipe

_MEASURED_TOKENS = math.prod(HELDOUT) + math.prod(CHATS)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_PROGRAM = 510 << 20  # of the process that quantizes, with torch and Quark imported and nothing loaded
_PIECES = 60 << 20  # of AWQ's clip search, with what they are compared with
_COPIES = 4  # of logits, and of a layer's weights, that are held at once or that the allocator does not give back
_MEASURED_AT_ONCE = HELDOUT[1]  # tokens
_FOUR_BITS = 0.53 + 0.03  # bytes per weight: with a 16-bit scale and a zero point per 128, and what is not quantized


@dataclass(frozen=True, slots=True)
class Shape:
    """What counts of a checkpoint. parameters: all of them; data_type: that they are loaded in."""

    parameters: int
    data_type: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int, data_type: str) -> "Shape":
        """From config.json, which has been checked."""
        return cls(
            parameters,
            data_type,
            int(config["vocab_size"]),
            int(config["hidden_size"]),
            int(config[family_of(str(config["model_type"])).intermediate]),
            int(config["num_hidden_layers"]),
            bool(config.get("tie_word_embeddings")),
        )

    @property
    def embeddings(self) -> int:
        """Parameters of the table of tokens."""
        return self.vocabulary * self.hidden

    @property
    def tables(self) -> int:
        """Those, and the output layer's, unless it shares them."""
        return self.embeddings * (1 if self.tied else 2)


def peak_memory(shape: Shape, recipe: QuantRecipe, mapped: bool = True) -> int:
    """Bytes that the heaviest stage, quantizing, holds at its peak; fitted to benchmarks/build_memory.py.

    The whole model is loaded, from files that are mapped meanwhile. It is measured, with logits over the whole
    vocabulary; then AWQ keeps a layer's inputs for all calibration tokens, and copies of the layer; at the end Quark
    freezes a quantized copy of every linear.
    mapped: count the files' pages too, which the system can take back when memory is short.
    """
    size = _BYTES[shape.data_type]
    loading = 2 * shape.parameters if mapped else 0
    logits = _MEASURED_AT_ONCE * shape.vocabulary * size * _COPIES
    search = 0
    if recipe.quant_algo != "none":
        tokens = recipe.num_calib_data * recipe.seq_len
        layer = (shape.parameters - shape.tables) // shape.layers
        search = (tokens * (5 * shape.hidden + shape.intermediate) + layer * _COPIES) * size + _PIECES
    frozen = (shape.parameters - shape.tables) * size + _PIECES
    return _PROGRAM + shape.parameters * size + max(loading, logits + search, frozen)


def disk(shape: Shape, target: ExportTarget) -> dict[str, int]:
    """Bytes that each stage leaves on the disk, all of which are there at once before a model is published."""
    linears = (shape.parameters - shape.tables) * _FOUR_BITS
    head_bytes = {4: 0.6, 8: 1.1, 16: 4.0}[target.lm_head_bits]
    return {
        "calibrate": 1 << 20,
        "quantize": int(linears + shape.tables * _BYTES[shape.data_type] + _MEASURED_TOKENS * shape.vocabulary * 2)
        + (64 << 20),
        "export": int(linears + shape.embeddings * (4 + head_bytes)) + (16 << 20),
    }
