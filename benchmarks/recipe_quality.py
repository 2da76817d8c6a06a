"""What each choice of the recipe costs: a line for every algorithm, group size and output layer, as a build measures.

    python -m benchmarks.recipe_quality                                       # the bundled demo
    python -m benchmarks.recipe_quality --algorithms awq gptq gptaq none --groups 128 64 32
    python -m benchmarks.recipe_quality --model FOLDER --group-size 64 --dataset offline --num-calib-data 8

Everything is measured on the export, served on the CPU; the original is the checkpoint in the type it is loaded in.
Bits are of a weight of the decoder layers, with its share of a float32 scale and a 4-bit zero point; seconds are of
quantizing; the peak is of memory, over all stages.
"""

import argparse
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import cast

from builder.build import Plan, prove
from builder.checkpoint.checkpoint import read_folder
from builder.checkpoint.source import locate, parse_source
from builder.commandline import Parser
from builder.flags import add_build_flags, recipe_from
from builder.progress import silent
from builder.quality import Loss, share, with_error
from builder.recipe import Algorithm, ExportTarget, GroupSize, HeadBits


def cells(loss: Loss | None) -> str:
    """Perplexity over the original's, KL divergence and top-1 agreement, each with its standard error."""
    if loss is None:
        return " |  | "
    ratio = with_error(loss.perplexity_ratio, loss.perplexity_ratio_error, 3)
    divergence = with_error(loss.kl_divergence, loss.kl_divergence_error, 4)
    return f"x{ratio} | {divergence} | {share(loss.top1_agreement, loss.top1_agreement_error)}"


def main() -> None:
    """Print a Markdown table."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = Parser("python -m benchmarks.recipe_quality", __doc__, formatter_class=formatter)
    add_build_flags(parser)
    parser.add_argument("--algorithms", nargs="*", default=["awq", "none"])
    parser.add_argument("--groups", nargs="*", type=int, default=[128])
    parser.add_argument("--heads", nargs="*", type=int, default=[8])
    flags = parser.parse_args()
    source = parse_source(flags.model, flags.revision)
    checkpoint, base = read_folder(locate(source).path), recipe_from(flags, source)
    print(
        "| quant-algo | group | bits | head | text: perplexity | KL | top-1 | chats: perplexity | KL | top-1 |", end=""
    )
    print(" seconds | peak |\n|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for algorithm, group, head in product(flags.algorithms, flags.groups, flags.heads):
            recipe = replace(base, quant_algo=cast(Algorithm, algorithm), group_size=cast(GroupSize, group))
            target = ExportTarget(accuracy_level=flags.accuracy_level, lm_head_bits=cast(HeadBits, head))
            proved = prove(Path(name), checkpoint, Plan(recipe, target, Path(name)), silent)
            peak = max(kept.result.get("peak_memory", 0) for kept in proved.stages.values()) >> 20
            first, measured = f"{algorithm} | {group} | {4 + 36 / group:.2f} | {head}", proved.quality
            seconds = f"{proved.stages['quantize'].seconds:.0f}"
            print(
                f"| {first} | {cells(measured.text)} | {cells(measured.chats)} | {seconds} | {peak} MiB |", flush=True
            )


if __name__ == "__main__":
    main()
