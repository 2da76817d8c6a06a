"""What a build will need of memory and disk, from a checkpoint's headers and configuration. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.families import family_of
from builder.recipe import ExportTarget, QuantRecipe

MEASURED_TOKENS = 8 * 512  # calibration.HELDOUT and CHATS
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Of the process that quantizes, with torch and Quark imported and nothing loaded.
_PROGRAM = 560 << 20
# AWQ's clip search multiplies so many rows of a weight with so many tokens at once.
_CLIP_ROWS, _CLIP_TOKENS = (256, 64), 512
_FOUR_BITS = 0.53 + 0.03  # bytes per weight: with a 16-bit scale and a zero point per 128, and what is not quantized


@dataclass(frozen=True, slots=True)
class Shape:
    """What counts of a checkpoint. parameters: all of them; data_type: that they are loaded in."""

    parameters: int
    data_type: str
    vocabulary: int
    hidden: int
    intermediate: int
    queries: int
    tied: bool

    @classmethod
    def of(cls, config: Mapping[str, Any], parameters: int, data_type: str) -> "Shape":
        """From config.json, which has been checked."""
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return cls(
            parameters,
            data_type,
            int(config["vocab_size"]),
            hidden,
            int(config[family_of(str(config["model_type"])).intermediate]),
            heads * int(config.get("head_dim") or hidden // heads),
            bool(config.get("tie_word_embeddings")),
        )

    @property
    def embeddings(self) -> int:
        """Parameters of the table of tokens; the output layer has as many, or shares them."""
        return self.vocabulary * self.hidden


def peak_memory(shape: Shape, recipe: QuantRecipe) -> int:
    """Bytes that the heaviest stage, quantizing, holds at its peak; fitted to benchmarks/build_memory.py.

    The whole model is loaded. Beside it AWQ keeps a layer's inputs for all calibration tokens, and its clip search a
    product of weights and tokens; before that, the original is measured, with logits over the whole vocabulary.
    """
    size = _BYTES[shape.data_type]
    tokens = recipe.num_calib_data * recipe.seq_len
    kept = tokens * (5 * shape.hidden + shape.intermediate) * size
    logits = _CLIP_TOKENS * shape.vocabulary * (size + 2)
    search = 0
    if recipe.quant_algo == "awq":
        linears = (
            (shape.hidden, shape.queries),
            (shape.intermediate, shape.hidden),
            (shape.hidden, shape.intermediate),
        )
        search = max(_clip_product(outputs, inputs) for inputs, outputs in linears) * min(_CLIP_TOKENS, tokens) * size
    return _PROGRAM + shape.parameters * size + max(logits, search + kept)


def _clip_product(outputs: int, inputs: int) -> int:
    many, few = _CLIP_ROWS
    return (few if outputs % many else many) * inputs


def disk(shape: Shape, target: ExportTarget) -> dict[str, int]:
    """Bytes that each stage leaves on the disk, all of which are there at once before a model is published."""
    tables = shape.embeddings * (1 if shape.tied else 2)
    linears = (shape.parameters - tables) * _FOUR_BITS
    head_bytes = {4: 0.6, 8: 1.1, 16: 4.0}[target.lm_head_bits]
    return {
        "calibrate": 1 << 20,
        "quantize": int(linears + tables * _BYTES[shape.data_type] + MEASURED_TOKENS * shape.vocabulary * 2)
        + (64 << 20),
        "export": int(linears + shape.embeddings * (4 + head_bytes)) + (16 << 20),
    }
