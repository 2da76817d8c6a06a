"""Whose keys and values they are: a key that differs wherever the same tokens could have been computed otherwise."""

import hashlib
import json
from pathlib import Path

from serving.engine.blocks import FORMAT
from serving.engine.runtime import Runtime
from serving.folder import ModelFolder


def key_of(runtime: Runtime) -> str:
    """Of the model's files, what computes it, and how its keys and values lie; hexadecimal. Raises OSError."""
    facts = {
        "format": FORMAT,
        "model": model_digest(runtime.folder),
        "runtime": runtime.made_by,
        "layout": [[name, kind.str, heads, size] for name, (kind, heads, size) in runtime.kv_layout.items()],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def model_digest(folder: ModelFolder) -> str:
    """Of graph, weights and what lies beside them. What the manifest records is not read again, if its file is as old
    as it was: a gigabyte of others takes a second. Raises OSError.
    """
    recorded = folder.manifest.get("files")
    files = {file for place in {folder.path, folder.graph.parent} for file in place.iterdir() if file.is_file()}
    facts: list[tuple[object, ...]] = []
    for file in sorted(files):
        name, state = file.relative_to(folder.path).as_posix(), file.stat()
        entry = recorded.get(name) if isinstance(recorded, dict) else None
        known = entry.get("sha256") if isinstance(entry, dict) else None
        # Of a file that was changed since, its time tells.
        facts.append((name, state.st_size, known, state.st_mtime_ns) if known else (name, state.st_size, _sha256(file)))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
