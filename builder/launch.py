"""What a launch needs: the current model folder of a source and a recipe, built if it is missing."""

from pathlib import Path

from builder.artifact import Shelf, read_manifest
from builder.build import build
from builder.preflight import check_settings
from builder.progress import Report, silent
from builder.recipe import ExportTarget, QuantRecipe, recipe_hash
from builder.source import Checkpoint, Source, locate, locate_settings


def find(source: Source, recipe: QuantRecipe, target: ExportTarget, models_dir: Path) -> Path | None:
    """The current model folder, if there is one that was made from what the source holds now.

    The Hub is not asked: a downloaded model stays at its commit until it is rebuilt.
    """
    current = Shelf(models_dir / source.slug, recipe_hash(recipe, target)).current()
    if current and source.kind != "hub" and read_manifest(current)["source"]["revision"] != locate(source).revision:
        return None
    return current


def fetch(source: Source, recipe: QuantRecipe, report: Report = silent) -> Checkpoint:
    """Bring the checkpoint onto this disk, unless its settings show already that it would be refused."""
    check_settings(locate_settings(source), recipe)  # small files: their progress would only flicker
    return locate(source, report)


def make(source: Source, recipe: QuantRecipe, target: ExportTarget, models_dir: Path, report: Report) -> Path:
    """Build the next model folder; older ones of the same recipe are removed once it is there."""
    shelf = Shelf(models_dir / source.slug, recipe_hash(recipe, target))
    built = build(fetch(source, recipe, report), recipe, target, shelf.next(), report)
    shelf.prune()
    return built


def summary(folder: Path) -> str:
    """One line on what was measured when the folder was built."""
    quality = read_manifest(folder)["quality"]
    before, after = quality["perplexity_original"], quality["perplexity_exported"]
    return (
        f"perplexity {before:.3f} before, {after:.3f} after (x{after / before:.3f}), "
        f"top-1 agreement {quality['top1_agreement']:.1%}, on {quality['tokens']} held-out tokens"
    )
