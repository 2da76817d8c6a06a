"""Which linears of a quantized checkpoint are packed, and whether they lie as its config.json says. Headers only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from builder.checkpoint.checkpoint import Checkpoint
from builder.checkpoint.quantization import NEAREST, Packing
from builder.checkpoint.weights import Tensor, layer_of
from builder.errors import SourceError, UnsupportedModel

PER_WORD = 8  # numbers of 4 bits in an int32
_ROUTERS = (
    "*.gate",
    "*.router",
    "*.router.layer",
    "*.shared_expert_gate",
)  # of mixtures of experts, which nobody quantizes
_PACKED = ("I32", "U8")  # the second of single layers with 8 bits, as Quark packs them

# What each packing calls a linear's tensors: numbers, zero points, scales.
NAMES: Mapping[Packing, tuple[str, str, str]] = {
    "quark": ("weight", "weight_zero_point", "weight_scale"),
    "awq": ("qweight", "qzeros", "scales"),
    "gptq": ("qweight", "qzeros", "scales"),
    "gptq_v2": ("qweight", "qzeros", "scales"),
}


@dataclass(frozen=True, slots=True)
class Linear:
    """A packed linear layer. groups: of its inputs."""

    name: str
    inputs: int
    outputs: int
    groups: int


def packed_linears(checkpoint: Checkpoint) -> Iterator[Linear]:
    """Every packed linear of a checkpoint that is quantized. Raises SourceError for a tensor that lacks or is amiss."""
    found, tensors = checkpoint.quantization, checkpoint.weights.tensors
    assert found is not None and found.packing
    numbers, zeros, scales = NAMES[found.packing]
    for name, tensor in tensors.items():
        linear, _, suffix = name.rpartition(".")
        if suffix != numbers or tensor.dtype not in _PACKED:
            continue
        parts = {part: tensors.get(f"{linear}.{part}") for part in (zeros, scales)}
        if missing := [f"{linear}.{part}" for part, there in parts.items() if there is None]:
            raise SourceError(f"{checkpoint.path} has packed weights for {linear}, and no {' and no '.join(missing)}.")
        rows, columns = tensor.shape
        by_rows = found.packing.startswith("gptq")
        per_word = PER_WORD if tensor.dtype == "I32" else 1
        inputs, outputs = (rows * per_word, columns) if by_rows else (rows, columns * per_word)
        groups = inputs // found.group_size
        fitting = {zeros: (groups, outputs // per_word), scales: (groups, outputs)}
        for part, shape in fitting.items():
            there = parts[part]
            if there is None or there.shape != shape or inputs % found.group_size:
                raise SourceError(
                    f"{checkpoint.path} has {linear}.{part} of the shape {there and there.shape}, where its "
                    f"{tensor.shape} packed weights in groups of {found.group_size} need {shape}."
                )
        yield Linear(linear, inputs, outputs, groups)


def has_packed_head(checkpoint: Checkpoint) -> bool:
    """Whether the output layer came quantized: config.json does not always tell."""
    found = checkpoint.quantization
    assert found is not None and found.packing
    head = checkpoint.weights.tensors.get(f"lm_head.{NAMES[found.packing][0]}")
    return head is not None and head.dtype == "I32"


def check_packed(checkpoint: Checkpoint) -> None:
    """All linears of its decoder layers are packed, and as config.json says. Raises SourceError, UnsupportedModel."""
    packed = {linear.name for linear in packed_linears(checkpoint)}
    for linear in packed_linears(checkpoint):
        if layer_of(linear.name)[0] is None and linear.name != "lm_head":
            raise UnsupportedModel(f"{linear.name} is quantized too, which OGA's model builder cannot read. {NEAREST}")
    whole = [name for name, tensor in checkpoint.weights.tensors.items() if _is_whole_linear(checkpoint, name, tensor)]
    if whole or not packed:
        what = f"{whole[0].rpartition('.')[0]} is not" if whole else "no layer is"
        raise UnsupportedModel(
            f"{checkpoint.path} says that it is {checkpoint.quantization and checkpoint.quantization.named}, and "
            f"{what}: OGA's model builder cannot export decoder layers that are only partly quantized. {NEAREST}"
        )


def check_whole(checkpoint: Checkpoint) -> None:
    """A checkpoint that does not say it is quantized has no packed weights. Raises UnsupportedModel."""
    tensors = checkpoint.weights.tensors.items()
    packed = [name for name, tensor in tensors if name.endswith((".qweight", ".qzeros")) or tensor.dtype == "F8_E4M3"]
    if checkpoint.quantization is None and packed:
        raise UnsupportedModel(
            f"{checkpoint.path} has packed weights ({packed[0]}), and its config.json has no quantization_config that "
            f"says how to read them. {NEAREST}"
        )


def _is_whole_linear(checkpoint: Checkpoint, name: str, tensor: Tensor) -> bool:
    layer, own = layer_of(name)
    linear, _, suffix = own.rpartition(".")
    if layer is None or suffix != "weight" or len(tensor.shape) != 2 or tensor.dtype in _PACKED:
        return False
    left_alone = (*checkpoint.model.family.unquantized, *_ROUTERS)
    return not any(fnmatch(linear, pattern) or fnmatch(f"x.{linear}", pattern) for pattern in left_alone)
