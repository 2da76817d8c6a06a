"""The command-line flags that both `python -m builder` and `python app.py` take, and what they mean as data."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from builder.checkpoint.source import Source
from builder.errors import BuildError
from builder.kept.artifact import default_models_dir
from builder.recipe import (
    QUALITIES,
    USUAL,
    AccuracyLevel,
    Algorithm,
    AwqSearch,
    CustomMode,
    DataType,
    Device,
    EmbeddingBits,
    ExecutionProvider,
    ExportTarget,
    GroupSize,
    HeadBits,
    Mixture,
    QualityName,
    QuantRecipe,
    usual_recipe,
)
from builder.stages.datasets import DATASETS, HUB_DATASETS, file_digest

PROVIDERS: tuple[ExecutionProvider, ...] = get_args(ExecutionProvider)


def add_build_flags(parser: argparse.ArgumentParser, providers: Sequence[str] = PROVIDERS) -> None:
    """Source, place, and every knob of recipe and target. providers: choices, of which the first is the default."""
    group = parser.add_argument_group("the model")
    group.add_argument("--model", default="demo", help="'demo' (bundled), a local folder, or a Hugging Face id")
    group.add_argument("--revision", help="branch, tag or commit on the Hub")
    group.add_argument(
        "--models-dir",
        type=Path,
        default=None,
        help=f"where built models are kept (default: OGA_CHAT_HOME, else {default_models_dir()})",
    )
    group.add_argument(
        "--quality", choices=get_args(QualityName),
        help="; ".join(f"{name}: {_said(*knobs)}" for name, knobs in QUALITIES.items())
        + f"; --quant-algo, --group-size and --mixture say otherwise (default: {_said(*USUAL)})",
    )  # fmt: skip
    add_quantization_flags(parser)
    add_export_flags(parser, providers)
    parser.add_argument(
        "--auto-quality",
        action="store_true",
        help="while the loss is above 0.05 nats per token, try an 8-bit output layer, groups of 32, GPTAQ, float32 "
        "activations",
    )


def add_original_flag(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """What a checkpoint that came quantized is measured against."""
    parser.add_argument(
        "--original", metavar="MODEL",
        help="of a checkpoint that is quantized already, what it was made from: a folder or a Hugging Face id, to "
        "measure what it lost",
    )  # fmt: skip


def add_quantization_flags(parser: argparse.ArgumentParser) -> None:
    """The knobs of the recipe, by the names of Quark's own example."""
    group = parser.add_argument_group("quantization (AMD Quark, UINT4 per group, asymmetric)")
    group.add_argument(
        "--quant-scheme", choices=["w_uint4_per_group_asym"], default="w_uint4_per_group_asym",
        help="the one there is: UINT4 weights, a scale and a zero point for each group",
    )  # fmt: skip
    group.add_argument(
        "--quant-algo", choices=get_args(Algorithm),
        help="awq searches scales, gptq rounds with second-order information, gptaq also makes up for what earlier "
        "layers lost and searches scales, none rounds to nearest (default: what --quality says, else awq)",
    )  # fmt: skip
    group.add_argument(
        "--awq-search", choices=get_args(AwqSearch), default="fast",
        help="how awq finds scales and clippings: fast, from samples and Gram matrices; quark, as Quark does by itself",
    )  # fmt: skip
    group.add_argument(
        "--group-size", type=int, choices=get_args(GroupSize),
        help="inputs that share a scale: smaller is closer to the original, larger is faster (default: what --quality "
        "says, else 128)",
    )  # fmt: skip
    group.add_argument(
        "--mixture", choices=get_args(Mixture),
        help="q4_k_m: 8 bits instead of 4 for attention's v_proj, then down_proj, in as many layers as llama.cpp's "
        "Q4_K_M has room for; not with awq or groups of 32 (default: what --quality says, else none)",
    )  # fmt: skip
    group.add_argument(
        "--data-type", choices=get_args(DataType), default="auto",
        help="type that weights are loaded in; auto: float32 below 300 million parameters and on processors without "
        "AVX-512, else the checkpoint's own",
    )  # fmt: skip
    group.add_argument(
        "--dataset",
        help=f"calibration text: {', '.join(map(repr, DATASETS))}, or a file: .txt, or .jsonl with 'text' or chat "
        "'messages'; 'offline' needs no download (default: pileval_for_awq_benchmark; demo: demo)",
    )
    group.add_argument("--num-calib-data", type=int, help="calibration sequences (default: 128; demo: 16)")
    group.add_argument("--seq-len", type=int, help="tokens per calibration sequence (default: 512; demo: 256)")
    group.add_argument(
        "--fallback-dataset",
        metavar="DATASET",
        default="",
        help="calibration text for when the Hub's cannot be had, for example 'offline' (default: stop and say so)",
    )
    group.add_argument(
        "--exclude-layers",
        nargs="*",
        default=["lm_head"],
        metavar="LAYER",
        help="linear layers to leave alone (default: lm_head; without a name: none, so lm_head is quantized too)",
    )
    group.add_argument(
        "--quantize-on", choices=get_args(Device), default="auto",
        help="what to quantize on, a layer at a time; auto: a GPU where torch finds one",
    )  # fmt: skip
    group.add_argument(
        "--custom-mode", choices=get_args(CustomMode), default="quark", help="format of the quantized checkpoint"
    )
    group.add_argument(
        "--model-export", choices=["quark_safetensors"], default="quark_safetensors", help="the one there is"
    )


def add_export_flags(parser: argparse.ArgumentParser, providers: Sequence[str] = PROVIDERS) -> None:
    """The knobs of the target, by the names of OGA's model builder."""
    group = parser.add_argument_group("export (ONNX Runtime GenAI model builder)")
    group.add_argument("-p", "--precision", choices=["int4"], default="int4", help="of the weights: the one there is")
    group.add_argument(
        "-e", "--execution-provider", choices=providers, default=providers[0],
        help="what to export for: cpu: float32 activations; dml, cuda, webgpu: float16"
        + ("; and to compute on (auto: what the model was exported for, else the CPU)" if "auto" in providers else ""),
    )  # fmt: skip
    group.add_argument(
        "--accuracy-level", type=int, choices=get_args(AccuracyLevel), default=4,
        help="4: int8 activations, fast; 1: float32 activations, exact",
    )  # fmt: skip
    group.add_argument(
        "--lm-head-bits", type=int, choices=get_args(HeadBits),
        help="of an output layer that is not quantized yet (default: 8; 16: left as it is)",
    )  # fmt: skip
    group.add_argument(
        "--embedding-bits", type=int, choices=get_args(EmbeddingBits),
        help="8: a quarter of the size, for the CPU only; 16: left as they are (default: 8 with --quality and for the "
        "CPU, else 16)",
    )  # fmt: skip


def _said(algorithm: Algorithm, group: GroupSize, mixture: Mixture) -> str:
    mixed = "" if mixture == "none" else f", --mixture {mixture}"
    return f"{algorithm} with groups of {group}{mixed}"


def recipe_from(flags: argparse.Namespace, source: Source) -> QuantRecipe:
    """The recipe; what was not given has the defaults of the source.

    Raises BuildError for a value out of range, and CalibrationError for a data set file that cannot be read.
    """
    usual = usual_recipe(demo=source.kind == "demo")
    dataset = flags.dataset or usual.dataset
    algorithm, group, mixture = QUALITIES[flags.quality] if getattr(flags, "quality", None) else USUAL
    if flags.custom_mode == "awq":  # the format of one algorithm
        algorithm = "awq"
    algorithm, group = flags.quant_algo or algorithm, flags.group_size or group
    if algorithm == "awq" or group == 32:  # which have 4 bits for every linear
        mixture = "none"
    fallback = flags.fallback_dataset if dataset in HUB_DATASETS else ""  # only those can be missing
    return QuantRecipe(
        quant_algo=algorithm,
        group_size=group,
        mixture=flags.mixture or mixture,
        data_type=flags.data_type,
        dataset=dataset,
        num_calib_data=usual.num_calib_data if flags.num_calib_data is None else flags.num_calib_data,
        seq_len=usual.seq_len if flags.seq_len is None else flags.seq_len,
        exclude_layers=tuple(flags.exclude_layers),
        custom_mode=flags.custom_mode,
        dataset_sha256=file_digest(dataset) or (file_digest(fallback) if fallback else ""),
        fallback_dataset=fallback,
        awq_search=flags.awq_search,
    )


def check_no_recipe(flags: argparse.Namespace, what: str) -> None:
    """No flag says how to quantize. Raises BuildError naming the first that does, for what came quantized."""
    for name in ("quality", "quant_algo", "group_size", "dataset", "num_calib_data", "seq_len"):
        if getattr(flags, name) is not None:
            raise BuildError(f"--{name.replace('_', '-')} is for original checkpoints, and {what}: leave it out.")
    if flags.mixture not in (None, "none"):
        raise BuildError(f"--mixture is for original checkpoints, and {what}: leave it out.")
    if flags.auto_quality:
        raise BuildError(f"--auto-quality is for original checkpoints, and {what}: leave it out.")


def target_from(flags: argparse.Namespace, exclude_layers: tuple[str, ...]) -> ExportTarget:
    """What to export for. Raises BuildError where --lm-head-bits is given for an output layer that Quark quantizes."""
    if not exclude_layers and flags.lm_head_bits not in (None, 4):
        raise BuildError(
            f"--lm-head-bits {flags.lm_head_bits} is for an output layer that is left alone, and --exclude-layers "
            "without a name lets Quark quantize it to 4 bits: give one of the two."
        )
    bits: HeadBits = flags.lm_head_bits or (8 if exclude_layers else 4)
    # What is only for serving (auto, openvino) runs what is exported for the CPU.
    provider: ExecutionProvider = flags.execution_provider if flags.execution_provider in PROVIDERS else "cpu"
    usual: EmbeddingBits = 8 if getattr(flags, "quality", None) and provider == "cpu" else 16
    return ExportTarget(provider, flags.accuracy_level, bits, flags.embedding_bits or usual)


def models_dir_from(flags: argparse.Namespace) -> Path:
    """Where models are kept."""
    return flags.models_dir.expanduser() if flags.models_dir else default_models_dir()
