"""The two steps of a build by themselves: `python -m builder quantize` and `python -m builder export`.

Together they make what the whole build makes, with the quantized checkpoint on the disk in between, where other tools
can use it; and what somebody else quantized by AWQ or GPTQ enters at the second step.
"""

import os
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from builder.build import add_proof, clear, facts_of, quantize, staging, write_prompts
from builder.checkpoint.checkpoint import Checkpoint, Fetched, read, read_settings, with_weights
from builder.checkpoint.packed import check_packed, has_packed_head
from builder.checkpoint.preflight import check, check_quantized, check_target
from builder.checkpoint.source import Source, add_weights, locate, locate_settings, parse_source
from builder.checkpoint.tokenizer import read_tokenizer
from builder.errors import BuildError, SourceError, VerificationFailed
from builder.kept import artifact
from builder.kept.results import Facts, Kept, discard, keep
from builder.progress import Report, Step
from builder.quality import Quality, judge
from builder.recipe import Device, ExportTarget, QuantRecipe
from builder.stages.calibration import make_blocks
from builder.stages.quantize import CHECKPOINT, ORIGINAL, PROOF, proof_tokens
from builder.stages.stage import run_stage

PROOF_BLOCKS, LOSS_BLOCKS = "proof-blocks.npz", "loss-blocks.npz"
PRECISE = "float32"
_OFFLINE = QuantRecipe(dataset="offline", num_calib_data=1, seq_len=16)


def quantize_step(
    fetched: Fetched, recipe: QuantRecipe, output: Path, report: Report, quantize_on: Device = "auto"
) -> Path:
    """A quantized checkpoint at `output`, which must not exist: safetensors, configuration, tokenizer.

    Raises BuildError; then nothing is at `output`, and what was finished is kept for the next attempt.
    """
    refuse_existing("--output_dir", output)
    check(fetched.checkpoint, recipe, ExportTarget(), output.parent)
    with staging(fetched, output.parent) as work:
        prompts = write_prompts(work, fetched.checkpoint, report)
        calibrated, quantized = quantize(work, fetched.checkpoint, prompts, recipe, report, quantize_on)
        finished = work / f"{output.name}.partial"
        shutil.copytree(quantized.folder / CHECKPOINT, finished)
        os.rename(finished, output)
        clear(work, [prompts, calibrated, quantized])
    return output


def read_quantized(folder: Path) -> Fetched:
    """A checkpoint that is quantized, from a folder. Raises SourceError and UnsupportedModel."""
    if not folder.is_dir():
        raise SourceError(
            f"-i {folder} is not a folder, so it has no config.json: name one that 'python -m builder quantize' made."
        )
    fetched = read(locate(parse_source(str(folder.absolute()))))
    knobs_of(fetched.checkpoint)
    return fetched


def export_step(
    quantized: Fetched, target: ExportTarget, output: Path, report: Report, original: Source | None = None
) -> tuple[Path, Quality]:
    """A model folder at `output`, which must not exist, from a checkpoint that is quantized; and what was measured.

    The export is proved against what the checkpoint's packed weights stand for, read by code that is not the
    exporter's. original: what the checkpoint was made of, where its loss is to be measured too. Raises BuildError; then
    nothing is at `output`, and what was finished is kept for the next attempt.
    """
    # 1. What can be refused at once.
    refuse_existing("-o", output)
    checkpoint, knobs = quantized.checkpoint, knobs_of(quantized.checkpoint)
    target = replace(target, lm_head_bits=4) if not knobs["exclude_layers"] else target
    check_target(checkpoint.model.shape, target)
    check_quantized(checkpoint, target, output.parent)
    whole = fetch_original(original, report) if original else None
    if note := checkpoint.model.note:
        report(Step("prompts", 0, 0, note, lasting=True))

    with staging(quantized, output.parent) as work:
        # 2. What it computes, and what the original did.
        log, prompts = work / "build.log", write_prompts(work, checkpoint, report)
        blocks = write_blocks(work, checkpoint, prompts, report)
        job = {**knobs, **asdict(target), "prompts": str(prompts.folder)}

        def refer(of: Checkpoint, to: str, made: Path) -> Facts:
            own = {"checkpoint": str(of.path), "blocks": str(blocks.folder / to), "output": str(made)}
            return run_stage("builder.stages.reference", {**job, **own, "data_type": PRECISE}, log, report)

        inputs = {"quantized": quantized.revision, "blocks": blocks.digest}
        proof = keep(work, "proof", inputs, partial(refer, checkpoint, PROOF_BLOCKS), report)
        measured = None
        if whole:
            revision = {**inputs, "original": [whole.source.name, whole.revision]}
            measured = keep(work, "original", revision, partial(refer, whole.checkpoint, LOSS_BLOCKS), report)

        # 3. The export, and how far it is from either.
        def export(made: Path) -> Facts:
            own = {"quantized": str(checkpoint.path), "output": str(made)}
            return run_stage("builder.stages.export", {**job, **own}, log, report)

        inputs = {"quantized": quantized.revision, "prompts": prompts.digest, **asdict(target)}
        exported = keep(work, "export", inputs, export, report)
        paths = {"exported": exported.folder, "proof": proof.folder / PROOF}
        if measured:
            paths |= {"blocks": blocks.folder / LOSS_BLOCKS, "original": measured.folder / ORIGINAL}

        def verify(made: Path) -> Facts:
            own = {name: str(path) for name, path in paths.items()}
            return run_stage("builder.stages.verify", {**job, **own, "output": str(made)}, log, report)

        found = {"export": exported.digest, "proof": proof.digest, "original": measured.digest if measured else ""}
        verified = keep(work, "verify", found, verify, report)
        quality = Quality.from_facts(verified.result["quality"])
        stages = {"prompts": prompts, "blocks": blocks, "proof": proof, "export": exported, "verify": verified}
        stages |= {"original": measured} if measured else {}
        try:
            judge(replace(quality, text=None, chats=None))  # what quantizing lost is told, not judged
        except VerificationFailed:
            discard(exported)  # in case the disk spoiled it
            discard(verified)
            raise
        files = exported.files | add_proof(proof.folder / PROOF, exported.folder)
        facts = {**facts_of(quantized, target, quality, stages), "quantized": True, "recipe": knobs}
        artifact.publish(exported.folder, files, output, facts)
        clear(work, stages.values())
    return output, quality


def fetch_original(original: Source, report: Report) -> Fetched:
    """The checkpoint that a loss is measured against. Raises SourceError where it is quantized itself."""
    located = locate_settings(original)
    settings = read_settings(located.path)
    if settings.quantization is not None:
        raise SourceError(f"--original {original.name} is {settings.quantization.named}: name the original weights.")
    add_weights(located, report)
    return Fetched(original, located.revision, with_weights(settings))


def write_blocks(work: Path, checkpoint: Checkpoint, prompts: Kept, report: Report) -> Kept:
    """Tokens of text that needs no download: to prove an export by, and to measure a loss by."""

    def write(output: Path) -> Facts:
        read = replace(checkpoint, tokenizer=read_tokenizer(prompts.folder))
        made, vocabulary = make_blocks(read, _OFFLINE, report), checkpoint.model.shape.vocabulary
        output.mkdir()
        np.savez(output / PROOF_BLOCKS, proof=made.heldout[0][: proof_tokens(vocabulary)])
        np.savez(output / LOSS_BLOCKS, text=made.heldout, chats=made.chats)
        if (highest := max(int(made.heldout.max()), int(made.chats.max(initial=0)))) >= vocabulary:
            raise SourceError(
                f"the tokenizer of {checkpoint.path} writes token {highest}, and the model knows {vocabulary} tokens: "
                "they do not belong together."
            )
        return {}

    return keep(work, "blocks", {"prompts": prompts.digest}, write, report)


def knobs_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is known of the recipe that made a quantized checkpoint.

    Raises SourceError where it is not quantized or damaged, UnsupportedModel for a packing that is not read.
    """
    found = checkpoint.quantization
    if found is None:
        raise SourceError(
            f"the weights of {checkpoint.path} are not quantized: make a checkpoint that is with "
            "'python -m builder quantize', or build it all with 'python -m builder --model'."
        )
    found.check()
    check_packed(checkpoint)
    return {
        "quant_algo": found.algorithm,
        "group_size": found.group_size,
        "exclude_layers": [] if has_packed_head(checkpoint) else ["lm_head"],
        "custom_mode": found.packing,
    }


def refuse_existing(flag: str, output: Path) -> None:
    """Nothing is at the place that a flag names. Raises BuildError."""
    if output.exists():
        raise BuildError(f"{flag} {output} exists: nothing is overwritten, so name a new folder.")
