"""Model folders on disk: where they are, how one appears, and which of them is current.

Layout: `<models-dir>/<slug>/<recipe-hash>-<n>/`. Every build gets the next n, is made in a staging folder beside it,
and appears by one rename, complete with its manifest. The highest n is current. So a rebuild never touches the folder
being served, works where open files cannot be replaced, and a kill at any moment leaves the old or the new model.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_data_path

from builder.errors import BuildError
from builder.kept.results import first_change
from builder.kept.use import is_served

MANIFEST = "manifest.json"
RECEIVED = "received.json"  # beside the manifest of a model that was built elsewhere: where it was fetched from
STAGING = ".staging-"  # and a key: the working folder of builds
_LIBRARIES = ("amd-quark", "onnxruntime-genai", "onnxruntime", "torch", "transformers", "tokenizers")


def default_models_dir() -> Path:
    """OGA_CHAT_HOME, else the platform's folder for a user's data."""
    home = os.environ.get("OGA_CHAT_HOME")
    return Path(home).expanduser() if home else user_data_path("oga-chat", appauthor=False)


@dataclass(frozen=True, slots=True)
class Shelf:
    """All builds of one source by one recipe."""

    folder: Path
    recipe_hash: str

    def builds(self) -> list[Path]:
        """Finished builds, oldest first. A folder without a manifest is not one."""
        return [path for _, path in self._numbered() if (path / MANIFEST).is_file()]

    def current(self) -> Path | None:
        """The newest finished build."""
        return next(reversed(self.builds()), None)

    def next(self) -> Path:
        """Where the next build will appear: after everything that is there, whole or not."""
        newest = max((number for number, _ in self._numbered()), default=0)
        return self.folder / f"{self.recipe_hash}-{newest + 1}"

    def prune(self) -> None:
        """Remove all but the newest build. One that is still served, or open elsewhere, stays until the next time."""
        current = self.current()
        for _, old in self._numbered():
            if current is None or old == current:
                break
            if is_served(old):
                continue
            (old / MANIFEST).unlink(missing_ok=True)  # first, so that no half-removed folder counts as a build
            shutil.rmtree(old, ignore_errors=True)

    def _numbered(self) -> list[tuple[int, Path]]:
        named = ((path.name.rpartition("-")[2], path) for path in self.folder.glob(f"{self.recipe_hash}-*"))
        return sorted((int(number), path) for number, path in named if number.isdecimal())


def staging_key(source: str, revision: str) -> str:
    """What tells the working folder of a source's builds: its name, and which content of it."""
    return hashlib.sha256(f"{source}:{revision}".encode()).hexdigest()[:12]


@contextmanager
def staging(parent: Path, key: str) -> Iterator[Path]:
    """A locked working folder in `parent`. What an interrupted build with the same key finished is kept in it.

    Raises BuildError where another process is building with the same key.
    """
    name = f"{STAGING}{key}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(parent / f"{name}.lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BuildError(f"another process is building in {parent}: wait for it, or stop it.") from error
    except OSError as error:
        raise BuildError(f"{parent} cannot be written to ({error}): choose another place with --models-dir.") from error
    try:
        folder = parent / name
        folder.mkdir(exist_ok=True)
        for leftover in folder.glob("*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield folder
    finally:
        lock.release()


def publish(finished: Path, files: Mapping[str, Any], destination: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest into `finished`, with the sizes and hashes of `files`, and let it appear by one rename."""
    libraries = {name: version(name) for name in _LIBRARIES}
    manifest = {**facts, "libraries": libraries, "files": files}
    (finished / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    os.rename(finished, destination)


def check_files(folder: Path) -> None:
    """Every file has the SHA-256 that the manifest records. Raises BuildError naming the first that has not."""
    if not (folder / MANIFEST).is_file():
        raise BuildError(f"{folder} has no {MANIFEST} to verify it by: it was not built by oga-chat.")
    try:
        fault = first_change(folder, read_manifest(folder)["files"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BuildError(
            f"{folder / MANIFEST} does not say what the files were like: it was not built by oga-chat."
        ) from error
    if fault:
        raise BuildError(f"{folder} is not as it was built: {fault}. Build it again with --rebuild.")


def check_received(folder: Path, name: str) -> None:
    """Every file of a model that was downloaded has the SHA-256 that its manifest records.

    name: the repository. Raises BuildError naming the first file that has not. It finds what was damaged or exchanged
    on the way; who publishes writes the manifest too.
    """
    try:
        fault = first_change(folder, read_manifest(folder)["files"])
    except (BuildError, KeyError, TypeError, AttributeError):
        fault = f"its {MANIFEST} cannot be read"
    if fault:
        raise BuildError(
            f"{name} is not what its {MANIFEST} says: {fault}. Fetch it again, after 'hf cache rm model/{name}'; where "
            "that does not help, tell whoever published it."
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """What was recorded at the build. Raises BuildError where that cannot be read."""
    file = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(f"{file} cannot be read ({error}): build the model again with --rebuild.") from error
    return manifest
