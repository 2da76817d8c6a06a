"""Results of stages that survive an interruption: each is kept with a hash of what it was made from.

A result is a folder `<stage>-<hash>` in the working folder of a build. It appears by one rename, when it is whole, and
beside it `<stage>-<hash>.json` has the size and SHA-256 of each of its files.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from builder.progress import Report, Step
from builder.recipe import FORMAT

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished stage. files: size and SHA-256 of each; result: what the stage answered; seconds: what it took."""

    folder: Path
    result: Facts
    files: Facts
    seconds: float

    @property
    def digest(self) -> str:
        """Of the content: what was made from this result is not taken for something made from another."""
        return _digest(self.files)


def keep(work: Path, stage: str, inputs: Mapping[str, Any], make: Callable[[Path], Facts], report: Report) -> Kept:
    """The result of `stage` for these inputs: what an earlier attempt finished, or else what `make` writes now.

    make: called with a folder to create. What was kept and is damaged is made again, and the reason reported.
    """
    report(Step(stage, 0, 0))
    folder = place(work, stage, inputs)
    found = _find(folder)
    if found and (fault := first_change(folder, found.files)):
        report(Step(stage, 0, 0, f"{stage}: what was kept is damaged ({fault}), so it is made again.", lasting=True))
        discard(found)
        found = None
    if found is None:
        started = time.perf_counter()
        partial = work / f"{folder.name}.{os.getpid()}.partial"
        result = make(partial)
        found = Kept(folder, result, describe(partial), round(time.perf_counter() - started, 2))
        facts = {"result": found.result, "seconds": found.seconds, "files": found.files, "inputs": dict(inputs)}
        _seal(folder).write_text(json.dumps(facts), encoding="utf-8")
        os.rename(partial, folder)
    report(Step(stage, 1, 1))
    return found


def place(work: Path, stage: str, inputs: Mapping[str, Any]) -> Path:
    """Where the result of `stage` for these inputs is kept, or would be."""
    return work / f"{stage}-{_digest({'format': FORMAT, 'stage': stage, **inputs})[:12]}"


def find(work: Path, stage: str, inputs: Mapping[str, Any]) -> Kept | None:
    """What an earlier attempt finished, if it is as it was."""
    found = _find(place(work, stage, inputs))
    return found if found and first_change(found.folder, found.files) is None else None


def discard(kept: Kept) -> None:
    """Remove a result; the next build makes it again."""
    _seal(kept.folder).unlink(missing_ok=True)
    shutil.rmtree(kept.folder, ignore_errors=True)


def describe(folder: Path) -> Facts:
    """Size and SHA-256 of every file in a folder, by its path in it."""
    return {
        file.relative_to(folder).as_posix(): {"size": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def first_change(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first file that is not as it was described, and what is wrong with it.

    A description may be a stranger's: where it names anything outside the folder, nothing is read.
    """
    outside = next((name for name in files if not _stays_inside(name)), None)
    if outside is not None:  # it may be empty
        return f"it names the file {outside!r}"
    for name, entry in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != entry["size"]:
            return f"{name} has {file.stat().st_size} bytes instead of {entry['size']}"
        if sha256(file) != entry["sha256"]:
            return f"{name} has another SHA-256 than when it was written"
    return None


def _stays_inside(name: str) -> bool:
    return bool(name) and not any(
        part in ("..", "/") or ":" in part or "\\" in part for part in PurePosixPath(name).parts
    )


def sha256(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _find(folder: Path) -> Kept | None:
    """A kept result, if it is whole: a folder whose description is missing or unreadable is not."""
    try:
        facts = json.loads(_seal(folder).read_text(encoding="utf-8")) if folder.is_dir() else None
        if facts is not None:
            return Kept(folder, facts["result"], facts["files"], facts["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _seal(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")
