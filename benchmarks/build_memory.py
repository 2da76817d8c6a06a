"""Peak memory of builds against the estimates that preflight refuses by, on random models in the shapes of known ones.

    python -m benchmarks.build_memory 135M 1.1B                                       # whole builds
    python -m benchmarks.build_memory 135M 1.1B 7B --layers 2 --quantize --sequences 16 128 --length 512

Every stage runs in a process of its own. What quantizing holds depends on a layer and on the calibration, not on how
many layers there are. A name may also be the folder of a checkpoint.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.random_checkpoint import SIZES, random_checkpoint
from builder.build import Plan, prove, quantize, write_prompts
from builder.checkpoint.checkpoint import Checkpoint, read_folder
from builder.checkpoint.resources import export_memory, peak_memory, verify_memory
from builder.progress import silent
from builder.recipe import ExportTarget, QuantRecipe


def checkpoints(names: list[str], layers: int | None, work: Path) -> Iterator[tuple[str, int, Path]]:
    """Folders that are named, and random ones made one at a time, each with the group that divides it."""
    for name in names:
        if name not in SIZES:
            yield name, 128, Path(name)
            continue
        size = SIZES[name].shortened(layers)
        yield name, size.group, random_checkpoint(work / name, size)
        shutil.rmtree(work / name)


def peaks(work: Path, checkpoint: Checkpoint, recipe: QuantRecipe, whole: bool) -> dict[str, int]:
    """Bytes that each stage held at most."""
    work.mkdir()
    try:
        if whole:
            stages = prove(work, checkpoint, Plan(recipe, ExportTarget(), work), silent).stages
        else:
            prompts = write_prompts(work, checkpoint, silent)
            stages = {"quantize": quantize(work, checkpoint, prompts, recipe, silent, "auto")[1]}
        return {name: kept.result["peak_memory"] for name, kept in stages.items() if "peak_memory" in kept.result}
    finally:
        shutil.rmtree(work)


def main() -> None:
    """Print a line for each checkpoint and number of sequences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help=f"{', '.join(SIZES)}, or a folder")
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--quantize", action="store_true", help="this stage alone")
    parser.add_argument("--algorithm", default="awq", choices=["awq", "gptq", "gptaq", "none"])
    parser.add_argument("--sequences", type=int, nargs="+", default=[4])
    parser.add_argument("--length", type=int, default=256)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for model, group, folder in checkpoints(flags.models, flags.layers, Path(name)):
            for sequences in flags.sequences:
                recipe = QuantRecipe(
                    quant_algo=flags.algorithm, group_size=group, dataset="demo", num_calib_data=sequences,
                    seq_len=flags.length,
                )  # fmt: skip
                checkpoint, began = read_folder(folder), time.perf_counter()
                found = peaks(Path(name) / "stages", checkpoint, recipe, not flags.quantize)
                seconds = time.perf_counter() - began
                estimates = {
                    "quantize": peak_memory(checkpoint, recipe),
                    "export": export_memory(checkpoint.model.shape, ExportTarget()),
                    "verify": verify_memory(checkpoint.model.shape, group, ExportTarget()),
                }
                parts = (f"{stage} {peak >> 20} ({estimates[stage] / peak:.2f})" for stage, peak in found.items())
                what = f"{model}, {checkpoint.weights.loaded_type('auto')}, {sequences} x {flags.length}"
                print(f"{what}: MiB (estimate over them): {', '.join(parts)}; {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
