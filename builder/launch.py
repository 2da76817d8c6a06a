"""What a launch needs: the current model folder of a source and a recipe, built if it is missing."""

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.build import Plan, build
from builder.checkpoint.checkpoint import Checkpoint, Fetched, read_settings, with_weights
from builder.checkpoint.preflight import check_libraries, check_quantized_settings, check_settings, check_target
from builder.checkpoint.source import Source, add_weights, locate, locate_settings
from builder.kept.artifact import MANIFEST, Shelf, read_manifest
from builder.progress import Report, Step, silent
from builder.quality import LOSS_LIMIT, Quality, improvements, proof_lines, summary
from builder.recipe import Device, ExportTarget, QuantRecipe, content_hash, recipe_hash
from builder.stages.datasets import find_dataset
from builder.stages.stage import run_stage
from builder.steps import export_step


def find(
    source: Source, recipe: QuantRecipe, target: ExportTarget, models_dir: Path, auto_quality: bool = False
) -> Path | None:
    """The current model folder, if there is one that was made from what the source holds now.

    With auto_quality: the first in the order of quality.improvements that loses little enough, or that was the best of
    all of them. The Hub is not asked: a downloaded model stays at its commit until it is rebuilt.
    """
    shelves = _shelves(source, recipe, target, models_dir, auto_quality)
    for shelf, _, _ in shelves:
        current = shelf.current()
        if current is None:
            continue
        manifest = read_manifest(current)
        if source.kind != "hub" and manifest["source"]["revision"] != locate(source).revision:
            continue
        is_best = set(manifest["best_of"]) >= {other.recipe_hash for other, _, _ in shelves}
        if is_best or Quality.from_facts(manifest["quality"]).kl_divergence <= LOSS_LIMIT:
            return current
    return None


def fetch(source: Source, recipe: QuantRecipe, report: Report = silent, target: ExportTarget | None = None) -> Fetched:
    """Bring the checkpoint onto this disk, unless its settings show already that it would be refused.

    The calibration text comes first: without it, the weights would have been fetched for nothing. target: what it is
    to be exported for, where that is known.
    """
    located = locate_settings(source)
    settings = read_settings(located.path)
    check_settings(settings, recipe)
    if target:
        check_target(settings.model.shape, target)
    if source.kind == "hub":  # of what is on this disk it is the build's first stage
        check_prompts(settings)
    dataset, _ = find_dataset(recipe.dataset, recipe.fallback_dataset, report)
    if dataset != recipe.dataset:
        report(Step("calibrate", 0, 0, f"{recipe.dataset} cannot be had: calibrating on {dataset}.", lasting=True))
    add_weights(located, report)
    return Fetched(source, located.revision, with_weights(settings))


def check_prompts(checkpoint: Checkpoint) -> None:
    """The first stage of a build, for nothing but its verdict. Raises SourceError and VerificationFailed."""
    work = Path(tempfile.mkdtemp(prefix="oga-chat-"))
    job = {"checkpoint": str(checkpoint.path), "output": str(work / "prompts")}
    run_stage("builder.stages.prompts", job, work / "build.log", silent)
    shutil.rmtree(work, ignore_errors=True)


def make(
    source: Source,
    recipe: QuantRecipe,
    target: ExportTarget,
    models_dir: Path,
    report: Report,
    auto_quality: bool = False,
    output: Path | None = None,
    quantize_on: Device = "auto",
) -> Path:
    """Build the next model folder, or `output`; older ones of the same recipe are removed once it is there."""
    check_libraries()
    shelves = _shelves(source, recipe, target, models_dir, auto_quality)
    plans = [Plan(recipe, target, output or shelf.next(), quantize_on) for shelf, recipe, target in shelves]
    built = build(fetch(source, recipe, report, target), plans, report)
    for shelf, _, _ in shelves:
        if shelf.current() == built:
            shelf.prune()
    return built


def describe(folder: Path) -> str:
    """What was measured when the folder was built, and what to try where it lost much."""
    manifest = read_manifest(folder)
    if manifest.get("quantized"):
        provider = ExportTarget(**manifest["target"]).execution_provider
        return "\n".join(proof_lines(Quality.from_facts(manifest["quality"]), provider))
    recipe: dict[str, Any] = {**manifest["recipe"], "exclude_layers": tuple(manifest["recipe"]["exclude_layers"])}
    quality, target = Quality.from_facts(manifest["quality"]), ExportTarget(**manifest["target"])
    said = summary(quality, QuantRecipe(**recipe), target, tried=len(manifest["best_of"]))
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6
    return f"{said}\n{size:,.1f} MB; a weight of the decoder's layers has {manifest['bits_per_weight']:.2f} bits"


def note_of(folder: Path) -> str:
    """What is worth saying of a model at each start: what it cannot do here. Empty for nothing."""
    manifest: Any = read_manifest(folder) if (folder / MANIFEST).is_file() else {}
    return str(manifest.get("note", "")) if isinstance(manifest, dict) else ""


# What came quantized


def find_quantized(source: Source, target: ExportTarget, models_dir: Path, measured: bool = False) -> Path | None:
    """The current export of a checkpoint that came quantized. measured: only one whose loss is known."""
    current = _quantized_shelf(source, target, models_dir).current()
    if current is None:
        return None
    manifest = read_manifest(current)
    if source.kind != "hub" and manifest["source"]["revision"] != locate(source).revision:
        return None
    return None if measured and manifest["quality"]["text"] is None else current


def make_quantized(
    source: Source, target: ExportTarget, models_dir: Path, report: Report, original: Source | None = None
) -> Path:
    """Export a checkpoint that came quantized, and prove it; older ones are removed once the new one is there."""
    check_libraries()
    located = locate_settings(source)
    settings = read_settings(located.path)
    check_quantized_settings(settings)
    if source.kind == "hub":
        check_prompts(settings)
    add_weights(located, report)
    fetched = Fetched(source, located.revision, with_weights(settings))
    shelf = _quantized_shelf(source, target, models_dir)
    made, _ = export_step(fetched, target, shelf.next(), report, original)
    shelf.prune()
    return made


def _quantized_shelf(source: Source, target: ExportTarget, models_dir: Path) -> Shelf:
    return Shelf(models_dir / source.slug, content_hash({"quantized": True, "target": asdict(target)}))


def _shelves(
    source: Source, recipe: QuantRecipe, target: ExportTarget, models_dir: Path, auto_quality: bool
) -> list[tuple[Shelf, QuantRecipe, ExportTarget]]:
    ways = [(recipe, target)]
    if auto_quality:
        ways += [(better, for_target) for _, better, for_target in improvements(recipe, target)]
    return [(Shelf(models_dir / source.slug, recipe_hash(*way)), *way) for way in ways]
