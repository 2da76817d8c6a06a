"""Which checkpoint is meant: the bundled demo, a local folder, or a Hub id; and where it lies on this disk."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open

from builder import demo
from builder.checkpoint.hub import download
from builder.errors import SourceError
from builder.progress import Report, silent

Kind = Literal["demo", "folder", "hub"]
SMALL_MODEL = 300_000_000  # parameters
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
class Checkpoint:
    """A source brought onto this disk, at one revision: a Hub commit, or a fingerprint of a folder's content."""

    source: Source
    path: Path
    revision: str


def parse_source(model: str, revision: str | None = None) -> Source:
    """Tell demo, folder and Hub id apart, without touching the network. Raises SourceError for anything else."""
    path = Path(model).expanduser()
    is_folder = bool(model) and path.is_dir()  # an empty path is the working directory
    if revision and (model == "demo" or is_folder):
        raise SourceError(f"--revision {revision!r} is for models on the Hub, and --model {model!r} is on this disk.")
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
        f"--model {model!r} is neither 'demo', nor a folder that exists, nor a Hub id such as "
        "meta-llama/Llama-2-7b-chat-hf."
    )


def locate_settings(source: Source, report: Report = silent) -> Path:
    """A folder with all of the checkpoint but its weights: enough to refuse it. Raises SourceError."""
    if source.kind == "hub":
        return download(source.name, "model", source.revision, _SETTINGS, _NOT_NEEDED, report)
    return locate(source).path


def locate(source: Source, report: Report = silent) -> Checkpoint:
    """Find the checkpoint, downloading it if it lives on the Hub. Raises SourceError saying what to do."""
    if source.kind == "demo":
        return Checkpoint(source, demo.CHECKPOINT, fingerprint(demo.CHECKPOINT))
    if source.kind == "folder":
        return Checkpoint(source, Path(source.name), fingerprint(Path(source.name)))
    path = download(source.name, "model", source.revision, (*_SETTINGS, *_WEIGHTS), _NOT_NEEDED, report)
    return Checkpoint(source, path, path.name)


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
    if (checkpoint / "genai_config.json").is_file() and any(checkpoint.glob("*.onnx")):
        raise SourceError(f"{checkpoint} is an export already: serve it with 'python app.py --model {checkpoint}'.")
    if not file.is_file():
        raise SourceError(
            f"{checkpoint} has no config.json: it is not a Hugging Face checkpoint folder. Of a model that comes as "
            "GGUF or ONNX files, name the repository with the original weights."
        )
    return _read_object(file)


def read_tokenizer_config(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint's tokenizer_config.json, {} where there is none. Raises SourceError."""
    file = checkpoint / "tokenizer_config.json"
    return _read_object(file) if file.is_file() else {}


def read_chat_template(checkpoint: Path) -> str | None:
    """The Jinja template of conversations, from where transformers looks for it. Raises SourceError."""
    file = checkpoint / "chat_template.jinja"
    if file.is_file():
        return _read(file)
    template = read_tokenizer_config(checkpoint).get("chat_template")
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) else None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read: {error}.") from error


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(file))
    except ValueError as error:
        raise SourceError(f"{file} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise SourceError(f"{file} does not hold a JSON object.")
    return content


def resolve_data_type(data_type: str, checkpoint: Path) -> str:
    """The torch dtype name that "auto" means for this checkpoint: see QuantRecipe.data_type."""
    if data_type != "auto":
        return data_type
    stored = {"F16": "float16", "BF16": "bfloat16"}
    counts = _parameters_by_type(checkpoint)
    if sum(counts.values()) < SMALL_MODEL:
        return "float32"
    return stored.get(max(counts, key=lambda dtype: counts[dtype]), "float32")


def count_parameters(checkpoint: Path) -> int:
    """Of all weights, by the headers of their files."""
    return sum(_parameters_by_type(checkpoint).values())


def _parameters_by_type(checkpoint: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                tensor = tensors.get_slice(name)
                counts[tensor.get_dtype()] = counts.get(tensor.get_dtype(), 0) + math.prod(tensor.get_shape())
    return counts
