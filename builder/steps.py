"""The two steps of a build by themselves: `python -m builder quantize` and `python -m builder export`.

Together they make what the whole build makes, with the quantized checkpoint on the disk in between, where other tools
can use it. The export is proved against it where the first step left its proof.
"""

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.build import clear, quantize, staging, write_prompts
from builder.checkpoint.checkpoint import Fetched, read
from builder.checkpoint.preflight import check, check_export_memory
from builder.checkpoint.quantization import Quantization
from builder.checkpoint.source import locate, parse_source
from builder.errors import BuildError, SourceError
from builder.kept import artifact
from builder.kept.results import Facts, keep
from builder.progress import Report
from builder.quality import Quality, judge
from builder.recipe import FORMAT, Device, ExportTarget, QuantRecipe
from builder.stages.quantize import CHECKPOINT, PROOF
from builder.stages.stage import run_stage


def quantize_step(
    fetched: Fetched, recipe: QuantRecipe, output: Path, report: Report, quantize_on: Device = "auto"
) -> Path:
    """A quantized checkpoint at `output`, which must not exist: safetensors, configuration, tokenizer and the proof.

    Raises BuildError; then nothing is at `output`, and what was finished is kept for the next attempt.
    """
    refuse_existing("--output_dir", output)
    check(fetched.checkpoint, recipe, ExportTarget(), output.parent)
    with staging(fetched, output.parent) as work:
        prompts = write_prompts(work, fetched.checkpoint, report)
        calibrated, quantized = quantize(work, fetched.checkpoint, prompts, recipe, report, quantize_on)
        finished = work / f"{output.name}.partial"
        shutil.copytree(quantized.folder / CHECKPOINT, finished)
        shutil.copyfile(quantized.folder / PROOF, finished / PROOF)
        os.rename(finished, output)
        clear(work, [prompts, calibrated, quantized])
    return output


def read_quantized(folder: Path) -> Fetched:
    """A checkpoint that Quark quantized, as the first step leaves it. Raises SourceError and UnsupportedModel."""
    if not folder.is_dir():
        raise SourceError(
            f"-i {folder} is not a folder, so it has no config.json: name one that 'python -m builder quantize' made."
        )
    fetched = read(locate(parse_source(str(folder.absolute()))))
    quantized_by(fetched.checkpoint.quantization)
    return fetched


def export_step(quantized: Fetched, target: ExportTarget, output: Path, report: Report) -> tuple[Path, Quality]:
    """A model folder at `output`, which must not exist, from a checkpoint that Quark quantized; and what was measured.

    Raises BuildError; then nothing is at `output`. Without a proof beside it only the graph, the prompts and the
    streamed text are checked, and the quality says nothing of the weights.
    """
    refuse_existing("-o", output)
    knobs, folder = quantized_by(quantized.checkpoint.quantization), quantized.checkpoint.path
    check_export_memory(quantized.checkpoint.model.shape, knobs["group_size"], target)
    with staging(quantized, output.parent) as work:
        log, prompts = work / "build.log", write_prompts(work, quantized.checkpoint, report)
        job = {**knobs, **asdict(target), "prompts": str(prompts.folder)}

        def export(made: Path) -> Facts:
            own = {"quantized": str(folder), "output": str(made)}
            return run_stage("builder.stages.export", {**job, **own}, log, report)

        exported = keep(work, "export", {"quantized": quantized.revision, **asdict(target)}, export, report)
        proof = {"proof": str(folder / PROOF)} if (folder / PROOF).is_file() else {}

        def verify(made: Path) -> Facts:
            own = {**proof, "exported": str(exported.folder), "output": str(made)}
            return run_stage("builder.stages.verify", {**job, **own}, log, report)

        verified = keep(work, "verify", {"export": exported.digest, **proof}, verify, report)
        quality = Quality.from_facts(verified.result["quality"])
        judge(quality)
        facts = {
            "format": FORMAT,
            "source": {"kind": "quantized", "name": quantized.source.name, "revision": quantized.revision},
            "recipe": knobs,
            "target": asdict(target),
            "matmuls": exported.result["matmuls"],
            "quality": asdict(quality),
        }
        artifact.publish(exported.folder, exported.files, output, facts)
        clear(work, [prompts, exported, verified])
    return output, quality


def quantized_by(found: Quantization | None) -> dict[str, Any]:
    """The knobs of the recipe that made a quantized checkpoint. Raises SourceError where it is not UINT4."""
    if found is None or found.method not in ("quark", "awq"):
        method = found.method if found else None
        raise SourceError(
            f"the checkpoint's quantization is {method!r}, not Quark's: make one with 'python -m builder quantize'."
        )
    if found.bits != 4 or not found.asymmetric:
        raise SourceError(
            "the checkpoint is not UINT4, asymmetric: quantize it with --quant_scheme w_uint4_per_group_asym."
        )
    head = any(name.endswith("lm_head") for name in found.excluded)
    return {
        "quant_algo": found.algorithm,
        "group_size": found.group_size,
        "exclude_layers": ["lm_head"] if head else [],
        "custom_mode": found.method,
    }


def refuse_existing(flag: str, output: Path) -> None:
    """Nothing is at the place that a flag names. Raises BuildError."""
    if output.exists():
        raise BuildError(f"{flag} {output} exists: nothing is overwritten, so name a new folder.")
