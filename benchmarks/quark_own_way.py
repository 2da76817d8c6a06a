"""Our quantize stage against Quark's own way: wall time, peak memory, and whether the weights are the same bits.

    python -m benchmarks.quark_own_way [CHECKPOINT] [--rounds 3] [--sequences 16] [--length 256]

Quark's own way is the sequence of calls of its command `quark-cli torch-llm-ptq`, with its defaults, in one process:
load, quantize, freeze, export. (Its loader wants the package accelerate; transformers' own stands in for it.) Both get
the same calibration tokens and load the checkpoint in the same type, by default as it is stored. Runs alternate, each
in a process of its own. The bits are the same only with --awq-search quark, the default here. Without a CHECKPOINT, one
of random parameters is made: four layers in the shapes of SmolLM2-135M.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
from safetensors.torch import load_file

from benchmarks.random_checkpoint import SIZES, random_checkpoint
from builder.checkpoint.checkpoint import read_folder
from builder.progress import silent
from builder.recipe import AwqSearch, QuantRecipe
from builder.stages.calibration import make_blocks
from builder.stages.quantize import CHECKPOINT
from builder.stages.stage import run_stage

OWN_WAY = """
import json, sys
from pathlib import Path
checkpoint, blocks, output, data_type = sys.argv[1:]
import numpy as np
import torch
from quark.torch import LLMTemplate, ModelQuantizer, export_safetensors
from quark.torch.utils.llm import get_tokenizer, preprocess_for_quantization
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=data_type).eval()
preprocess_for_quantization(model)
tokenizer = get_tokenizer(checkpoint, max_seq_len=512, model_type=model.config.model_type)
calibration = list(torch.split(torch.from_numpy(np.load(blocks)["calibration"]), 1))
config = LLMTemplate.get(model.config.model_type).get_config(scheme="uint4_wo_128", algorithm="awq")
quantizer = ModelQuantizer(config, False)
model = quantizer.freeze(quantizer.quantize_model(model, calibration))
with torch.no_grad():
    export_safetensors(
        model=model, output_dir=output, custom_mode="quark", weight_format="real_quantized", pack_method="reorder"
    )
tokenizer.save_pretrained(output)
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print(json.dumps({"peak_memory": int(peak) << 10}), file=sys.__stdout__)
"""


def own_way(checkpoint: Path, blocks: Path, output: Path, data_type: str) -> tuple[float, int]:
    """Seconds, and bytes at the peak."""
    started = time.perf_counter()
    command = [sys.executable, "-c", OWN_WAY, str(checkpoint), str(blocks), str(output), data_type]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    if done.returncode:
        sys.exit(f"Quark's own way failed:\n{done.stderr[-2000:]}")
    seconds = time.perf_counter() - started
    return seconds, json.loads(done.stdout.splitlines()[-1])["peak_memory"]


def ours(checkpoint: Path, blocks: Path, output: Path, data_type: str, awq_search: AwqSearch) -> tuple[float, int]:
    """The same of the stage that a build runs, which also measures the original and leaves the proof."""
    job: dict[str, Any] = {
        **asdict(QuantRecipe(awq_search=awq_search)), "data_type": data_type, "checkpoint": str(checkpoint),
        "blocks": str(blocks), "output": str(output), "layers": str(output.with_suffix(".layers")),
        "quantize_on": "cpu", "prompts": str(output.with_suffix(".prompts")),
    }  # fmt: skip
    Path(job["layers"]).mkdir()
    written = {"checkpoint": str(checkpoint), "output": job["prompts"]}
    run_stage("builder.stages.prompts", written, output.with_suffix(".log"), silent)
    started = time.perf_counter()
    result = run_stage("builder.stages.quantize", job, output.with_suffix(".log"), silent)
    return time.perf_counter() - started, result["peak_memory"]


def same_bits(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same tensors, in however many files."""
    first, second = (
        {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
        for folder in (one, other)
    )
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


def main() -> None:
    """Print a line for each run, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--data-type", help="that both load the checkpoint in (default: as it is stored)")
    parser.add_argument("--awq-search", choices=get_args(AwqSearch), default="quark", help="of our stage")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        checkpoint = flags.checkpoint or random_checkpoint(work / "random", SIZES["135M"].shortened(4))
        content = read_folder(checkpoint)
        data_type = flags.data_type or content.weights.stored_type
        recipe = QuantRecipe(dataset="demo", num_calib_data=flags.sequences, seq_len=flags.length)
        made = make_blocks(content, recipe)
        blocks = work / "blocks.npz"
        np.savez(blocks, calibration=made.calibration, text=made.heldout, chats=made.chats)

        figures: dict[str, list[tuple[float, int]]] = {"own": [], "ours": []}
        for number in range(flags.rounds):
            figures["own"].append(own_way(checkpoint, blocks, work / f"own-{number}", data_type))
            figures["ours"].append(ours(checkpoint, blocks, work / f"ours-{number}", data_type, flags.awq_search))
            for way, measured in figures.items():
                print(
                    f"round {number + 1}, {way}: {measured[-1][0]:.1f} s, peak {measured[-1][1] >> 20} MiB", flush=True
                )
            equal = same_bits(work / f"own-{number}", work / f"ours-{number}" / CHECKPOINT)
            print(f"round {number + 1}: the weights are {'the same bits' if equal else 'NOT the same'}", flush=True)
    seconds = {way: statistics.median(s for s, _ in measured) for way, measured in figures.items()}
    peak = {way: statistics.median(p for _, p in measured) for way, measured in figures.items()}
    print(f"{data_type}, {flags.sequences} x {flags.length} tokens; medians of {flags.rounds} rounds")
    for way in figures:
        print(f"  {way:<5} {seconds[way]:8.1f} s, peak {peak[way] / (1 << 20):8.0f} MiB")
    print(f"  ratio {seconds['ours'] / seconds['own']:8.2f}         {peak['ours'] / peak['own']:8.2f}")


if __name__ == "__main__":
    main()
