"""`python -m builder publish`: a built folder goes to the Hugging Face Hub, once its owner has seen what goes where."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.console import confirmed
from builder.errors import BuildError
from builder.giving.card import model_card, public_manifest
from builder.giving.licence import Licence, licence_of
from builder.giving.upload import Item, There, look, refuse_another, send
from builder.kept.artifact import MANIFEST, read_manifest
from builder.kept.results import first_change
from builder.progress import Report, Step, megabytes, silent, terminal

CARD = "README.md"
_NEEDED = ("source", "target", "quality", "files")


def publish(folder: Path, repository: str, public: bool, given_licence: str | None, yes: bool) -> str:
    """Show what would go where, ask, and send it. Returns the repository's address.

    yes: do not ask. Raises BuildError; then nothing was sent, or the next try sends only what is missing.
    """
    # 1. It may be given, and is what was built.
    manifest = _manifest_of(folder)
    told = public_manifest(manifest)
    there = look(repository)
    refuse_another(repository, there, told, public)
    licence = licence_of(manifest["source"], given_licence)
    _check(folder, manifest["files"])
    items = items_of(folder, told, licence, repository)

    # 2. What would go where.
    print(plan(repository, there, items, told, licence, public))
    left = sorted(file.name for file in folder.iterdir() if file.name not in {*manifest["files"], MANIFEST})
    if left:
        print(f"Not sent, since the build did not make it: {', '.join(left)}")
    if all(there.state(item) == "same" for item in items) and not (public and there.private):
        return send(repository, there, items, public, silent)
    if not confirmed("Send it?", yes):
        raise BuildError("nothing was sent.")

    # 3. The way there.
    with _progress() as report:
        return send(repository, there, items, public, report)


def items_of(folder: Path, told: dict[str, Any], licence: Licence, repository: str) -> list[Item]:
    """Every file that is given: those of the build, the card, the manifest, and texts of the licence."""
    built = [Item(name, folder / name, entry["size"], entry["sha256"]) for name, entry in told["files"].items()]
    card = Item.of(CARD, model_card(told, licence, repository).encode())
    record = Item.of(MANIFEST, (json.dumps(told, indent=2) + "\n").encode())
    taken = {CARD, MANIFEST, *told["files"]}
    texts = [Item.of(text.name, text) for text in licence.texts if text.name not in taken]
    return [*built, record, card, *texts]


def plan(repository: str, there: There, items: list[Item], told: dict[str, Any], licence: Licence, public: bool) -> str:
    """What would go where, for people."""
    seen = "everybody can see it" if public else "private: only you, or your organization, can see it"
    place = "exists" if there.commit else "will be made"
    lines = [
        f"{repository} ({place}; {seen}), as {there.account}:",
        *(f"  {there.state(item):<8}{megabytes(item.size):>9}  {item.path}" for item in items),
    ]
    others = sorted(set(there.sums or ()) - {item.path for item in items} - {".gitattributes"})
    lines += [f"  stays as it is: {', '.join(others)}"] if others else []
    size = sum(item.size for item in items if there.state(item) != "same")
    lines.append(f"To send: {megabytes(size)}, made from {told['source']['name']}, licence {licence.identifier}.")
    lines += [f"note: {licence.note}."] if licence.note else []
    return "\n".join(lines)


def _manifest_of(folder: Path) -> dict[str, Any]:
    """What a build recorded of a folder. Raises BuildError for a folder of another make."""
    if not folder.is_dir():
        raise BuildError(f"{folder} is not a folder: name one that a build made ('python app.py --list' tells them).")
    if not (folder / MANIFEST).is_file():
        raise BuildError(f"{folder} has no {MANIFEST}: only what oga-chat built and measured is published.")
    manifest = read_manifest(folder)
    whole = isinstance(manifest, dict) and all(isinstance(manifest.get(name), dict) for name in _NEEDED)
    if not (
        whole
        and {"kind", "name", "revision"} <= manifest["source"].keys()
        and all(isinstance(entry, dict) and {"size", "sha256"} <= entry.keys() for entry in manifest["files"].values())
    ):
        raise BuildError(f"{folder / MANIFEST} does not say what was built: only what oga-chat built is published.")
    return manifest


def _check(folder: Path, files: dict[str, Any]) -> None:
    """That every file lies inside the folder and is as it was built. Raises BuildError."""
    total, done = sum(entry["size"] for entry in files.values()), 0
    with terminal() as report:
        for name, entry in files.items():
            report(Step("check", done, max(total, 1), name))
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise BuildError(f"{folder} names {name!r}, which is not inside it: nothing was sent.")
            if fault := first_change(folder, {name: entry}):
                raise BuildError(f"{folder} is not as it was built: {fault}. Build it again with --rebuild.")
            done += entry["size"]
        report(Step("check", 1, 1))


@contextmanager
def _progress() -> Iterator[Report]:
    """On a terminal the client's bars, which know of every byte; elsewhere our lines."""
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty():
        enable_progress_bars()
        yield silent
        return
    disable_progress_bars()
    with terminal() as report:
        yield report
