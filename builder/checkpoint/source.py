"""Which checkpoint is meant: the bundled demo, a local folder, or a Hub id; and where it lies on this disk."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from builder import demo
from builder.checkpoint.hub import download
from builder.errors import SourceError
from builder.progress import Report, silent

Kind = Literal["demo", "folder", "hub"]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Weights in safetensors only: other formats can run code when they are loaded.
_SETTINGS = ("*.json", "*.jinja", "tokenizer.model")
_WEIGHTS = ("*.safetensors",)
# Folders hold other formats of the same model, and Mistral's consolidated files its weights once more.
_NOT_NEEDED = ("*/*", "consolidated*")


@dataclass(frozen=True, slots=True)
class Source:
    """What the user named. `slug` is its folder name below the models folder."""

    kind: Kind
    name: str
    slug: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Located:
    """A source brought onto this disk, at one revision: a Hub commit, or a fingerprint of a folder's content."""

    source: Source
    path: Path
    revision: str


def parse_source(model: str, revision: str | None = None, flag: str = "--model") -> Source:
    """Tell demo, folder and Hub id apart, without touching the network. Raises SourceError for anything else.

    flag: what the user gave it by.
    """
    path = Path(model).expanduser()
    is_folder = bool(model) and path.is_dir()  # an empty path is the working directory
    if revision and (model == "demo" or is_folder):
        raise SourceError(f"--revision {revision!r} is for models on the Hub, and {flag} {model!r} is on this disk.")
    if model == "demo":
        return Source("demo", "demo", "demo")
    if is_folder:
        resolved = path.resolve()
        tag = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
        return Source("folder", str(resolved), f"{resolved.name}-{tag}")
    if _HUB_ID.fullmatch(model) and not model.startswith("."):
        slug = model.replace("/", "--") + (f"@{revision.replace('/', '--')}" if revision else "")
        return Source("hub", model, slug, revision)
    raise SourceError(
        f"{flag} {model!r} is neither 'demo', nor a folder that exists, nor a Hub id such as "
        "meta-llama/Llama-2-7b-chat-hf."
    )


def locate_settings(source: Source) -> Located:
    """Where a checkpoint is, of which the weights may be missing: enough to refuse it. Raises SourceError."""
    if source.kind == "hub":
        return _download(source, source.revision, _SETTINGS, silent)  # small files: their progress would only flicker
    folder = demo.CHECKPOINT if source.kind == "demo" else Path(source.name)
    return Located(source, folder, fingerprint(folder))


def add_weights(located: Located, report: Report = silent) -> None:
    """Bring the weights to where the settings are: those of the same commit. Raises SourceError saying what to do."""
    if located.source.kind == "hub":
        _download(located.source, located.revision, _WEIGHTS, report)


def locate(source: Source, report: Report = silent) -> Located:
    """Find the checkpoint, downloading it if it lives on the Hub. Raises SourceError saying what to do."""
    if source.kind == "hub":
        return _download(source, source.revision, (*_SETTINGS, *_WEIGHTS), report)
    return locate_settings(source)


def _download(source: Source, revision: str | None, files: Sequence[str], report: Report) -> Located:
    path = download(source.name, "model", revision, files, _NOT_NEEDED, report)
    return Located(source, path, path.name)


def fingerprint(folder: Path) -> str:
    """Hash of a checkpoint folder's file names, sizes and times: cheap, and enough to notice a change.

    The bundled demo is hashed by content, since installing a package gives its files new times.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".jinja", ".safetensors", ".model"} and file.is_file():
            stat = file.stat()
            mark = hashlib.sha256(file.read_bytes()).hexdigest() if folder == demo.CHECKPOINT else stat.st_mtime_ns
            digest.update(f"{file.name}:{stat.st_size}:{mark}\n".encode())
    return digest.hexdigest()[:16]
