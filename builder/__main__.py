"""`python -m builder`: the whole build, without a chat at its end; or one of its two heavy steps by itself."""

import argparse
import sys
from pathlib import Path

from builder import launch, steps
from builder.checkpoint.source import parse_source
from builder.errors import BuildError
from builder.flags import (
    add_build_flags,
    add_export_flags,
    add_quantization_flags,
    kebab,
    models_dir_from,
    recipe_from,
    target_from,
)
from builder.progress import terminal
from builder.quality import Quality

STEPS = """steps by themselves:
  python -m builder quantize --model_dir M --output_dir Q ...   a quantized checkpoint (--help tells more)
  python -m builder export -i Q -o O -p int4 -e cpu             a model folder from it"""


def main() -> int:
    """Build a model folder and print its path. Returns the exit code: 2 for an error the user can mend."""
    arguments = kebab(sys.argv[1:])
    command = {"quantize": quantize, "export": export}.get(arguments[0] if arguments else "")
    try:
        if command:
            command(arguments[1:])
        else:
            build(arguments)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped: what was finished is kept, and the next build goes on from there.", file=sys.stderr)
        return 130
    return 0


def build(arguments: list[str]) -> None:
    """From a checkpoint to a proved model folder."""
    parser = argparse.ArgumentParser(
        prog="python -m builder",
        description=__doc__,
        epilog=STEPS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_build_flags(parser)
    parser.add_argument("--output", type=Path, help="the folder to make, instead of one below the models folder")
    flags = parser.parse_args(arguments)
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
        )
    print(launch.describe(built), file=sys.stderr)
    print(built)


def quantize(arguments: list[str]) -> None:
    """From a checkpoint to a quantized checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m builder quantize", description=quantize.__doc__)
    parser.add_argument("--model-dir", required=True, help="'demo', a local folder, or a Hugging Face id")
    parser.add_argument("--revision", help="branch, tag or commit on the Hub")
    parser.add_argument("--output-dir", type=Path, required=True, help="the folder to make")
    add_quantization_flags(parser)
    flags = parser.parse_args(arguments)
    source = parse_source(flags.model_dir, flags.revision)
    recipe = recipe_from(flags, source)
    with terminal() as report:
        made = steps.quantize_step(launch.fetch(source, recipe, report), recipe, flags.output_dir.absolute(), report)
    print(made)


def export(arguments: list[str]) -> None:
    """From a quantized checkpoint to a model folder."""
    parser = argparse.ArgumentParser(prog="python -m builder export", description=export.__doc__)
    parser.add_argument("-i", "--input", type=Path, required=True, help="a quantized checkpoint")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to make")
    add_export_flags(parser)
    flags = parser.parse_args(arguments)
    quantized = steps.read_quantized(flags.input.absolute())
    target = target_from(flags, tuple(steps.quantized_by(quantized.checkpoint.quantization)["exclude_layers"]))
    with terminal() as report:
        made, quality = steps.export_step(quantized, target, flags.output.absolute(), report)
    print(_proof_line(quality), file=sys.stderr)
    if target.execution_provider != "cpu":
        print(f"run on the CPU: the kernels of {target.execution_provider} were not exercised", file=sys.stderr)
    print(made)


def _proof_line(quality: Quality) -> str:
    if quality.export is None:
        return (
            "the weights were not proved: the checkpoint has no proof.npz, as 'python -m builder quantize' leaves one"
        )
    return (
        f"against the quantized checkpoint: KL divergence {quality.export.kl_divergence:.2g}, top-1 agreement "
        f"{quality.export.top1_agreement:.1%}, largest difference of logits {quality.export.max_difference:.2g}"
    )


if __name__ == "__main__":
    sys.exit(main())
