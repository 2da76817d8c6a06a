"""Every knob of a build as frozen data, with a content hash that names the result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from builder.errors import BuildError

GroupSize = Literal[32, 64, 128]
Mixture = Literal["none", "q4_k_m"]
Algorithm = Literal["awq", "gptq", "gptaq", "none"]
QualityName = Literal["fast", "balanced", "best"]
DataType = Literal["auto", "float32", "bfloat16", "float16"]
ExecutionProvider = Literal["cpu", "dml", "cuda", "webgpu"]
AccuracyLevel = Literal[1, 4]
HeadBits = Literal[4, 8, 16]
EmbeddingBits = Literal[8, 16]
CustomMode = Literal["quark", "awq"]
Device = Literal["auto", "cpu", "cuda", "xpu", "mps"]
AwqSearch = Literal["fast", "quark"]

# What --quality stands for, each chosen by what it lost (docs/numbers.md): an algorithm, channels in a group, and which
# linears have 8 bits.
QUALITIES: Mapping[QualityName, tuple[Algorithm, GroupSize, Mixture]] = {
    "fast": ("none", 64, "none"),
    "balanced": ("gptaq", 128, "none"),
    "best": ("gptaq", 64, "q4_k_m"),
}
# Without it, as Quark's example has it: no algorithm has won everywhere.
USUAL: tuple[Algorithm, GroupSize, Mixture] = ("awq", 128, "none")

# What every recipe is measured on: sequences of text and of conversations, and tokens in each.
HELDOUT = (4, 512)
CHATS = (4, 512)

# How AWQ's fast search looks: scales it tries; tokens seen by the end of a round, and scales left after it; rows that
# stand for all tokens where one linear is searched alone, and where it is one of many experts'.
AWQ_RATIOS = 20
AWQ_ROUNDS = ((512, 5), (4096, 2), (16_384, 1))
AWQ_SKETCH, AWQ_EXPERT_SKETCH = 4096, 512

# Of the mean of a Gram matrix's diagonal, what GPTAQ adds to it before it rounds. Quark's 0.01 makes more
# of what few tokens say of the others: on text of other kinds it loses a tenth to a fifth more.
GPTAQ_DAMPING = 0.1

# Changes whenever the same recipe would give another artifact, so that older builds are not taken for current ones.
FORMAT = 3


@dataclass(frozen=True, slots=True)
class QuantRecipe:
    """How Quark quantizes: UINT4 weights per group, asymmetric.

    quant_algo: "awq" searches scales (arXiv:2306.00978), "gptq" rounds with second-order information
    (arXiv:2210.17323), "gptaq" does so towards the original model's outputs (arXiv:2504.02692), with scales that are
    searched, "none" rounds to nearest.
    awq_search: "fast" finds AWQ's scales and clippings from samples and Gram matrices, "quark" as Quark does.
    group_size: input channels that share a scale and a zero point.
    mixture: "q4_k_m" gives 8 bits instead of 4 to as many linears as llama.cpp's Q4_K_M has room for
    (stages/mixture.py).
    data_type: of the loaded checkpoint and of what stays unquantized; "auto" is float32 below 300 million
    parameters, where its exactness costs little, and on processors that multiply nothing shorter fast; else the
    checkpoint's own type.
    dataset: "demo", "offline", "pileval_for_awq_benchmark", "wikitext", or the path of a UTF-8 text or .jsonl file.
    num_calib_data, seq_len: calibration sequences, and tokens in each; of the Pile, documents, as Quark counts them.
    dataset_sha256: of the file's content, where dataset or fallback_dataset is a file: an edited one is another recipe.
    fallback_dataset: what stands in, named as dataset is, where a data set of the Hub cannot be had; "" for nothing.
    exclude_layers: linear layers that Quark leaves alone: ("lm_head",), or () to quantize the output layer too.
    custom_mode: how the quantized checkpoint is written, "quark" or the format of AWQ's authors; the weights are equal.
    """

    quant_algo: Algorithm = "awq"
    group_size: GroupSize = 128
    data_type: DataType = "auto"
    dataset: str = "pileval_for_awq_benchmark"
    num_calib_data: int = 128
    seq_len: int = 512
    exclude_layers: tuple[str, ...] = ("lm_head",)
    custom_mode: CustomMode = "quark"
    dataset_sha256: str = ""
    fallback_dataset: str = ""
    awq_search: AwqSearch = "fast"
    mixture: Mixture = "none"

    def __post_init__(self) -> None:
        if self.quant_algo not in get_args(Algorithm):
            raise BuildError(f"--quant-algo must be one of {', '.join(get_args(Algorithm))}, not {self.quant_algo!r}.")
        if self.awq_search not in get_args(AwqSearch):
            raise BuildError(f"--awq-search must be one of {', '.join(get_args(AwqSearch))}, not {self.awq_search!r}.")
        if self.mixture not in get_args(Mixture):
            raise BuildError(f"--mixture must be one of {', '.join(get_args(Mixture))}, not {self.mixture!r}.")
        if self.mixture != "none" and self.quant_algo == "awq":
            raise BuildError(
                f"--mixture {self.mixture} needs an algorithm that rounds to 8 bits as well, and --quant-algo is awq: "
                "use gptaq, gptq or none."
            )
        if self.mixture != "none" and self.group_size == 32:
            raise BuildError(
                f"--mixture {self.mixture} has no room for 8 bits where --group-size is 32: use 64 or 128."
            )
        if self.group_size not in get_args(GroupSize):
            raise BuildError(f"--group-size must be 32, 64 or 128, not {self.group_size}.")
        if self.data_type not in get_args(DataType):
            raise BuildError(f"--data-type must be one of {', '.join(get_args(DataType))}, not {self.data_type!r}.")
        if self.num_calib_data < 1:
            raise BuildError(f"--num-calib-data must be 1 or more, not {self.num_calib_data}.")
        if not 16 <= self.seq_len <= 8192:
            raise BuildError(f"--seq-len must be from 16 to 8192 tokens, not {self.seq_len}.")
        if self.exclude_layers not in ((), ("lm_head",)):
            raise BuildError(
                f"--exclude-layers can name lm_head or nothing, not {' '.join(self.exclude_layers)}: OGA's model "
                "builder cannot export a decoder layer that is only partly quantized."
            )
        if self.custom_mode not in get_args(CustomMode):
            raise BuildError(
                f"--custom-mode must be one of {', '.join(get_args(CustomMode))}, not {self.custom_mode!r}."
            )
        if self.custom_mode == "awq" and self.quant_algo != "awq":
            raise BuildError(f"--custom-mode awq writes AWQ's format, and --quant-algo is {self.quant_algo}: use awq.")


# The knobs that the calibration text depends on, and so what is held out of it.
CALIBRATION = ("dataset", "dataset_sha256", "fallback_dataset", "num_calib_data", "seq_len")


def usual_recipe(demo: bool) -> QuantRecipe:
    """What is built where nothing is asked for, of the bundled demo or of another model."""
    return QuantRecipe(dataset="demo", num_calib_data=16, seq_len=256) if demo else QuantRecipe()


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """What OGA's model builder is asked for, always with `-p int4`.

    execution_provider: cpu has float32 activations, dml, cuda and webgpu float16.
    accuracy_level: 4 computes with int8 activations, three times as fast on a CPU as 1, which computes in float32.
    lm_head_bits: of the output layer where Quark leaves it alone: 8, because 4 gives back what AWQ wins; 16 leaves it
    as it is.
    embedding_bits: 8, of which there are kernels for the CPU; 16 leaves them as they are, float32 on a CPU.
    """

    execution_provider: ExecutionProvider = "cpu"
    accuracy_level: AccuracyLevel = 4
    lm_head_bits: HeadBits = 8
    embedding_bits: EmbeddingBits = 16

    def __post_init__(self) -> None:
        if self.execution_provider not in get_args(ExecutionProvider):
            raise BuildError(
                f"--execution-provider must be one of {', '.join(get_args(ExecutionProvider))}, "
                f"not {self.execution_provider!r}."
            )
        if self.accuracy_level not in get_args(AccuracyLevel):
            raise BuildError(f"--accuracy-level must be 1 or 4, not {self.accuracy_level}.")
        if self.lm_head_bits not in get_args(HeadBits):
            raise BuildError(f"--lm-head-bits must be 4, 8 or 16, not {self.lm_head_bits}.")
        if self.embedding_bits not in get_args(EmbeddingBits):
            raise BuildError(f"--embedding-bits must be 8 or 16, not {self.embedding_bits}.")
        if self.embedding_bits == 8 and self.execution_provider != "cpu":
            raise BuildError(
                f"--embedding-bits 8 is for --execution-provider cpu, and it is {self.execution_provider}: use 16."
            )


def recipe_hash(recipe: QuantRecipe, target: ExportTarget) -> str:
    """Twelve hexadecimal digits that change with every knob."""
    wanted = asdict(target)
    if target.embedding_bits == ExportTarget().embedding_bits:  # which builds have that are older than the knob
        del wanted["embedding_bits"]
    return content_hash({"recipe": depends_on(recipe), "target": wanted})


def depends_on(recipe: QuantRecipe) -> dict[str, Any]:
    """What the quantized weights depend on, by name: the recipe's, and what its algorithm has besides."""
    return asdict(recipe) | ({"damping": GPTAQ_DAMPING} if recipe.quant_algo == "gptaq" else {})


def content_hash(content: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that change with every value of it."""
    return hashlib.sha256(json.dumps({"format": FORMAT, **content}, sort_keys=True).encode()).hexdigest()[:12]
