"""The command-line flags that both `python -m builder` and `python app.py` take, and what they mean as data."""

import argparse
from pathlib import Path
from typing import get_args

from builder.artifact import default_models_dir
from builder.calibration import DATASETS, HUB_DATASETS, file_digest
from builder.recipe import (
    AccuracyLevel,
    Algorithm,
    DataType,
    ExecutionProvider,
    ExportTarget,
    GroupSize,
    HeadBits,
    QuantRecipe,
)
from builder.source import Source


def add_build_flags(parser: argparse.ArgumentParser) -> None:
    """Source, place, and every knob of recipe and target."""
    group = parser.add_argument_group("the model")
    group.add_argument("--model", default="demo", help="'demo' (bundled), a local folder, or a Hugging Face id")
    group.add_argument("--revision", help="branch, tag or commit on the Hub")
    group.add_argument(
        "--models-dir",
        type=Path,
        default=None,
        help=f"where built models are kept (default: OGA_CHAT_HOME, else {default_models_dir()})",
    )
    group = parser.add_argument_group("quantization (AMD Quark, UINT4 per group, asymmetric)")
    group.add_argument("--quant-algo", choices=get_args(Algorithm), default="awq", help="none: round to nearest")
    group.add_argument("--group-size", type=int, choices=get_args(GroupSize), default=128)
    group.add_argument("--data-type", choices=get_args(DataType), default="auto", help="type of what is not quantized")
    group.add_argument(
        "--dataset",
        help=f"calibration text: {', '.join(map(repr, DATASETS))}, or a .txt or .jsonl file (default: what fits the "
        "model)",
    )
    group.add_argument("--num-calib-data", type=int, help="calibration sequences (default: 128; demo: 16)")
    group.add_argument("--seq-len", type=int, help="tokens per calibration sequence (default: 512; demo: 256)")
    group.add_argument(
        "--fallback-dataset",
        metavar="DATASET",
        default="",
        help="calibration text for when the Hub's cannot be had, for example 'offline' (default: stop and say so)",
    )
    group = parser.add_argument_group("export (ONNX Runtime GenAI model builder, -p int4)")
    group.add_argument("-e", "--execution-provider", choices=get_args(ExecutionProvider), default="cpu")
    group.add_argument(
        "--accuracy-level", type=int, choices=get_args(AccuracyLevel), default=4,
        help="4: int8 activations, fast; 1: float32 activations, exact",
    )  # fmt: skip
    group.add_argument("--lm-head-bits", type=int, choices=get_args(HeadBits), default=8)


def recipe_from(flags: argparse.Namespace, source: Source) -> QuantRecipe:
    """The recipe; what was not given has the defaults of the source.

    Raises BuildError for a value out of range, and CalibrationError for a data set file that cannot be read.
    """
    dataset, sequences, length = ("demo", 16, 256) if source.kind == "demo" else ("pileval_for_awq_benchmark", 128, 512)
    dataset = flags.dataset or dataset
    fallback = flags.fallback_dataset if dataset in HUB_DATASETS else ""  # only those can be missing
    return QuantRecipe(
        quant_algo=flags.quant_algo,
        group_size=flags.group_size,
        data_type=flags.data_type,
        dataset=dataset,
        num_calib_data=sequences if flags.num_calib_data is None else flags.num_calib_data,
        seq_len=length if flags.seq_len is None else flags.seq_len,
        dataset_sha256=file_digest(dataset) or (file_digest(fallback) if fallback else ""),
        fallback_dataset=fallback,
    )


def target_from(flags: argparse.Namespace) -> ExportTarget:
    """What to export for."""
    return ExportTarget(flags.execution_provider, flags.accuracy_level, flags.lm_head_bits)


def models_dir_from(flags: argparse.Namespace) -> Path:
    """Where models are kept."""
    return flags.models_dir.expanduser() if flags.models_dir else default_models_dir()
