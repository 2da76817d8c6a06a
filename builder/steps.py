"""The two steps of a build by themselves: `python -m builder quantize` and `python -m builder export`.

Together they make what the whole build makes, with the quantized checkpoint on the disk in between, where other tools
can use it. The export is proved against it where the first step left its proof.
"""

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.build import clear, quantize, staging
from builder.checkpoint.preflight import check
from builder.checkpoint.source import Checkpoint, locate, parse_source, read_config
from builder.errors import BuildError, SourceError
from builder.kept import artifact
from builder.kept.results import Facts, keep
from builder.progress import Report
from builder.quality import Quality, judge
from builder.recipe import FORMAT, CustomMode, ExportTarget, QuantRecipe
from builder.stages.quantize import CHECKPOINT, PROOF
from builder.stages.stage import run_stage


def quantize_step(checkpoint: Checkpoint, recipe: QuantRecipe, output: Path, report: Report) -> Path:
    """A quantized checkpoint at `output`, which must not exist: safetensors, configuration, tokenizer and the proof.

    Raises BuildError; then nothing is at `output`, and what was finished is kept for the next attempt.
    """
    refuse_existing("--output_dir", output)
    check(checkpoint.path, recipe, ExportTarget(), output.parent)
    with staging(checkpoint, output.parent) as work:
        calibrated, quantized = quantize(work, checkpoint, recipe, report)
        finished = work / f"{output.name}.partial"
        shutil.copytree(quantized.folder / CHECKPOINT, finished)
        shutil.copyfile(quantized.folder / PROOF, finished / PROOF)
        os.rename(finished, output)
        clear(work, [calibrated, quantized])
    return output


def export_step(quantized: Path, target: ExportTarget, output: Path, report: Report) -> tuple[Path, Quality]:
    """A model folder at `output`, which must not exist, from a checkpoint that Quark quantized; and what was measured.

    Raises BuildError; then nothing is at `output`. Without a proof in `quantized` only the graph, the prompts and the
    streamed text are checked, and the quality says nothing of the weights.
    """
    refuse_existing("-o", output)
    if not quantized.is_dir():
        raise SourceError(f"-i {quantized} is not a folder: name one that 'python -m builder quantize' made.")
    knobs = quantized_by(read_config(quantized))
    checkpoint = locate(parse_source(str(quantized)))
    with staging(checkpoint, output.parent) as work:
        log = work / "build.log"
        job = {**knobs, **asdict(target), "checkpoint": str(checkpoint.path)}

        def export(folder: Path) -> Facts:
            return run_stage(
                "builder.stages.export", {**job, "quantized": job["checkpoint"], "output": str(folder)}, log, report
            )

        inputs = {"quantized": checkpoint.revision, **asdict(target)}
        exported = keep(work, "export", inputs, export, report)
        proof = {"proof": str(quantized / PROOF)} if (quantized / PROOF).is_file() else {}

        def verify(folder: Path) -> Facts:
            paths = {**proof, "exported": str(exported.folder), "output": str(folder)}
            return run_stage("builder.stages.verify", {**job, **paths}, log, report)

        verified = keep(work, "verify", {"export": exported.digest, **proof}, verify, report)
        quality = Quality.from_facts(verified.result["quality"])
        judge(quality)
        facts = {
            "format": FORMAT,
            "source": {"kind": "quantized", "name": checkpoint.source.name, "revision": checkpoint.revision},
            "recipe": knobs,
            "target": asdict(target),
            "matmuls": exported.result["matmuls"],
            "quality": asdict(quality),
        }
        artifact.publish(exported.folder, exported.files, output, facts)
        clear(work, [exported, verified])
    return output, quality


def quantized_by(config: dict[str, Any]) -> dict[str, Any]:
    """The knobs of a quantized checkpoint's recipe, from its config.json. Raises SourceError where it is not UINT4."""
    found = config.get("quantization_config")
    found = found if isinstance(found, dict) else {}
    method = found.get("quant_method")
    try:
        if method == "quark":
            weight = found["global_quant_config"]["weight"]
            bits = {"uint4": 4}.get(weight["dtype"])
            group_size, asymmetric, excluded = weight["group_size"], not weight["symmetric"], found["exclude"]
            names = [entry.get("name") for entry in found.get("algo_config") or []]
            algorithm = str(names[0]) if names else "none"
        elif method == "awq":
            bits, group_size, asymmetric = found["bits"], found["group_size"], found["zero_point"]
            excluded, algorithm = found["modules_to_not_convert"] or [], "awq"
        else:
            raise SourceError(
                f"the checkpoint's quantization is {method!r}, not Quark's: make one with 'python -m builder quantize'."
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"config.json has a quantization_config of {method} that lacks {error}.") from error
    if bits != 4 or not asymmetric:
        raise SourceError(
            "the checkpoint is not UINT4, asymmetric: quantize it with --quant_scheme w_uint4_per_group_asym."
        )
    mode: CustomMode = "awq" if method == "awq" else "quark"
    head = [name for name in excluded if name.endswith("lm_head")]
    return {
        "quant_algo": algorithm,
        "group_size": group_size,
        "exclude_layers": ["lm_head"] if head else [],
        "custom_mode": mode,
    }


def refuse_existing(flag: str, output: Path) -> None:
    """Nothing is at the place that a flag names. Raises BuildError."""
    if output.exists():
        raise BuildError(f"{flag} {output} exists: nothing is overwritten, so name a new folder.")
