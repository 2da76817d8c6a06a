"""What each choice of the recipe costs: a line for every algorithm, group size, output layer and embeddings.

    python -m benchmarks.recipe_quality                                       # the bundled demo
    python -m benchmarks.recipe_quality --algorithms awq gptq gptaq none --groups 128 64 32
    python -m benchmarks.recipe_quality --model FOLDER --group-size 64 --dataset offline --num-calib-data 8
    python -m benchmarks.recipe_quality --algorithms gptaq --mixtures none q4_k_m --beside q4_k_m.gguf

Everything is measured on the export, served on the CPU; the original is the checkpoint in the type it is loaded in.
Bits are of a weight of the decoder layers, with its share of a float32 scale and a zero point; seconds are of
quantizing; the peak is of memory, over all stages. With --beside every KL divergence is also told over that of another
model, a folder or a GGUF file, on the same tokens, with the error that the ratio has token by token; --text is more of
them than a build holds out.
"""

import argparse
import math
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np

from builder.build import BLOCKS, Plan, Proved, prove
from builder.checkpoint.checkpoint import Checkpoint, read_folder
from builder.checkpoint.source import locate, parse_source
from builder.commandline import Parser
from builder.flags import add_build_flags, recipe_from
from builder.measure import compare, text_blocks
from builder.progress import silent
from builder.quality import Loss, share, with_error
from builder.recipe import Algorithm, EmbeddingBits, ExportTarget, GroupSize, HeadBits, Mixture

KINDS, NAMES = ("text", "chats"), ("perplexity", "KL", "top-1")


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
    parser.add_argument("--mixtures", nargs="*", default=["none"])
    parser.add_argument("--heads", nargs="*", type=int, default=[8])
    parser.add_argument("--embeddings", nargs="*", type=int, default=[16])
    parser.add_argument("--beside", type=Path, metavar="OTHER", help="a model folder or a GGUF file to compare with")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="what to compare on (default: what a build holds out)"
    )
    flags = parser.parse_args()
    source = parse_source(flags.model, flags.revision)
    checkpoint, base = read_folder(locate(source).path), recipe_from(flags, source)
    heads = ["quant-algo", "group", "mixture", "bits", "head", "embeddings"]
    heads += (f"{kind}: {name}" for kind in KINDS for name in NAMES)
    heads += ["seconds", "peak", *(["KL over the other's"] if flags.beside else [])]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        knobs = product(flags.algorithms, flags.groups, flags.mixtures, flags.heads, flags.embeddings)
        for algorithm, group, mixture, head, embeddings in knobs:
            recipe = replace(
                base,
                quant_algo=cast(Algorithm, algorithm),
                group_size=cast(GroupSize, group),
                mixture=cast(Mixture, mixture),
            )
            target = ExportTarget(
                accuracy_level=flags.accuracy_level,
                lm_head_bits=cast(HeadBits, head),
                embedding_bits=cast(EmbeddingBits, embeddings),
            )
            proved = prove(Path(name), checkpoint, Plan(recipe, target, Path(name)), silent)
            peak = max(kept.result.get("peak_memory", 0) for kept in proved.stages.values()) >> 20
            bits, measured = proved.stages["export"].result["bits_per_weight"], proved.quality
            row = [algorithm, group, mixture, f"{bits:.2f}", head, embeddings]
            row += [
                cells(measured.text),
                cells(measured.chats),
                f"{proved.stages['quantize'].seconds:.0f}",
                f"{peak} MiB",
            ]
            if flags.beside:
                row.append(beside(proved, checkpoint, flags.beside, flags.text, recipe.data_type))
            print(f"| {' | '.join(map(str, row))} |", flush=True)


def beside(proved: Proved, checkpoint: Checkpoint, other: Path, text: Path | None, data_type: str) -> str:
    """The KL divergence over that of another model, on each kind of text."""
    if text:
        blocks = text_blocks(checkpoint, text, None)
    else:
        with np.load(proved.stages["calibrate"].folder / BLOCKS) as content:
            blocks = {kind: content[kind] for kind in KINDS}
    found = compare(checkpoint, [proved.stages["export"].folder, other], blocks, data_type, silent)
    told = []
    for kind, paired in found.paired.items():
        ratio, kl = paired.kl_ratio, found.measurements[kind].kl["mean"]
        told.append(f"{kind} {kl.value:.4f}: x{with_error(ratio.value, ratio.error or math.nan, 2)}")
    return ", ".join(told)


if __name__ == "__main__":
    main()
