"""Peak memory of whole builds against the estimate that preflight refuses by, on random llamas of growing size.

    python -m benchmarks.build_memory                       # four sizes, about 20 minutes on two cores
    python -m benchmarks.build_memory --sizes 60 --checkpoint FOLDER --group-size 64

Every stage runs in a process of its own; the largest peak of them is the build's.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.random_checkpoint import LLAMA, Size, random_checkpoint
from builder.build import Plan, prove
from builder.checkpoint.checkpoint import read_folder
from builder.checkpoint.resources import peak_memory
from builder.progress import silent
from builder.recipe import ExportTarget, QuantRecipe

# Millions of parameters: hidden size, intermediate size, layers, vocabulary.
SIZES = {
    60: (768, 2048, 8, 1856),
    150: (1024, 2816, 10, 16384),
    350: (1536, 4096, 12, 8192),
    700: (2048, 5632, 13, 16384),
}


def size(millions: int) -> Size:
    """A llama of that many parameters."""
    hidden, intermediate, layers, vocabulary = SIZES[millions]
    return Size(f"{millions} M", {
        **LLAMA, "vocab_size": vocabulary, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64,
        "tie_word_embeddings": True,
    })  # fmt: skip


def checkpoints(sizes: list[int], folders: list[Path], work: Path) -> Iterator[Path]:
    """The folders named, and random ones made one at a time."""
    yield from folders
    for millions in sizes:
        yield random_checkpoint(work / f"{millions}M", size(millions))
        shutil.rmtree(work / f"{millions}M")


def main() -> None:
    """Print a line for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", choices=list(SIZES), default=list(SIZES), help="in millions")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    flags = parser.parse_args()
    recipe = QuantRecipe(dataset="demo", num_calib_data=flags.sequences, seq_len=flags.length)
    recipe = replace(recipe, group_size=flags.group_size)
    print("parameters  16-bit size  loaded as   quantize  export  verify  peak  estimate  peak / estimate  seconds")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for folder in checkpoints(flags.sizes, flags.checkpoint, work):
            checkpoint = read_folder(folder)
            parameters = checkpoint.weights.parameters
            data_type = checkpoint.weights.loaded_type(recipe.data_type)
            began = time.perf_counter()
            (work / "stages").mkdir()
            proved = prove(work / "stages", checkpoint, Plan(recipe, ExportTarget(), work), silent)
            seconds = time.perf_counter() - began
            shutil.rmtree(work / "stages")
            peaks = [proved.stages[stage].result["peak_memory"] >> 20 for stage in ("quantize", "export", "verify")]
            estimate = peak_memory(checkpoint, recipe) >> 20
            print(
                f"{parameters / 1e6:8.1f} M {2 * parameters >> 20:8} MiB  {data_type:<9} {peaks[0]:7} {peaks[1]:7} "
                f"{peaks[2]:7} {max(peaks):6} {estimate:8} {max(peaks) / estimate:12.2f} {seconds:13.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
