"""`--list`, `--info`, `--remove`: what the models folder holds, for people and, with `--json`, for programs."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder import demo
from builder.checkpoint.kinds import GENAI_CONFIG
from builder.checkpoint.source import fingerprint
from builder.console import confirmed
from builder.errors import BuildError
from builder.flags import models_dir_from
from builder.giving.card import build_command
from builder.kept.models import Entry, entries, find, going_with, is_building, remove
from builder.kept.use import is_served
from builder.progress import megabytes, spoken
from builder.quality import Quality, with_error
from builder.recipe import FORMAT, ExportTarget, QuantRecipe, recipe_hash


def add_shelf_flags(parser: argparse.ArgumentParser) -> None:
    """What is asked of the models that are there, in place of a chat."""
    group = parser.add_argument_group("the models that are there")
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "--list", action="store_true", help="tell which there are, and which of them nothing needs any more"
    )
    one.add_argument("--info", metavar="NAME", help="tell all that is known of one of them")
    one.add_argument("--remove", metavar="NAME", help="remove one, and what unfinished builds of its source left")
    group.add_argument("--json", action="store_true", help="with --list or --info: as JSON")
    group.add_argument("--yes", action="store_true", help="with --remove: do not ask")


def answered(flags: argparse.Namespace) -> bool:
    """Do what was asked of the models that are there; False where nothing was. Raises BuildError."""
    models_dir = models_dir_from(flags)
    for flag, used_with in (("json", flags.list or flags.info), ("yes", flags.remove)):
        if getattr(flags, flag) and not used_with:
            raise BuildError(f"--{flag} is for {'--list and --info' if flag == 'json' else '--remove'}.")
    if flags.list:
        found = entries(models_dir)
        print(json.dumps([facts(entry) for entry in found], indent=2) if flags.json else listed(models_dir, found))
    elif flags.info is not None:
        entry = found_as(models_dir, flags.info)
        whole = {**facts(entry), "manifest": entry.manifest}
        print(json.dumps(whole, indent=2) if flags.json else told(entry))
    elif flags.remove is not None:
        take_away(models_dir, flags.remove, flags.yes)
    else:
        return False
    return True


def served_by_name(models_dir: Path, name: str) -> Entry | None:
    """The model that a name of the list means, if any. Raises BuildError for what is not finished."""
    entry = find(models_dir, name)
    if entry and not (entry.folder / GENAI_CONFIG).is_file():
        raise BuildError(f"{name} is what an unfinished build left: give that build's command again, and it goes on.")
    return entry


def chosen(models_dir: Path, names: str) -> list[Entry]:
    """The models that names of the list mean, with commas between them, or "all"; each of them once.

    Raises BuildError for a name that means none.
    """
    if names == "all":
        return [each for each in entries(models_dir) if each.kind == "model" and (each.folder / GENAI_CONFIG).is_file()]
    found = {}
    for name in filter(None, map(str.strip, names.split(","))):
        entry = served_by_name(models_dir, name) or found_as(models_dir, name)
        found[entry.folder] = entry
    if not found:
        raise BuildError(f"--models must name models of --list, with commas between them, or be all, not {names!r}.")
    return list(found.values())


def found_as(models_dir: Path, name: str) -> Entry:
    """What has this name. Raises BuildError, with what there is."""
    if (entry := find(models_dir, name)) is None:
        names = ", ".join(entry.name for entry in entries(models_dir))
        raise BuildError(f"there is no {name!r} in {models_dir}: {f'there are {names}' if names else 'it is empty'}.")
    return entry


def take_away(models_dir: Path, name: str, yes: bool) -> None:
    """Show what would go, ask, and remove it."""
    entry = found_as(models_dir, name)
    going = going_with(entry, entries(models_dir))
    print("\n".join(f"  {megabytes(each.size):>9}  {each.folder}" for each in going))
    if not confirmed(f"Remove {megabytes(sum(each.size for each in going))}?", yes):
        raise BuildError("nothing was removed.")
    remove(models_dir, going)
    print(f"removed {entry.name}")


def unneeded(entry: Entry) -> str:
    """Why no source needs it any more; "" where one does, or may. The Hub is not asked."""
    if entry.kind == "older":
        return "a newer build has taken its place" if entry.manifest else "a removal, or a build, of it was cut off"
    if entry.kind == "unfinished" or not entry.source or entry.received or entry.source.get("kind") == "export":
        return ""
    source, revision = entry.source, entry.source.get("revision")
    if entry.manifest.get("format") != FORMAT or not _has_its_hash(entry):
        return "an earlier oga-chat made it; a start builds anew"
    if source.get("kind") == "demo" and revision != fingerprint(demo.CHECKPOINT):
        return "the bundled demo is another one now"
    if source.get("kind") == "folder":
        folder = Path(str(source.get("name")))
        if not folder.is_dir():
            return f"{folder} is gone, so it cannot be built again"
        if revision != fingerprint(folder):
            return f"{folder} has changed since"
    return ""


def facts(entry: Entry) -> dict[str, Any]:
    """Of an entry, for programs. Times are in seconds since the epoch, sizes in bytes, losses in nats per token."""
    quality = _quality(entry)
    return {
        "name": entry.name,
        "kind": entry.kind,
        "path": str(entry.folder),
        "source": entry.source,
        "received": entry.received,
        "size": entry.size,
        "recipe": entry.manifest.get("recipe", {}),
        "target": entry.manifest.get("target", {}),
        "kl_divergence": quality.kl_divergence if quality and quality.losses else None,
        "built": entry.built,
        "used": entry.used,
        "served": is_served(entry.folder),
        "unneeded": unneeded(entry),
    }


def listed(models_dir: Path, found: Sequence[Entry]) -> str:
    """A table of the models, and below it what else takes space."""
    models = [entry for entry in found if entry.kind == "model"]
    if not found:
        return f"There are no models in {models_dir}. 'python app.py' builds the bundled one in about a minute."
    rows = [("name", "source", "size", "recipe", "loss, nats/token", "used")]
    rows += [
        (entry.name, _source(entry), megabytes(entry.size), _recipe(entry), _loss(entry), _used(entry))
        for entry in models
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", f"{megabytes(sum(entry.size for entry in found))} in {models_dir}. --model NAME serves one of them."]
    for title, others in (
        ("Nothing needs these any more", [(entry, why) for entry in found if (why := unneeded(entry))]),
        (
            "Unfinished builds, which go on by the same command",
            [(entry, "being built now" if is_building(entry) else "") for entry in found if entry.kind == "unfinished"],
        ),
    ):
        if others:
            lines += ["", f"{title}; --remove NAME frees {megabytes(sum(entry.size for entry, _ in others))} in all:"]
            lines += [f"  {entry.name}, {megabytes(entry.size)}{f': {why}' if why else ''}" for entry, why in others]
    return "\n".join(lines)


def told(entry: Entry) -> str:
    """All that is worth knowing of an entry."""
    manifest, quality = entry.manifest, _quality(entry)
    revision = (entry.received or entry.source).get("revision")
    rows = {
        "folder": str(entry.folder),
        "source": f"{_source(entry)}, at {revision}" if revision else _source(entry),
        "size": megabytes(entry.size),
        "built": _day(entry.built),
        "used": _used(entry),
        "recipe": _recipe(entry),
        "built by": build_command(manifest) if manifest.get("target") and entry.source else "",
        "made with": ", ".join(f"{name} {number}" for name, number in manifest.get("libraries", {}).items()),
        "took": ", ".join(f"{name} {spoken(seconds)}" for name, seconds in manifest.get("seconds", {}).items()),
        "note": str(manifest.get("note", "")),
        "not needed": unneeded(entry),
    }
    if quality:
        for kind, loss in quality.losses.items():
            rows[f"lost on {kind}"] = (
                f"KL divergence {with_error(loss.kl_divergence, loss.kl_divergence_error, 4)} nats per token, "
                f"perplexity {loss.perplexity_original:.3f} to {loss.perplexity_exported:.3f}, {loss.tokens} tokens"
            )
    width = max(map(len, rows))
    return "\n".join([entry.name, *(f"  {what:<{width}}  {value}" for what, value in rows.items() if value)])


def _source(entry: Entry) -> str:
    if entry.received:
        return f"Hub {entry.received.get('name')}, built elsewhere"
    kind, name = entry.source.get("kind"), str(entry.source.get("name", "unknown"))
    by = ", quantized by others" if entry.manifest.get("quantized") else ""
    said = {
        "demo": "bundled",
        "hub": f"Hub {name}",
        "folder": f"folder {name}",
        "export": f"Hub {name}, export of others",
    }
    return said.get(str(kind), name) + by


def _recipe(entry: Entry) -> str:
    recipe, target = entry.manifest.get("recipe", {}), entry.manifest.get("target", {})
    if not recipe or not target:
        return "unknown"
    exact = ", float32" if target.get("accuracy_level") == 1 else ""
    mixed = "" if recipe.get("mixture", "none") == "none" else f", {recipe['mixture']}"
    said = f"{recipe.get('quant_algo')}, group {recipe.get('group_size')}{mixed}"
    return f"{said}, {target.get('execution_provider')}{exact}"


def _loss(entry: Entry) -> str:
    quality = _quality(entry)
    if quality is None or not quality.losses:
        return "not measured"
    return with_error(quality.kl_divergence, quality.kl_divergence_error, 4)


def _quality(entry: Entry) -> Quality | None:
    try:
        return Quality.from_facts(entry.manifest["quality"])
    except (KeyError, TypeError):  # of another version
        return None


def _used(entry: Entry) -> str:
    if is_served(entry.folder):
        return "now"
    return "never" if entry.used is None else _day(entry.used)


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _has_its_hash(entry: Entry) -> bool:
    """Whether its recipe leads to it: another version's knobs would lead elsewhere."""
    if entry.manifest.get("quantized"):
        return True
    try:
        recipe: dict[str, Any] = dict(entry.manifest["recipe"])
        recipe["exclude_layers"] = tuple(recipe["exclude_layers"])
        found = recipe_hash(QuantRecipe(**recipe), ExportTarget(**entry.manifest["target"]))
    except (KeyError, TypeError, BuildError):
        return False
    return entry.folder.name.startswith(f"{found}-")
