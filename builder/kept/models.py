"""What a models folder holds: finished models, older builds of them, and what interrupted builds left.

Links are not followed: what they lead to is not looked into, not counted, and never removed.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from builder.errors import BuildError
from builder.kept.artifact import MANIFEST, RECEIVED, STAGING, staging_key
from builder.kept.use import BUILD, forget, is_served, last_used

_UNFINISHED = re.compile(re.escape(STAGING) + r"([0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder of a models folder.

    name: `<source>/<twelve digits>`, with the build's number where it is an older one. size: bytes, links left out.
    manifest, received: empty where there is none that can be read. received: where a model that was built elsewhere
    was fetched from. built, used: seconds since the epoch.
    """

    name: str
    kind: Literal["model", "older", "unfinished"]
    folder: Path
    size: int
    manifest: dict[str, Any]
    built: float
    used: float | None = None
    received: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> dict[str, Any]:
        """What it was made from, as the manifest has it."""
        source = self.manifest.get("source")
        return source if isinstance(source, dict) else {}

    @property
    def key(self) -> str:
        """Of the working folder of its builds; "" where that is not known."""
        if self.kind == "unfinished":
            return self.folder.name.removeprefix(STAGING)
        origin = self.received or self.source
        return (
            staging_key(str(origin["name"]), str(origin["revision"])) if {"name", "revision"} <= origin.keys() else ""
        )


def entries(models_dir: Path) -> list[Entry]:
    """Everything that builds made and left, by name."""
    found: list[Entry] = []
    for place in _folders(models_dir):
        builds: dict[str, list[tuple[int, Path]]] = {}
        for folder in _folders(place):
            if named := BUILD.fullmatch(folder.name):
                builds.setdefault(named[1], []).append((int(named[2]), folder))
            elif unfinished := _UNFINISHED.fullmatch(folder.name):
                found.append(_entry(f"{place.name}/{unfinished[1]}", "unfinished", folder))
        for recipe, numbered in builds.items():
            ordered = [folder for _, folder in sorted(numbered, reverse=True)]
            newest = next((folder for folder in ordered if (folder / MANIFEST).is_file()), None)
            for folder in ordered:
                is_newest = folder == newest
                name = f"{place.name}/{recipe if is_newest else folder.name}"
                found.append(_entry(name, "model" if is_newest else "older", folder))
    return sorted(found, key=lambda entry: (entry.kind != "model", entry.name))


def find(models_dir: Path, name: str) -> Entry | None:
    """What has this name; of a source that has one model, the source's part is enough.

    Raises BuildError where it has several.
    """
    everything = entries(models_dir)
    for entry in everything:
        if name in (entry.name, f"{entry.folder.parent.name}/{entry.folder.name}"):
            return entry
    of_source = [entry for entry in everything if entry.kind == "model" and entry.folder.parent.name == name]
    if len(of_source) > 1:
        names = ", ".join(entry.name for entry in of_source)
        raise BuildError(f"{name} has {len(of_source)} models: name one of {names}.")
    return of_source[0] if of_source else None


def going_with(entry: Entry, everything: Sequence[Entry]) -> list[Entry]:
    """What is removed with an entry, itself first.

    With a model go its older builds, and, with the last one of a source's content, what interrupted builds of it left.
    """
    if entry.kind != "model":
        return [entry]
    beside = [other for other in everything if other.folder.parent == entry.folder.parent and other != entry]
    recipe = entry.folder.name.rpartition("-")[0]
    older = [other for other in beside if other.kind == "older" and other.folder.name.startswith(f"{recipe}-")]
    if any(other.kind == "model" and other.key == entry.key for other in beside):
        return [entry, *older]
    return [entry, *older, *(other for other in beside if other.kind == "unfinished" and other.key == entry.key)]


def remove(models_dir: Path, going: Sequence[Entry]) -> None:
    """Remove entries of one source. Raises BuildError, before anything is gone, for what is in use or a link."""
    place = going[0].folder.parent
    for entry in going:
        if entry.folder.resolve() != models_dir.resolve() / place.name / entry.folder.name:
            raise BuildError(f"{entry.folder} is a link, or lies behind one: nothing was removed. Remove it by hand.")
    with _no_build(place):
        for entry in going:
            if is_served(entry.folder):
                raise BuildError(f"{entry.name} is being served: stop that first. Nothing was removed.")
        for entry in going:
            (entry.folder / MANIFEST).unlink(missing_ok=True)  # first, so that no half-removed folder counts as a build
            try:
                shutil.rmtree(entry.folder)
            except OSError as error:
                raise BuildError(f"{entry.folder} could not be removed completely: {error}.") from error
            if entry.kind == "model":
                forget(entry.folder)
    # A source's folder with nothing in it but locks, which nobody holds, goes too.
    if all(file.name.endswith(".lock") for file in place.iterdir()):
        with suppress(OSError):
            for file in place.iterdir():
                file.unlink()
            place.rmdir()


def is_building(unfinished: Entry) -> bool:
    """Whether a build works there right now."""
    try:
        FileLock(unfinished.folder.with_name(f"{unfinished.folder.name}.lock")).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    except OSError:
        return False
    return False


@contextmanager
def _no_build(place: Path) -> Iterator[None]:
    """Keep builds of a source from starting. Raises BuildError where one is under way."""
    with ExitStack() as held:
        for file in place.glob(f"{STAGING}*.lock"):
            try:
                held.enter_context(FileLock(file).acquire(timeout=0))
            except Timeout as error:
                raise BuildError(
                    f"{place.name} is being built right now: wait for it, or stop it. Nothing was removed."
                ) from error
            except OSError as error:
                raise BuildError(f"{place} cannot be written to ({error}): nothing was removed.") from error
        yield


def _entry(name: str, kind: Literal["model", "older", "unfinished"], folder: Path) -> Entry:
    manifest, received = _facts(folder / MANIFEST), _facts(folder / RECEIVED)
    used = last_used(folder) if kind == "model" else None
    return Entry(name, kind, folder, size_of(folder), manifest, folder.stat().st_mtime, used, received)


def _folders(parent: Path) -> list[Path]:
    """Real folders in it, without those that are links."""
    try:
        with os.scandir(parent) as found:
            return sorted(Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BuildError(f"{parent} cannot be read ({error}): choose another place with --models-dir.") from error


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; links and what they lead to are left out."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                file = Path(path, name)
                total += 0 if file.is_symlink() else file.lstat().st_size
    return total


def _facts(file: Path) -> dict[str, Any]:
    """What it says; nothing where it is damaged: what cannot be read has to be seen, and removed, all the same."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
