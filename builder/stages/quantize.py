"""AWQ (or GPTQ, GPTAQ, or plain rounding) by AMD Quark, one decoder layer after another.

Runs as a child process: `python -m builder.stages.quantize`. In memory are one layer and what goes through it. Each
finished layer is kept with what came out of it, so that whoever was interrupted goes on there.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builder.checkpoint.checkpoint import read_folder
from builder.progress import Report, Step
from builder.stages.awq_names import repair_awq_names
from builder.stages.effort import Estimate, measured_pace
from builder.stages.mixture import by_layer
from builder.stages.shards import join
from builder.stages.stage import Job, stage_main

CHECKPOINT, PROOF, ORIGINAL = "checkpoint", "proof.npz", "original"
BLOCKS = ("calibration", "text", "chats")
EXPERTS_ROUNDED = (
    "{} searches the attention of this model; its experts, which see too few tokens, are rounded to nearest."
)
PROOF_TOKENS = 256
PROOF_LOGITS = 16 << 20  # at most, in all: 64 MiB as float32


def quantize(job: Job, report: Report) -> Job:
    """Write the quantized checkpoint, and what the model says before and after, for the proof of the export.

    job: checkpoint, prompts (a folder with its tokenizer's files), blocks (an .npz of int64 token ids: calibration
    [n, seq_len], text and chats [m, length]), layers (a folder in which what is finished is kept for the next attempt),
    output, quant_algo, awq_search, group_size, mixture, data_type, exclude_layers, custom_mode, quantize_on. Into
    output go

    - checkpoint/: Quark's safetensors, a file for each layer, config and tokenizer;
    - proof.npz: token ids [t] and the quantized model's float32 logits [t, vocab];
    - original/N.npy: the original's float16 log probabilities [length, vocab] on block N of text, then chats.
    """
    import torch

    from builder.stages import layerwise, quark
    from builder.stages.decoder import Decoder
    from builder.stages.devices import device_of, most_held
    from builder.stages.product_type import through

    # 1. The model, and what goes into its first layer.
    checkpoint, output, work = read_folder(Path(job["checkpoint"])), Path(job["output"]), Path(job["layers"])
    device = device_of(job["quantize_on"], report)
    data_type = checkpoint.weights.loaded_type(job["data_type"])
    family, shape = checkpoint.model.family, checkpoint.model.shape
    with np.load(job["blocks"]) as content:
        calibrated, text, chats = (list(torch.from_numpy(content[kind])[:, None]) for kind in BLOCKS)
    mixed = by_layer(job["mixture"], job["group_size"], shape)
    proof = text[0][:, : proof_tokens(shape.vocabulary)]
    decoder = Decoder(checkpoint, data_type, device)

    def first() -> layerwise.States:
        embed, algorithm = decoder.ends().embed, job["quant_algo"]
        calibration = [*map(embed, calibrated if algorithm != "none" else [])]  # rounding looks at nothing
        originals = [states.clone() for states in calibration] if algorithm == "gptaq" else []
        return layerwise.States(calibration, [*map(embed, text + chats)], embed(proof), originals)

    # 2. One layer: what it makes of the text while it is whole, then quantized, and its weights.
    if family.experts and job["quant_algo"] in ("gptq", "gptaq"):
        report(Step("quantize", 0, shape.layers, EXPERTS_ROUNDED.format(job["quant_algo"]), lasting=True))
    tokens = sum(block.numel() for block in text + chats)
    estimate = Estimate(shape, job, sum(block.numel() for block in calibrated), tokens)
    layers_begun: list[int] = []

    def advance(number: int, before: layerwise.States, scratch: Path) -> layerwise.States:
        model, began = decoder.layer(number), time.perf_counter()
        measured = through(model, before.measured)
        if not layers_begun:  # from the second on it is known how long one takes
            estimate.tell(report, number, measured_pace(shape, model, tokens, time.perf_counter() - began))
        layers_begun.append(number)
        originals = through(model, before.originals)
        config = quark.config_of(family, job, eight_bits=[f"*{name}" for name in mixed[number]])
        model, calibration = quark.quantize(model, config, before.calibration, job["awq_search"], before.originals)
        with torch.no_grad():
            proved = model(before.proof)
        quark.write(model, scratch, job["custom_mode"])
        take_layer(scratch / layerwise.WEIGHTS, number)
        return layerwise.States(calibration, measured, proved, originals)

    states, files = layerwise.run(len(decoder), first, advance, work, report)

    # 3. What comes out of the last one, before and after, and the weights of all.
    ends, final = decoder.ends(), output / CHECKPOINT
    write_original(ends, states.measured, output / ORIGINAL)
    if not job["exclude_layers"]:
        ends.untie()
    ends.model, _ = quark.quantize(ends.bare(), quark.config_of(family, job, algorithm=False), [])
    np.savez(output / PROOF, token_ids=proof[0].numpy(), logits=ends.logits(states.proof)[0].float().cpu().numpy())
    model = ends.bare()
    patterns = [f"*layers.{number}.*{name}" for number, names in mixed.items() for name in names]
    model.quant_config = quark.config_of(family, job, eight_bits=patterns)
    quark.write(model, final, job["custom_mode"])
    rest = (final / layerwise.WEIGHTS).rename(work / "rest.safetensors")
    put_together(final, [*files, rest], job)
    return {"data_type": data_type, "device": device, "device_memory": most_held(device)}


def proof_tokens(vocabulary: int) -> int:
    """How many tokens an export is proved by."""
    return min(PROOF_TOKENS, PROOF_LOGITS // vocabulary)


def put_together(written: Path, weights: Sequence[Path], job: Job) -> None:
    """Of a folder with a configuration, and files with weights, a checkpoint."""
    join(weights, written)
    if job["custom_mode"] == "awq":
        repair_awq_names(written)
    shutil.copytree(job["prompts"], written, dirs_exist_ok=True)


def take_layer(file: Path, number: int) -> None:
    """Of what was written of a model with one layer, leave that layer, by its number."""
    from safetensors.torch import load_file, save_file

    own, name = "model.layers.0.", f"model.layers.{number}."
    found = {key: tensor.clone() for key, tensor in load_file(file).items() if key.startswith(own)}
    file.unlink()
    save_file({name + key.removeprefix(own): tensor for key, tensor in found.items()}, file, metadata={"format": "pt"})


def write_original(ends: Any, measured: Sequence[Any], output: Path) -> None:
    """Write the log probabilities of every block, each a file of its own."""
    import torch

    output.mkdir(parents=True)
    for number, states in enumerate(measured):
        rows = [part.float().log_softmax(dim=-1).clamp(min=-60_000).half() for part in ends.logits(states)[0].split(32)]
        np.save(output / f"{number}.npy", torch.cat(rows).cpu().numpy())


if __name__ == "__main__":
    stage_main(quantize)
