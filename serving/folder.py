"""What serving asks of a model folder before it loads it, and what it reads from its configuration."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from serving.errors import InvalidRequest, ModelFolderError
from serving.types import Provider

REQUIRED = ("genai_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder.

    context_length, vocab_size: in tokens. kv_values_per_token: keys and values of all layers, for one token.
    shared_kv: whether the graph reads and writes its keys and values in place.
    manifest: what the builder recorded; empty for a folder made elsewhere.
    provider: OGA's execution provider that it was exported for; "cpu" if it names none.
    """

    path: Path
    context_length: int
    vocab_size: int
    kv_values_per_token: int
    head_size: int
    shared_kv: bool
    graph: Path
    manifest: dict[str, Any]
    provider: str = "cpu"

    @classmethod
    def open(cls, path: Path) -> "ModelFolder":
        """Check that every file is there and has its recorded size. Raises ModelFolderError naming the first fault."""
        if not path.is_dir():
            raise ModelFolderError(f"{path} is not a folder.")
        for name in REQUIRED:
            if not (path / name).is_file():
                raise ModelFolderError(f"{path / name} is missing: build the model again with --rebuild.")
        genai = read_json(path / "genai_config.json")
        try:
            model = genai["model"]
            graph = path / model["decoder"]["filename"]
            decoder = model["decoder"]
            context_length, vocab_size = int(model["context_length"]), int(model["vocab_size"])
            head_size = int(decoder["head_size"])
            kv_values_per_token = (
                2 * int(decoder["num_hidden_layers"]) * int(decoder["num_key_value_heads"]) * head_size
            )
            shared_kv = bool(genai.get("search", {}).get("past_present_share_buffer"))
            provider = _provider(decoder.get("session_options", {}).get("provider_options", []))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFolderError(f"{path / 'genai_config.json'} lacks {error}: not an OGA decoder export.") from error
        if not graph.is_file():
            raise ModelFolderError(f"{graph} is missing: build the model again with --rebuild.")
        manifest = read_json(path / "manifest.json") if (path / "manifest.json").is_file() else {}
        for name, entry in manifest.get("files", {}).items():
            _check_size(path / name, entry["size"])
        return cls(
            path, context_length, vocab_size, kv_values_per_token, head_size, shared_kv, graph, manifest, provider
        )

    def window(self, context_length: int | None) -> int:
        """The window to serve, in tokens. Raises InvalidRequest for one that the model does not have."""
        if context_length is not None and not 2 <= context_length <= self.context_length:
            raise InvalidRequest(
                f"--context-length must be from 2 to {self.context_length}, the window of this model, "
                f"not {context_length}."
            )
        return context_length or self.context_length


def _provider(provider_options: list[dict[str, Any]]) -> str:
    """The first that is named, each being {name: options}. OGA spells ours in more than one way."""
    name = next((name for options in provider_options for name in options), "cpu")
    known = name.lower().removesuffix("executionprovider")
    return known if known in get_args(Provider) else name


def _check_size(file: Path, expected: int) -> None:
    if not file.is_file():
        raise ModelFolderError(f"{file} is missing: build the model again with --rebuild.")
    if file.stat().st_size != expected:
        raise ModelFolderError(
            f"{file} has {file.stat().st_size} bytes instead of {expected}: build the model again with --rebuild."
        )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises ModelFolderError naming the file and the fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFolderError(
            f"{path} is missing: the model folder is incomplete; build it again with --rebuild."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); build the model again with --rebuild.") from error
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} does not hold a JSON object; build the model again with --rebuild.")
    return content
