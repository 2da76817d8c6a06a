"""What a checkpoint is: read once, into one value that everything else looks things up in.

A stage that is a process of its own is told the folder and reads it once more: a job is then a few paths and knobs, and
what is known of a family are functions, which no JSON can carry.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.checkpoint import told
from builder.checkpoint.files import read_object
from builder.checkpoint.model import Model
from builder.checkpoint.quantization import Quantization
from builder.checkpoint.source import Located, Source
from builder.checkpoint.tokenizer import TokenizerFiles, read_tokenizer
from builder.checkpoint.weights import Weights, read_weights
from builder.errors import SourceError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A Hugging Face checkpoint folder. quantization: None for one whose weights are still whole."""

    path: Path
    model: Model
    tokenizer: TokenizerFiles
    quantization: Quantization | None
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A checkpoint, and where it came from. revision: a Hub commit, or a fingerprint of a folder's content."""

    source: Source
    revision: str
    checkpoint: Checkpoint


def is_export(folder: Path) -> bool:
    """Whether a folder is a model that OGA serves as it is, ours or another's."""
    return (folder / "genai_config.json").is_file() and any(folder.glob("*.onnx"))


def read_settings(folder: Path) -> Checkpoint:
    """All but the weights, which need not be there yet. Raises SourceError and UnsupportedModel."""
    file = folder / "config.json"
    if is_export(folder):
        raise SourceError(f"{folder} is an export already: serve it with 'python app.py --model {folder}'.")
    if not file.is_file():
        raise SourceError(
            f"{folder} has no config.json: it is not a Hugging Face checkpoint folder. Of a model that comes as "
            "GGUF or ONNX files, name the repository with the original weights."
        )
    config = read_object(file)
    return Checkpoint(folder, Model.of(config), read_tokenizer(folder), Quantization.of(config))


def with_weights(checkpoint: Checkpoint) -> Checkpoint:
    """The same, now that its weights are there. Raises SourceError where one is missing or damaged."""
    model = checkpoint.model
    weights = read_weights(checkpoint.path, lambda name: model.tensor(name) is not None)
    if model.part_of:
        model = told.with_head(model, any(model.tensor(name) == "lm_head.weight" for name in weights.tensors))
    return replace(checkpoint, model=model, weights=weights)


def read_folder(folder: Path) -> Checkpoint:
    """All of a checkpoint. Raises SourceError and UnsupportedModel."""
    return with_weights(read_settings(folder))


def read(located: Located) -> Fetched:
    """All of a checkpoint that is on this disk. Raises SourceError and UnsupportedModel."""
    return Fetched(located.source, located.revision, read_folder(located.path))
