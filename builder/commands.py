"""What the command line asks for: a model folder for the chat, a build by itself, or one of its two heavy steps."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from builder import launch, steps
from builder.checkpoint.source import parse_source
from builder.commandline import Parser, Version
from builder.console import interrupts_raise
from builder.errors import BuildError
from builder.flags import (
    add_build_flags,
    add_export_flags,
    add_quantization_flags,
    models_dir_from,
    recipe_from,
    target_from,
)
from builder.kept.artifact import check_files
from builder.measure import LEAST_TOKENS, measure
from builder.progress import terminal
from builder.quality import Quality, share, with_error
from builder.recipe import DataType


def ready(flags: argparse.Namespace) -> tuple[Path, bool]:
    """The folder to serve, and whether it is the bundled demo; built first where it is missing or `--rebuild` is given.

    A folder that is already an export is served as it is. Raises BuildError.
    """
    folder = Path(flags.model).expanduser()
    exported = (folder / "genai_config.json").is_file()
    if exported and flags.rebuild:
        raise BuildError(f"--rebuild needs a checkpoint, and {flags.model} is an export already.")
    if not exported:
        folder = _found_or_built(flags)
    if flags.verify:
        check_files(folder)
    if note := launch.note_of(folder):
        print(note, file=sys.stderr)
    return folder, flags.model == "demo" and not exported


def _found_or_built(flags: argparse.Namespace) -> Path:
    source = parse_source(flags.model, flags.revision)
    recipe, models_dir = recipe_from(flags, source), models_dir_from(flags)
    target, auto_quality = target_from(flags, recipe.exclude_layers), flags.auto_quality
    found = None if flags.rebuild else launch.find(source, recipe, target, models_dir, auto_quality)
    if found is None:
        method = f"UINT4, {recipe.quant_algo}, group {recipe.group_size}, for {target.execution_provider}"
        with interrupts_raise(), terminal(f"Building {source.name}: {method}") as report:
            found = launch.make(source, recipe, target, models_dir, report, auto_quality, quantize_on=flags.quantize_on)
        print(launch.describe(found), file=sys.stderr)
    return found


# `python -m builder`


def run(arguments: list[str]) -> None:
    """Do what the arguments ask for; without any, print what they may be. Raises BuildError."""
    if not arguments:
        build_parser().print_help()
    elif arguments[0] == "quantize":
        quantize(quantize_parser().parse_args(arguments[1:]))
    elif arguments[0] == "export":
        export(export_parser().parse_args(arguments[1:]))
    elif arguments[0] == "measure":
        measured(measure_parser().parse_args(arguments[1:]))
    else:
        build(build_parser().parse_args(arguments))


def build_parser() -> Parser:
    """The flags of a whole build."""
    prog = _prog()
    parser = Parser(
        prog,
        "The whole build, without a chat at its end; or one of its two heavy steps by itself.",
        epilog=f"""steps by themselves:
  {prog} quantize --model_dir M --output_dir Q ...   a quantized checkpoint (--help tells more)
  {prog} export -i Q -o O -p int4 -e cpu             a model folder from it
what a model lost:
  {prog} measure FOLDER --against M                  perplexity and KL divergence from the original""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=Version)
    add_build_flags(parser)
    parser.add_argument("--output", type=Path, help="the folder to make, instead of one below the models folder")
    return parser


def quantize_parser() -> Parser:
    """The flags of the first step."""
    parser = Parser(f"{_prog()} quantize", quantize.__doc__)
    parser.add_argument("--model-dir", required=True, help="'demo', a local folder, or a Hugging Face id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--output-dir", type=Path, required=True, help="the folder to make")
    add_quantization_flags(parser)
    return parser


def export_parser() -> Parser:
    """The flags of the second step."""
    parser = Parser(f"{_prog()} export", export.__doc__)
    parser.add_argument("-i", "--input", type=Path, required=True, help="a quantized checkpoint")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to make")
    add_export_flags(parser)
    return parser


def measure_parser() -> Parser:
    """The flags of measuring."""
    parser = Parser(f"{_prog()} measure", measured.__doc__)
    parser.add_argument("folder", type=Path, help="a model folder, or a GGUF file where llama-cpp-python is installed")
    parser.add_argument("--against", required=True, metavar="MODEL", help="the original: 'demo', a folder, or a Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of the original on the Hub")
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help="what to measure on: .txt, or .jsonl with 'text' or chat 'messages' (default: what the build held out)",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, help="measure on so many at most (default: all there are)")
    parser.add_argument(
        "--data-type", choices=get_args(DataType), default="auto", help="type that the original is computed in"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="a file to write the figures into")
    return parser


def build(flags: argparse.Namespace) -> None:
    """From a checkpoint to a proved model folder."""
    source = parse_source(flags.model, flags.revision)
    recipe = recipe_from(flags, source)
    target, output = target_from(flags, recipe.exclude_layers), flags.output
    if output:
        steps.refuse_existing("--output", output)
    with terminal() as report:
        built = launch.make(
            source,
            recipe,
            target,
            models_dir_from(flags),
            report,
            auto_quality=flags.auto_quality,
            output=output.absolute() if output else None,
            quantize_on=flags.quantize_on,
        )
    print(launch.describe(built), file=sys.stderr)
    print(built)


def quantize(flags: argparse.Namespace) -> None:
    """From a checkpoint to a quantized checkpoint."""
    source = parse_source(flags.model_dir, flags.revision)
    recipe = recipe_from(flags, source)
    with terminal() as report:
        fetched, output = launch.fetch(source, recipe, report), flags.output_dir.absolute()
        made = steps.quantize_step(fetched, recipe, output, report, flags.quantize_on)
    print(made)


def export(flags: argparse.Namespace) -> None:
    """From a quantized checkpoint to a model folder."""
    quantized = steps.read_quantized(flags.input.absolute())
    target = target_from(flags, tuple(steps.quantized_by(quantized.checkpoint.quantization)["exclude_layers"]))
    with terminal() as report:
        made, quality = steps.export_step(quantized, target, flags.output.absolute(), report)
    print(_proof_line(quality), file=sys.stderr)
    if target.execution_provider != "cpu":
        print(f"run on the CPU: the kernels of {target.execution_provider} were not exercised", file=sys.stderr)
    print(made)


def measured(flags: argparse.Namespace) -> None:
    """What a model lost against its original, in the form of llama.cpp's tables."""
    if flags.tokens is not None and flags.tokens < LEAST_TOKENS:
        raise BuildError(f"--tokens {flags.tokens} are too few: the error would be larger than what is measured.")
    source = parse_source(flags.against, flags.revision, "--against")
    with interrupts_raise(), terminal() as report:
        found = measure(flags.folder, source, flags.text, flags.tokens, flags.data_type, report)
    if flags.json:
        facts = {"model": str(flags.folder), "against": source.name, **asdict(found)}
        flags.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for kind, measurement in found.measurements.items():
        print(f"{kind} (SHA-256 of all tokens {found.text[:12]})\n{measurement.table()}\n")


def _prog() -> str:
    script = Path(sys.argv[0]).stem
    return script if script == "oga-chat-builder" else "python -m builder"


def _proof_line(quality: Quality) -> str:
    if quality.export is None:
        return (
            "the weights were not proved: the checkpoint has no proof.npz, as 'python -m builder quantize' leaves one"
        )
    return (
        "against the quantized checkpoint: KL divergence "
        f"{with_error(quality.export.kl_divergence, quality.export.kl_divergence_error, 4)}, top-1 agreement "
        f"{share(quality.export.top1_agreement, quality.export.top1_agreement_error)}, largest difference of logits "
        f"{quality.export.max_difference:.2g}"
    )
