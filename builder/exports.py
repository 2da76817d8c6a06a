"""Exports that others made, from a folder or the Hub: the one that fits is chosen, brought here, checked, and kept."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.checkpoint.choice import Candidate, candidate, choose, inside
from builder.checkpoint.files import read_text
from builder.checkpoint.hub import download
from builder.checkpoint.kinds import GENAI_CONFIG, Found
from builder.checkpoint.source import Source, fingerprint
from builder.errors import BuildError, StageFailed
from builder.kept.artifact import MANIFEST, RECEIVED, Shelf, check_received, read_manifest, staging, staging_key
from builder.kept.results import describe
from builder.progress import Report, silent
from builder.recipe import FORMAT, content_hash
from builder.stages.shards import link
from builder.stages.stage import run_stage

_CHECKED = ".checked"  # a folder below the models folder: what was found sound before, by fingerprints
_SECONDS = 120.0  # that checking tokenizer and template may take: a template is a program of its maker's
# Of a repository's folder, what tokenizer and template are told by, and what no export needs.
_TEXTS = ("*.json", "*.jinja", "*.model", "*.txt")
_NOT_NEEDED = ("*.md", "*.safetensors", "*.gguf", "*.pt", "*.pth", "*.py", "*.png", "*.jpg", "*.gitattributes")


@dataclass(frozen=True, slots=True)
class Taken:
    """An export's folder on this disk, and what it is, in a line; "" for one of ours."""

    folder: Path
    line: str = ""


def is_export(source: Source) -> bool:
    """Whether it is a folder that is an export itself."""
    return source.kind == "folder" and (Path(source.name) / GENAI_CONFIG).is_file()


def find(source: Source, subfolder: str | None, providers: Sequence[str], models_dir: Path) -> Path | None:
    """An export of the Hub that is here already."""
    return _shelf(source, subfolder, providers, models_dir).current()


def take(
    source: Source,
    found: Found,
    files: Mapping[str, int],
    revision: str,
    subfolder: str | None,
    providers: Sequence[str],
    models_dir: Path,
    report: Report,
) -> Taken:
    """An export of a folder or a repository, on this disk and checked. Raises BuildError.

    files: of the source, with their sizes. revision: the repository's commit. providers: that can be used here, the
    best first.
    """
    # 1. Which of them.
    settings = _settings(source, revision, found.exports)
    candidates = [
        candidate(folder, text, sum(size for file, size in files.items() if inside(folder, file)))
        for folder, text in settings.items()
    ]
    chosen = choose(source.name, candidates, providers)

    # 2. Where it lies is good enough for a folder, which is left as it is.
    if source.kind == "folder":
        folder = Path(source.name) / chosen.folder
        if _has_own_manifest(folder):
            return Taken(folder)
        check_once(folder, models_dir)
        return Taken(folder, _line(folder.name, chosen, ""))

    # 3. Of the Hub it is brought here, what can be refused first.
    pattern = f"{chosen.folder}/" if chosen.folder else ""
    ignored = [f"{pattern}*/*", *_NOT_NEEDED]
    texts = download(source.name, "model", revision, [f"{pattern}{each}" for each in _TEXTS], ignored)
    check(texts / chosen.folder)
    fetched = download(source.name, "model", revision, [f"{pattern}*"], ignored, report)
    shelf = _shelf(source, subfolder, providers, models_dir)
    _place(fetched / chosen.folder, shelf, source, chosen, revision)
    current = shelf.current()
    assert current is not None
    return Taken(current, _line(source.name, chosen, chosen.folder))


def _place(fetched: Path, shelf: Shelf, source: Source, chosen: Candidate, revision: str) -> None:
    """Let an export appear in a folder of its own: what is in the cache is links, which are not followed."""
    destination = shelf.next()
    try:
        with staging(destination.parent, staging_key(source.name, revision)) as work:
            made = work / f"{destination.name}.partial"
            made.mkdir()
            for file in sorted(fetched.iterdir()):
                if file.is_file():
                    link(file.resolve(), made / file.name)
            _seal(source, chosen, revision, made)
            made.rename(destination)
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise BuildError(
            f"{error.filename or destination} cannot be written ({error.strerror or error}): make room, or choose "
            "another place with --models-dir."
        ) from error
    shelf.prune()


def check(folder: Path) -> None:
    """Tokenizer, template and ends do what transformers makes of them, within two minutes. Raises BuildError."""
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "check.log"
        try:
            run_stage("builder.stages.prompts", {"exported": str(folder)}, log, silent, _SECONDS)
        except StageFailed as error:
            last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            reason = str(error).partition(" Its log")[0]
            raise BuildError(f"the tokenizer or chat template of {folder} cannot be used: {reason} {last}") from error


def check_once(folder: Path, models_dir: Path) -> None:
    """The same, unless it was found sound before."""
    mark = models_dir / _CHECKED / content_hash({"folder": str(folder.resolve()), "files": fingerprint(folder)})
    if not mark.is_file():
        check(folder)
        with suppress(OSError):  # then it is checked again at the next start
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _settings(source: Source, revision: str, folders: Sequence[str]) -> dict[str, str]:
    """The texts of the exports' settings, by their folders: a few kB each."""
    names = {folder: f"{folder}/{GENAI_CONFIG}" if folder else GENAI_CONFIG for folder in folders}
    if source.kind == "folder":
        return {folder: read_text(Path(source.name) / name) for folder, name in names.items()}
    path = download(source.name, "model", revision, list(names.values()))
    return {folder: read_text(path / name) for folder, name in names.items()}


def _seal(source: Source, chosen: Candidate, revision: str, folder: Path) -> None:
    """Record where it is from and what each file is like; one of ours keeps its own manifest, once it is compared."""
    origin = {"name": source.name, "revision": revision, "folder": chosen.folder}
    (folder / RECEIVED).unlink(missing_ok=True)
    if _has_own_manifest(folder):
        check_received(folder, source.name)
        (folder / RECEIVED).write_text(json.dumps(origin) + "\n", encoding="utf-8")
        return
    file = folder / MANIFEST
    file.unlink(missing_ok=True)
    facts: dict[str, Any] = {"format": FORMAT, "source": {"kind": "export", **origin}, "files": describe(folder)}
    file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _has_own_manifest(folder: Path) -> bool:
    """Whether it was built by a program like this one, which says what each file is like."""
    try:
        manifest: Any = read_manifest(folder)
        return {"format", "files"} <= manifest.keys() and all("sha256" in each for each in manifest["files"].values())
    except (BuildError, AttributeError, TypeError):
        return False


def _shelf(source: Source, subfolder: str | None, providers: Sequence[str], models_dir: Path) -> Shelf:
    asked = {"export": subfolder, "providers": list(providers)}
    return Shelf(models_dir / source.slug, content_hash(asked))


def _line(name: str, chosen: Candidate, folder: str) -> str:
    where = f", in {folder}" if folder else ""
    return f"{name}: an export for ONNX Runtime GenAI on {chosen.provider}{where}, served as it is"
