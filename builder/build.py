"""build(): calibrate, quantize, export, verify, publish."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from builder import artifact
from builder.calibration import make_blocks
from builder.preflight import check
from builder.progress import Report, Step, silent
from builder.recipe import FORMAT, ExportTarget, QuantRecipe, recipe_hash
from builder.source import Checkpoint
from builder.stage import Job, run_stage


def build(
    checkpoint: Checkpoint,
    recipe: QuantRecipe,
    target: ExportTarget,
    destination: Path,
    report: Report = silent,
) -> Path:
    """Make a proven model folder appear at `destination`, which must not exist yet, and return it.

    An interrupted build goes on after the last stage that it finished. Raises BuildError; then nothing was published
    and, where a stage failed, the message names the log.
    """
    check(checkpoint.path, recipe, destination.parent)
    digest = recipe_hash(recipe, target)
    key = hashlib.sha256(f"{digest}:{checkpoint.revision}:{destination.name}".encode()).hexdigest()[:12]
    with artifact.staging(destination, key) as work:
        log = work / "build.log"
        timings: dict[str, float] = {}

        def stage(name: str, make: Callable[[Path], None]) -> Path:
            """Make work/name, unless an earlier attempt did; it appears by a rename, when it is whole."""
            finished, partial = work / name, work / f"{name}.{os.getpid()}.partial"
            report(Step(name, 0, 0))
            started = time.perf_counter()
            if not finished.exists():
                make(partial)
                os.rename(partial, finished)
            timings[name] = round(time.perf_counter() - started, 2)
            report(Step(name, 1, 1))
            return finished

        def calibrate(output: Path) -> None:
            made = make_blocks(checkpoint.path, recipe, report)
            output.mkdir()
            np.savez(output / "blocks.npz", calibration=made.calibration, heldout=made.heldout, chats=made.chats)

        blocks = stage("calibrate", calibrate) / "blocks.npz"
        job: Job = {
            **asdict(recipe),
            **asdict(target),
            "checkpoint": str(checkpoint.path),
            "blocks": str(blocks),
        }

        def quantize(output: Path) -> None:
            run_stage("builder.quantize", {**job, "output": str(output)}, log, report)

        quantized = stage("quantize", quantize)

        def export(output: Path) -> None:
            run_stage("builder.export", {**job, "quantized": str(quantized), "output": str(output)}, log, report)

        exported = stage("export", export)
        proof = {**job, "exported": str(exported), "proof": str(quantized / "proof.npz")}
        started = time.perf_counter()
        report(Step("verify", 0, 0))
        quality = run_stage("builder.verify", proof, log, report)
        timings["verify"] = round(time.perf_counter() - started, 2)
        report(Step("verify", 1, 1))

        report(Step("publish", 0, 1))
        facts = {
            "format": FORMAT,
            "source": {"kind": checkpoint.source.kind, "name": checkpoint.source.name, "revision": checkpoint.revision},
            "recipe_hash": digest,
            "recipe": asdict(recipe),
            "target": asdict(target),
            "calibration_sha256": hashlib.sha256(blocks.read_bytes()).hexdigest(),
            "quality": quality,
            "seconds": timings,
        }
        artifact.publish(exported, destination, facts)
        shutil.rmtree(work, ignore_errors=True)
        report(Step("publish", 1, 1))
    return destination
