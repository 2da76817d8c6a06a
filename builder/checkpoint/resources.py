"""What a build will need of memory and disk, from what a checkpoint is. Pure."""

import math

from builder.checkpoint.checkpoint import Checkpoint
from builder.checkpoint.model import Shape
from builder.recipe import CHATS, HELDOUT, ExportTarget, QuantRecipe

_MEASURED_TOKENS = math.prod(HELDOUT) + math.prod(CHATS)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_PROGRAM = 510 << 20  # of the process that quantizes, with torch and Quark imported and nothing loaded
_PIECES = 60 << 20  # of AWQ's clip search, with what they are compared with
_COPIES = 4  # of logits, and of a layer's weights, that are held at once or that the allocator does not give back
_MEASURED_AT_ONCE = HELDOUT[1]  # tokens
_FOUR_BITS = 0.53 + 0.03  # bytes per weight: with a 16-bit scale and a zero point per 128, and what is not quantized
_EXPORTER = 480 << 20  # of the process that exports, with torch and OGA's model builder imported
_VERIFIER = 440 << 20  # of the process that verifies, with transformers' tokenizer and OGA
_HEAD_BYTES = {4: 0.6, 8: 1.1, 16: 4.0}  # per weight of the output layer, by its bits
_REPACKED = 34  # bytes per weight of a linear that is repacked: the model builder has its numbers as int64, in copies


def peak_memory(checkpoint: Checkpoint, recipe: QuantRecipe, mapped: bool = True) -> int:
    """Bytes that the heaviest stage, quantizing, holds at its peak; fitted to benchmarks/build_memory.py.

    The whole model is loaded, from files that are mapped meanwhile. It is measured, with logits over the whole
    vocabulary; then AWQ keeps a layer's inputs for all calibration tokens, and copies of the layer; at the end Quark
    freezes a quantized copy of every linear.
    mapped: count the files' pages too, which the system can take back when memory is short.
    """
    shape, parameters = checkpoint.model.shape, checkpoint.weights.parameters
    size = _BYTES[checkpoint.weights.loaded_type(recipe.data_type)]
    loading = 2 * parameters if mapped else 0
    logits = _MEASURED_AT_ONCE * shape.vocabulary * size * _COPIES
    search = 0
    if recipe.quant_algo != "none":
        tokens = recipe.num_calib_data * recipe.seq_len
        layer = (parameters - shape.tables) // shape.layers
        search = (tokens * (5 * shape.hidden + shape.intermediate) + layer * _COPIES) * size + _PIECES
    frozen = (parameters - shape.tables) * size + _PIECES
    return _PROGRAM + parameters * size + max(loading, logits + search, frozen)


def export_memory(shape: Shape, target: ExportTarget) -> int:
    """Bytes that exporting holds at its peak, with pages of mapped files; fitted to benchmarks/export_memory.py.

    Embeddings and output layer stay mapped. Of the layers one is repacked, a linear at a time, while the one before it
    is still there; at the end the output layer is cast, turned around and written, each time as a copy.
    """
    linear = shape.hidden * max(shape.intermediate, shape.heads * shape.head_size)
    layers = 2 * int(_linears(shape) * _FOUR_BITS)
    head = 3 * shape.embeddings * (4 if target.execution_provider == "cpu" else 2)
    return _EXPORTER + 2 * shape.tables + max(_REPACKED * linear + layers, head)


def verify_memory(shape: Shape, group_size: int, target: ExportTarget) -> int:
    """Bytes that verification holds at its peak; fitted to benchmarks/export_memory.py.

    The model is loaded as it is served, with float32 embeddings and, for each group, a float32 scale, a zero point and
    what the processor's kernels keep; and it reads a sequence of held-out text.
    """
    numbers = shape.layers * _linears(shape)
    model = numbers // 2 + 8 * numbers // group_size + int(shape.embeddings * (4 + _HEAD_BYTES[target.lm_head_bits]))
    cache = 2 * 4 * shape.layers * shape.kv_heads * shape.head_size * HELDOUT[1]
    logits = 3 * 4 * shape.vocabulary * HELDOUT[1]
    return _VERIFIER + model + cache + logits


def disk(checkpoint: Checkpoint, recipe: QuantRecipe, target: ExportTarget) -> dict[str, int]:
    """Bytes that each stage needs on the disk, all of which are there at once before a model is published.

    The export is there twice: as its layers are finished, and as the model that is made of them.
    """
    shape, size = checkpoint.model.shape, _BYTES[checkpoint.weights.loaded_type(recipe.data_type)]
    linears = (checkpoint.weights.parameters - shape.tables) * _FOUR_BITS
    return {
        "calibrate": 1 << 20,
        "quantize": int(linears + shape.tables * size + _MEASURED_TOKENS * shape.vocabulary * 2) + (64 << 20),
        "export": int(2 * linears + shape.embeddings * (4 + 4 + 4 + _HEAD_BYTES[target.lm_head_bits])) + (16 << 20),
    }


def _linears(shape: Shape) -> int:
    """Weights of a decoder layer."""
    attention = 2 * shape.head_size * (shape.heads + shape.kv_heads)
    return shape.hidden * (attention + 3 * shape.intermediate)
