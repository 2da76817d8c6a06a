"""What a build will need of memory and disk, from what a checkpoint is. Pure."""

import math

from builder.checkpoint.checkpoint import Checkpoint
from builder.checkpoint.model import Shape
from builder.recipe import AWQ_EXPERT_SKETCH, AWQ_ROUNDS, AWQ_SKETCH, CHATS, HELDOUT, ExportTarget, QuantRecipe

_MEASURED_TOKENS = math.prod(HELDOUT) + math.prod(CHATS)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_PROGRAM = 550 << 20  # of the process that quantizes, with torch and Quark imported and nothing loaded
_COPIES = 2  # of a layer's weights: as they are, and rounded
_TRIED = 4  # times what a layer computes at once: as it is, as it is tried, and the difference
_PIECES = 128 << 20  # of weights that are rounded, and what the allocator does not give back
_SAMPLE = AWQ_ROUNDS[-1][0]  # tokens
_SEEN = AWQ_ROUNDS[-2][0]  # of them, before the last round
_MEASURED_AT_ONCE = HELDOUT[1]  # tokens
_MORE = {"none": 0.0, "q4_k_m": 0.06}  # bytes per weight, by the linears that have 8 bits instead
_FOUR_BITS = 0.53 + 0.03  # bytes per weight: with a 16-bit scale and a zero point per 128, and what is not quantized
_EXPORTER = 480 << 20  # of the process that exports, with torch and OGA's model builder imported
_VERIFIER = 140 << 20  # of the process that verifies, with OGA
_HEAD_BYTES = {4: 0.6, 8: 1.1, 16: 4.0}  # per weight of the output layer, by its bits
_EMBEDDING_BYTES = {8: 1.125, 16: 4.0}  # per weight, by their bits
_REPACKED = 34  # bytes per weight of a linear that is repacked: the model builder has its numbers as int64, in copies


def peak_memory(checkpoint: Checkpoint, recipe: QuantRecipe, mapped: bool = True) -> int:
    """Bytes that quantizing holds at its peak; fitted to benchmarks/build_memory.py.

    Either the two ends of the model, with logits over the whole vocabulary; or a layer in copies, with what goes into
    it and what comes out for all tokens, and what the search keeps of its inputs.
    mapped: count the pages of files too, which the system can take back when memory is short.
    """
    shape, size = checkpoint.model.shape, _BYTES[checkpoint.weights.loaded_type(recipe.data_type)]
    states = _states(shape, recipe, size)
    layer = (checkpoint.weights.parameters - shape.tables) // shape.layers * size
    ends = shape.tables * size + 3 * _MEASURED_AT_ONCE * shape.vocabulary * 4
    return _PROGRAM + max(ends, _held(shape, recipe, layer, size) + states * (2 if mapped else 1))


def _held(shape: Shape, recipe: QuantRecipe, layer: int, size: int) -> int:
    """Bytes of a layer of so many bytes, of what stands in its place, and of what it computes and is searched on."""
    if recipe.quant_algo != "awq" or recipe.awq_search != "fast" or shape.experts > 1:
        return _COPIES * layer + _activations(shape) + _search(shape, recipe, size)
    linear = 4 * shape.hidden * shape.intermediate
    tried = 2 * linear + (3 * linear if size < 4 else 0)  # computed with in float32, where nothing shorter is fast
    tokens = min(_calibrated(recipe), _SAMPLE)
    outputs = 4 * shape.hidden * (tokens - _SEEN if tokens > _SEEN else tokens)
    activations = _TRIED * (_activations(shape) - _PIECES)
    return layer + tried + outputs + activations + _search(shape, recipe, size)


def _states(shape: Shape, recipe: QuantRecipe, size: int) -> int:
    """Bytes of what goes into a layer: of GPTAQ, in the original model too."""
    calibrated = _calibrated(recipe) * (2 if recipe.quant_algo == "gptaq" else 1)
    return (calibrated + _MEASURED_TOKENS) * shape.hidden * size


def _activations(shape: Shape) -> int:
    """Bytes of what a layer has in memory while tokens go through it."""
    each = 4 * shape.intermediate + 6 * shape.hidden + shape.heads * _MEASURED_AT_ONCE
    return _MEASURED_AT_ONCE * each * 4 + _PIECES


def _calibrated(recipe: QuantRecipe) -> int:
    """Tokens that quantizing looks at, at most."""
    return 0 if recipe.quant_algo == "none" else recipe.num_calib_data * recipe.seq_len


def _search(shape: Shape, recipe: QuantRecipe, size: int) -> int:
    """Bytes of what an algorithm keeps of a layer's inputs besides."""
    tokens = _calibrated(recipe)
    rows = min(tokens, AWQ_SKETCH) * shape.heads * shape.head_size  # of o_proj; the next of down_proj
    rows += min(tokens, AWQ_SKETCH if shape.experts == 1 else AWQ_EXPERT_SKETCH) * shape.intermediate * shape.experts
    grams = (shape.hidden + shape.intermediate) * recipe.group_size * shape.experts if shape.experts > 1 else 0
    square = max(shape.hidden, shape.intermediate) ** 2 * 4
    if recipe.quant_algo == "gptq":
        return 2 * tokens * shape.hidden * size + 3 * square
    if recipe.quant_algo == "gptaq":
        return 3 * tokens * shape.hidden * size + 6 * square
    if recipe.quant_algo == "awq" and recipe.awq_search == "fast":
        return 2 * min(tokens, _SAMPLE) * shape.hidden * size + (rows + grams) * 4
    widths = shape.heads * shape.head_size + shape.intermediate * shape.active
    return tokens * (5 * shape.hidden + 4 * widths) * size  # Quark's own: all inputs, joined again


def export_memory(shape: Shape, target: ExportTarget) -> int:
    """Bytes that exporting holds at its peak, with pages of mapped files; fitted to benchmarks/export_memory.py.

    Embeddings and output layer stay mapped. Of the layers one is repacked, a linear at a time, while the one before it
    is still there; at the end the output layer is cast, turned around and written, each time as a copy.
    """
    linear = shape.hidden * max(shape.intermediate, shape.heads * shape.head_size)
    layers = 2 * int(shape.linears * _FOUR_BITS)
    head = 3 * shape.embeddings * (4 if target.execution_provider == "cpu" else 2)
    return _EXPORTER + 2 * shape.tables + max(_REPACKED * linear + layers, head)


def verify_memory(shape: Shape, group_size: int, target: ExportTarget) -> int:
    """Bytes that verification holds at its peak; fitted to benchmarks/export_memory.py.

    The model is loaded as it is served, with its embeddings and, for each group, a float32 scale, a zero point and
    what the processor's kernels keep; and it reads a sequence of held-out text.
    """
    numbers = shape.layers * shape.linears
    tables = shape.embeddings * (_EMBEDDING_BYTES[target.embedding_bits] + _HEAD_BYTES[target.lm_head_bits])
    model = numbers // 2 + 8 * numbers // group_size + int(tables)
    cache = 2 * 4 * shape.layers * shape.kv_heads * shape.head_size * HELDOUT[1]
    logits = 3 * 4 * shape.vocabulary * HELDOUT[1]
    return _VERIFIER + model + cache + logits


def measure_memory(checkpoint: Checkpoint, data_type: str, tokens: int, candidate: int) -> int:
    """Bytes that measuring a model of `candidate` bytes on so many tokens holds at its peak.

    What goes through the original, and with it first one of its layers, then its two ends beside the model that is
    measured, as float32 where it has 16 bits, and the logits of both.
    """
    shape, size = checkpoint.model.shape, _BYTES[checkpoint.weights.loaded_type(data_type)]
    states = 2 * tokens * shape.hidden * size
    layer = (checkpoint.weights.parameters - shape.tables) // shape.layers * size + _activations(shape)
    logits = 5 * 4 * shape.vocabulary * HELDOUT[1]
    return _PROGRAM + states + max(layer, shape.tables * size + candidate * 5 // 4 + logits)


def reference_memory(shape: Shape) -> int:
    """Bytes that computing with the weights of a quantized checkpoint holds at its peak: a layer, or the two ends.

    Of a layer there are the weights in float32 and the parts of the largest one as they are put together.
    """
    largest = shape.hidden * max(shape.intermediate, shape.heads * shape.head_size)
    layer = 4 * (shape.linears + 5 * largest) + _activations(shape)
    ends = 4 * shape.tables + 3 * 4 * _MEASURED_AT_ONCE * shape.vocabulary
    return _PROGRAM + max(layer, ends)


def export_disk(shape: Shape, target: ExportTarget) -> dict[str, int]:
    """Bytes that exporting a quantized checkpoint needs on the disk; what proves it is small beside them."""
    return {"export": _exported(shape.layers * shape.linears, shape, target)}


def _exported(weights: int, shape: Shape, target: ExportTarget, more: float = 0.0) -> int:
    tables = shape.embeddings * (2 * _EMBEDDING_BYTES[target.embedding_bits] + 4 + _HEAD_BYTES[target.lm_head_bits])
    return int(2 * weights * (_FOUR_BITS + more) + tables) + (16 << 20)


def disk(checkpoint: Checkpoint, recipe: QuantRecipe, target: ExportTarget) -> dict[str, int]:
    """Bytes that each stage needs on the disk, all of which are there at once before a model is published.

    Of quantizing there is what goes into a layer, and what comes out of it. The export is there twice: as its layers
    are finished, and as the model that is made of them.
    """
    shape, size = checkpoint.model.shape, _BYTES[checkpoint.weights.loaded_type(recipe.data_type)]
    weights, more = checkpoint.weights.parameters - shape.tables, _MORE[recipe.mixture]
    return {
        "calibrate": 1 << 20,
        "quantize": int(weights * (_FOUR_BITS + more) + shape.tables * size + _MEASURED_TOKENS * shape.vocabulary * 2)
        + 2 * _states(shape, recipe, size)
        + (64 << 20),
        "export": _exported(weights, shape, target, more),
    }
