"""Which checkpoint is meant: the bundled demo, a local folder, or a Hub id; and where it lies on this disk."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from builder import demo
from builder.checkpoint.files import read_object
from builder.checkpoint.hub import Listing, download, listing
from builder.checkpoint.kinds import Found, kind_of
from builder.errors import SourceError
from builder.progress import Report, silent

Kind = Literal["demo", "folder", "hub"]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Weights in safetensors only: other formats can run code when they are loaded.
_SETTINGS = ("*.json", "*.jinja", "tokenizer.model")
_WEIGHTS = ("*.safetensors",)
_CONFIG = ("config.json",)
_DEPTH = 5  # folders of a repository of exports
_ENTRIES = 20_000  # that are looked at: somebody may name a whole disk
# Folders hold other formats of the same model, and Mistral's consolidated files its weights once more.
_NOT_NEEDED = ("*/*", "consolidated*")
# Where transformers writes a template that is meant for tools, beside the usual one.
_FOR_TOOLS = "additional_chat_templates/tool_use.jinja"


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


def look(source: Source, subfolder: str | None = None) -> tuple[Found, Mapping[str, int], str]:
    """What a source holds, before anything large is fetched; its files with their sizes, and its revision.

    Of the Hub, without an answer, what the cache holds. Raises SourceError and UnsupportedModel.
    """
    if source.kind == "demo":
        return Found("original"), {}, ""
    listed = listing(source.name, source.revision) if source.kind == "hub" else None
    config = None
    if listed is None or "config.json" in listed.files:
        on_hub = source.kind == "hub"
        located = _download(source, source.revision, _CONFIG, silent) if on_hub else locate_settings(source)
        if (located.path / "config.json").is_file():
            config = read_object(located.path / "config.json")
        if listed is None:
            files = files_of(located.path)
            # Whether the rest of a checkpoint is in the cache is known when it is fetched.
            listed = Listing(located.revision, files | ({"model.safetensors": 0} if on_hub and config else {}))
    return kind_of(source.name, listed.files, config, subfolder, listed.base), listed.files, listed.commit


def files_of(folder: Path) -> dict[str, int]:
    """Sizes of a folder's files by their paths in it, down to where exports have been seen to lie."""
    below = (file for depth in range(_DEPTH) for file in folder.glob("*/" * depth + "*"))
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size for file in islice(below, _ENTRIES) if file.is_file()
    }


def _download(source: Source, revision: str | None, files: Sequence[str], report: Report) -> Located:
    path = download(source.name, "model", revision, files, _NOT_NEEDED, report, also=[_FOR_TOOLS])
    return Located(source, path, path.name)


def fingerprint(folder: Path) -> str:
    """Hash of a checkpoint folder's file names, sizes and times: cheap, and enough to notice a change.

    The bundled demo is hashed by content, since installing a package gives its files new times.
    """
    digest = hashlib.sha256()
    for file in (*sorted(folder.iterdir()), folder / _FOR_TOOLS):
        if file.suffix in {".json", ".jinja", ".safetensors", ".model"} and file.is_file():
            stat = file.stat()
            mark = hashlib.sha256(file.read_bytes()).hexdigest() if folder == demo.CHECKPOINT else stat.st_mtime_ns
            digest.update(f"{file.name}:{stat.st_size}:{mark}\n".encode())
    return digest.hexdigest()[:16]
