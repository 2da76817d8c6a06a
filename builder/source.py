"""Which checkpoint is meant: the bundled demo, a local folder, or a Hub id; and where it lies on this disk."""

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open

from builder import demo
from builder.errors import SourceError

Kind = Literal["demo", "folder", "hub"]
SMALL_MODEL = 1_000_000_000  # parameters
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Weights in safetensors only: other formats can run code when they are loaded.
_HUB_FILES = ("*.json", "*.jinja", "*.safetensors", "tokenizer.model")


@dataclass(frozen=True, slots=True)
class Source:
    """What the user named. `slug` is its folder name below the models folder."""

    kind: Kind
    name: str
    slug: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A source brought onto this disk, at one revision: a Hub commit, or a fingerprint of a folder's content."""

    source: Source
    path: Path
    revision: str


def parse_source(model: str, revision: str | None = None) -> Source:
    """Tell demo, folder and Hub id apart, without touching the network. Raises SourceError for anything else."""
    if model == "demo":
        return Source("demo", "demo", "demo")
    path = Path(model).expanduser()
    if path.is_dir():
        resolved = path.resolve()
        tag = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
        return Source("folder", str(resolved), f"{resolved.name}-{tag}")
    if _HUB_ID.fullmatch(model) and not model.startswith("."):
        slug = model.replace("/", "--") + (f"@{revision.replace('/', '--')}" if revision else "")
        return Source("hub", model, slug, revision)
    raise SourceError(
        f"--model {model!r} is neither 'demo', nor a folder that exists, nor a Hub id such as "
        "meta-llama/Llama-2-7b-chat-hf."
    )


def locate(source: Source) -> Checkpoint:
    """Find the checkpoint, downloading it if it lives on the Hub. Raises SourceError saying what to do."""
    if source.kind == "demo":
        return Checkpoint(source, demo.CHECKPOINT, fingerprint(demo.CHECKPOINT))
    if source.kind == "folder":
        return Checkpoint(source, Path(source.name), fingerprint(Path(source.name)))
    path = _download(source)
    return Checkpoint(source, path, path.name)  # the Hub cache names a snapshot's folder after its commit


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


def read_config(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint's config.json. Raises SourceError naming the file and the fault."""
    file = checkpoint / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceError(f"{checkpoint} has no config.json: it is not a Hugging Face checkpoint folder.") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{file} cannot be read: {error}.") from error
    if not isinstance(config, dict):
        raise SourceError(f"{file} does not hold a JSON object.")
    return config


def _download(source: Source) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        hub_call(
            source.name,
            source.revision,
            lambda: snapshot_download(source.name, revision=source.revision, allow_patterns=list(_HUB_FILES)),
        )
    )


def hub_call(name: str, revision: str | None, call: Callable[[], str]) -> str:
    """Run a Hub download and turn the client's exceptions into one clear SourceError each."""
    from huggingface_hub import errors

    try:
        return call()
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{name} is gated: ask for access on its Hub page, then log in with 'hf auth login' or set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"the Hub has no {name}, or it is private: check the spelling, or log in with 'hf auth login'."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{name} has no revision {revision!r}: use a branch, tag or commit of it.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise SourceError(
            f"{name} is not in the local cache and the Hub cannot be reached: check the connection, or name a "
            "local folder."
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        raise SourceError(f"{name} could not be downloaded: {error}") from error


def resolve_data_type(data_type: str, checkpoint: Path) -> str:
    """The torch dtype name that "auto" means for this checkpoint: see QuantRecipe.data_type."""
    if data_type != "auto":
        return data_type
    stored = {"F16": "float16", "BF16": "bfloat16"}
    counts: dict[str, int] = {}
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                tensor = tensors.get_slice(name)
                counts[tensor.get_dtype()] = counts.get(tensor.get_dtype(), 0) + math.prod(tensor.get_shape())
    if sum(counts.values()) < SMALL_MODEL:
        return "float32"
    return stored.get(max(counts, key=lambda dtype: counts[dtype]), "float32")
