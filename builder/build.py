"""build(): calibrate, quantize, export, verify, publish."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from builder.checkpoint import told
from builder.checkpoint.checkpoint import Checkpoint, Fetched
from builder.checkpoint.preflight import check
from builder.checkpoint.tokenizer import read_tokenizer
from builder.errors import BuildError, SourceError, StageFailed, VerificationFailed
from builder.kept import artifact
from builder.kept.results import Facts, Kept, discard, keep, place, sha256
from builder.progress import Report, Step, silent
from builder.quality import LOSS_LIMIT, Quality, judge, with_error
from builder.recipe import CALIBRATION, FORMAT, Device, ExportTarget, QuantRecipe, depends_on, recipe_hash
from builder.stages.calibration import make_blocks
from builder.stages.quantize import CHECKPOINT, ORIGINAL, PROOF
from builder.stages.stage import run_stage

BLOCKS = "blocks.npz"
KEPT = 128  # logits of each kind and position of a proof that goes with its export


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to build a model, where it is to appear, and what computes."""

    recipe: QuantRecipe
    target: ExportTarget
    destination: Path
    quantize_on: Device = "auto"


@dataclass(frozen=True, slots=True)
class Proved:
    """A plan whose export is what it should be: its finished stages, and what was measured."""

    plan: Plan
    stages: Mapping[str, Kept]
    quality: Quality


def build(fetched: Fetched, plans: Sequence[Plan], report: Report = silent) -> Path:
    """Make a proven model folder appear at a plan's destination, which must not exist yet, and return it.

    With several plans, the first whose loss is within quality.LOSS_LIMIT, else the one that loses least. What an
    interrupted build finished is not made again. Raises BuildError; then nothing was published and, where a stage
    failed, the message names its log.
    """
    parent = plans[0].destination.parent
    for plan in plans:
        check(fetched.checkpoint, plan.recipe, plan.target, parent)
    if note := fetched.checkpoint.model.note:
        report(Step("prompts", 0, 0, note, lasting=True))
    with staging(fetched, parent) as work:
        proved = list(attempts(work, fetched.checkpoint, plans, report))
        best = next(
            (one for one in proved if one.quality.kl_divergence <= LOSS_LIMIT),
            min(proved, key=lambda one: one.quality.kl_divergence),
        )
        report(Step("publish", 0, 1))
        exported = best.stages["export"]
        files = exported.files | add_proof(best.stages["quantize"].folder / PROOF, exported.folder)
        artifact.publish(exported.folder, files, best.plan.destination, manifest(fetched, best, plans))
        clear(work, [kept for one in proved for kept in one.stages.values()])
        report(Step("publish", 1, 1))
    return best.plan.destination


def attempts(work: Path, checkpoint: Checkpoint, plans: Sequence[Plan], report: Report) -> Iterator[Proved]:
    """Plans that could be proved, up to the first whose loss is within the limit. Raises the last one's BuildError."""
    found = False
    for number, plan in enumerate(plans, 1):
        try:
            one = prove(work, checkpoint, plan, report)
        except (StageFailed, VerificationFailed) as error:
            if number == len(plans) and not found:
                raise
            report(Step("verify", 0, 0, f"attempt {number} of {len(plans)}: {error}", lasting=True))
            continue
        found = True
        yield one
        if one.quality.kl_divergence <= LOSS_LIMIT:
            break
        if number < len(plans):
            lost = with_error(one.quality.kl_divergence, one.quality.kl_divergence_error, 4)
            loss = f"KL divergence {lost}, wanted {LOSS_LIMIT}"
            report(Step("verify", 0, 0, f"attempt {number} of {len(plans)}: {loss}", lasting=True))


def add_proof(proof: Path, exported: Path) -> Facts:
    """Let what is needed of a proof go with its export, for devices that compute otherwise; its size and SHA-256.

    Of each position's logits some hundred: half of them the largest, half from everywhere.
    """
    with np.load(proof) as content:
        token_ids, logits = content["token_ids"], content["logits"]
    vocabulary = logits.shape[1]
    largest = np.argpartition(logits, -min(KEPT, vocabulary), axis=1)[:, -min(KEPT, vocabulary) :]
    anywhere = np.linspace(0, vocabulary - 1, min(KEPT, vocabulary)).astype(np.int64)
    ids = np.concatenate([largest, np.broadcast_to(anywhere, (len(logits), anywhere.size))], axis=1).astype(np.int32)
    file = exported / PROOF
    kept = np.take_along_axis(logits, ids.astype(np.int64), axis=1).astype(np.float16)
    np.savez_compressed(file, token_ids=token_ids, ids=ids, logits=kept)
    return {PROOF: {"size": file.stat().st_size, "sha256": sha256(file)}}


@contextmanager
def staging(fetched: Fetched, parent: Path) -> Iterator[Path]:
    """The locked working folder of everything that is built from one checkpoint; a failing disk is a BuildError."""
    try:
        with artifact.staging(parent, artifact.staging_key(fetched.source.name, fetched.revision)) as work:
            yield work
    except OSError as error:
        raise BuildError(
            f"{error.filename or parent} cannot be written ({error.strerror or error}): what was there before is as it "
            "was. Make room, or choose another place with --models-dir, and build again: it goes on where it stopped."
        ) from error


def clear(work: Path, used: Iterable[Kept]) -> None:
    """Remove what a finished build used, and the working folder if no other build left anything in it."""
    for kept in used:
        discard(kept)
    if not any(work.glob("*-*.json")):
        shutil.rmtree(work, ignore_errors=True)


def prove(work: Path, checkpoint: Checkpoint, plan: Plan, report: Report) -> Proved:
    """Every stage but publishing, each taken over if it was finished before. Raises VerificationFailed, BuildError."""
    log = work / "build.log"
    prompts = write_prompts(work, checkpoint, report)
    calibrated, quantized = quantize(work, checkpoint, prompts, plan.recipe, report, plan.quantize_on)
    job = {**asdict(plan.recipe), **asdict(plan.target), "prompts": str(prompts.folder)}

    def export(output: Path) -> Facts:
        paths = {"quantized": str(quantized.folder / CHECKPOINT), "output": str(output)}
        return run_stage("builder.stages.export", {**job, **paths}, log, report)

    inputs = {"prompts": prompts.digest, "quantize": quantized.digest, **asdict(plan.target)}
    exported = keep(work, "export", inputs, export, report)

    def verify(output: Path) -> Facts:
        paths = {
            "exported": exported.folder,
            "proof": quantized.folder / PROOF,
            "blocks": calibrated.folder / BLOCKS,
            "original": quantized.folder / ORIGINAL,
            "output": output,
        }
        return run_stage(
            "builder.stages.verify", {**job, **{name: str(path) for name, path in paths.items()}}, log, report
        )

    verified = keep(work, "verify", {"export": exported.digest}, verify, report)
    quality = Quality.from_facts(verified.result["quality"])
    try:
        judge(quality)
    except VerificationFailed:
        discard(exported)  # in case the disk spoiled it; what took long is kept
        discard(verified)
        raise
    stages = {"prompts": prompts, "calibrate": calibrated, "quantize": quantized}
    stages |= {"export": exported, "verify": verified}
    return Proved(plan, stages, quality)


def write_prompts(work: Path, checkpoint: Checkpoint, report: Report) -> Kept:
    """What is served of a checkpoint's tokenizer and chat template. Raises SourceError and VerificationFailed."""

    def write(output: Path) -> Facts:
        job = {"checkpoint": str(checkpoint.path), "output": str(output)}
        return run_stage("builder.stages.prompts", job, work / "build.log", report)

    return keep(work, "prompts", {}, write, report)


def quantize(
    work: Path, checkpoint: Checkpoint, prompts: Kept, recipe: QuantRecipe, report: Report, quantize_on: Device
) -> tuple[Kept, Kept]:
    """The two stages that end in a quantized checkpoint; one that is stopped says how many layers are kept."""
    read = replace(checkpoint, tokenizer=read_tokenizer(prompts.folder))

    def calibrate(output: Path) -> Facts:
        blocks = make_blocks(read, recipe, report)
        highest, vocabulary = int(blocks.calibration.max()), checkpoint.model.shape.vocabulary
        if highest >= vocabulary:
            raise SourceError(
                f"the tokenizer of {checkpoint.path} writes token {highest}, and the model knows {vocabulary} tokens: "
                "they do not belong together."
            )
        output.mkdir()
        np.savez(output / BLOCKS, calibration=blocks.calibration, text=blocks.heldout, chats=blocks.chats)
        return {"dataset": blocks.dataset, "sha256": sha256(output / BLOCKS)}

    wanted = {"prompts": prompts.digest, **calibration_inputs(recipe)}
    calibrated = keep(work, "calibrate", wanted, calibrate, report)

    inputs = {"calibrate": calibrated.digest, **depends_on(recipe)}
    layers = place(work, "layers", inputs)

    def quantize(output: Path) -> Facts:
        paths = {
            "checkpoint": str(checkpoint.path),
            "prompts": str(prompts.folder),
            "blocks": str(calibrated.folder / BLOCKS),
            "layers": str(layers),
            "output": str(output),
        }
        layers.mkdir(exist_ok=True)
        job = {**asdict(recipe), **paths, "quantize_on": quantize_on}
        try:
            return run_stage("builder.stages.quantize", job, work / "build.log", report)
        except BaseException:
            if kept := len(list(layers.glob("layer-*.json"))):
                note = f"{kept} of {checkpoint.model.shape.layers} layers are kept; the same command goes on there."
                report(Step("quantize", 0, 0, note, lasting=True))
            raise

    quantized = keep(work, "quantize", inputs, quantize, report)
    shutil.rmtree(layers, ignore_errors=True)
    return calibrated, quantized


def calibration_inputs(recipe: QuantRecipe) -> dict[str, Any]:
    """The knobs that the calibration text depends on."""
    return {name: value for name, value in asdict(recipe).items() if name in CALIBRATION}


def manifest(fetched: Fetched, best: Proved, plans: Sequence[Plan]) -> Facts:
    """What is recorded of a build, the best of `plans`."""
    stages, recipe, target = best.stages, best.plan.recipe, best.plan.target
    return {
        **facts_of(fetched, target, best.quality, stages),
        "recipe_hash": recipe_hash(recipe, target),
        "recipe": asdict(recipe),
        "data_type": stages["quantize"].result["data_type"],
        "calibration": stages["calibrate"].result,
        "best_of": [recipe_hash(plan.recipe, plan.target) for plan in plans],
    }


def facts_of(fetched: Fetched, target: ExportTarget, quality: Quality, stages: Mapping[str, Kept]) -> Facts:
    """What is recorded of every export, wherever its weights were quantized."""
    return {
        "format": FORMAT,
        "source": {"kind": fetched.source.kind, "name": fetched.source.name, "revision": fetched.revision},
        "target": asdict(target),
        "note": fetched.checkpoint.model.note,
        "kv_layers": told.kv_layers(fetched.checkpoint.model),
        "turn": told.turn(fetched.checkpoint.model),
        "matmuls": stages["export"].result["matmuls"],
        "bits_per_weight": stages["export"].result["bits_per_weight"],
        "quality": asdict(quality),
        "seconds": {name: kept.seconds for name, kept in stages.items()},
        "peak_memory": {
            name: kept.result["peak_memory"] for name, kept in stages.items() if "peak_memory" in kept.result
        },
    }
