"""Kill the quantization of a model at random moments, and show that no finished layer is made again.

    python -m tests.kill_layers [--kills 30] [--seed 0] [--model FOLDER] [--sequences 8] [--length 128]

Each round quantizes with AWQ from the start: it is killed (SIGKILL) at moments drawn uniformly from the time that a
whole run takes, and started again, until it comes to its end. The script ends with an error if a layer that was kept is
made again, or if a round's tensors are not those of a run that nobody killed, bit for bit. Not part of the tests: 30
kills take about a quarter of an hour.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from builder.build import BLOCKS
from builder.checkpoint.checkpoint import read_folder
from builder.demo import CHECKPOINT as DEMO
from builder.kept.results import sha256
from builder.progress import silent
from builder.recipe import QuantRecipe
from builder.stages.calibration import make_blocks
from builder.stages.quantize import CHECKPOINT
from builder.stages.stage import run_stage
from tests.hub import ROOT

Seals = dict[str, tuple[int, int]]


def start(job: Path) -> "subprocess.Popen[bytes]":
    """The stage, in a session of its own so that all of it can be killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kill_layers", "--job", str(job)], cwd=ROOT, start_new_session=True
    )


def seals(layers: Path) -> Seals:
    """Finished layers, told from one made again by inode and time."""
    return {
        seal.name: (seal.stat().st_ino, seal.stat().st_mtime_ns)
        for seal in layers.glob("layer-*.json")
        if seal.with_suffix("").is_dir()
    }


def weights(output: Path) -> dict[str, str]:
    """The hashes of what was quantized."""
    return {file.name: sha256(file) for file in sorted((output / CHECKPOINT).glob("*.safetensors"))}


def main() -> None:
    """Print a line for each kill and the counts at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, default=DEMO)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.job:
        run_stage("builder.stages.quantize", json.loads(flags.job.read_text()), flags.job.with_suffix(".log"), silent)
        return
    work, rng = Path(tempfile.mkdtemp()), random.Random(flags.seed)
    recipe = QuantRecipe(dataset="demo", num_calib_data=flags.sequences, seq_len=flags.length)
    blocks = make_blocks(read_folder(flags.model), recipe)
    np.savez(work / BLOCKS, calibration=blocks.calibration, text=blocks.heldout, chats=blocks.chats)
    layers, output, job = work / "layers", work / "output", work / "job.json"
    prompts = work / "prompts"
    run_stage("builder.stages.prompts", {"checkpoint": str(flags.model), "output": str(prompts)}, work / "log", silent)
    paths = {
        "checkpoint": flags.model, "prompts": prompts, "blocks": work / BLOCKS, "layers": layers, "output": output
    }  # fmt: skip
    job.write_text(
        json.dumps({**asdict(recipe), **{name: str(path) for name, path in paths.items()}, "quantize_on": "cpu"})
    )
    layers.mkdir()
    began = time.monotonic()
    if start(job).wait():
        sys.exit(f"the run that nobody kills failed: see {job.with_suffix('.log')}")
    whole, expected = time.monotonic() - began, weights(output)
    kills = again = rounds = 0
    shutil.rmtree(layers), layers.mkdir()
    known: Seals = {}
    while kills < flags.kills:
        shutil.rmtree(output, ignore_errors=True)
        process = start(job)
        try:
            code = process.wait(timeout=rng.uniform(0, whole))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            code = None
        now = seals(layers)
        again += sum(now.get(name) != seal for name, seal in known.items())
        known = now
        if code is None:
            print(f"kill {kills}: {len(known)} of {len(expected) - 1} layers are kept", flush=True)
        elif code or weights(output) != expected:
            sys.exit(f"a run that was killed before came to another end (code {code})")
        else:
            rounds, known = rounds + 1, {}
            shutil.rmtree(layers), layers.mkdir()
    print(f"{kills} kills in {rounds} rounds that came to their end: {again} finished layers were made again")
    shutil.rmtree(work)
    if again:
        sys.exit(1)


if __name__ == "__main__":
    main()
