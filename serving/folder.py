"""What serving asks of a model folder before it loads it, and what it reads from its configuration."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from serving.errors import InvalidRequest, ModelFolderError
from serving.genai_config import is_inside, provider_name, read_settings
from serving.types import Provider

MOST_BYTES = 64 << 20  # of a text file; the largest tokenizer configurations have a few
REQUIRED = ("genai_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder.

    context_length, vocab_size: in tokens. kv_values_per_token: keys and values of all layers, for one token.
    shared_kv: whether the graph reads and writes its keys and values in place.
    manifest: what the builder recorded; empty for a folder made elsewhere.
    turn: tokens beyond which all of a conversation is computed otherwise; the graph knows by what there is room for.
    provider: OGA's execution provider that it was exported for; "cpu" if it names none.
    heads: of attention, that have queries; 0 where that is not said.
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
    turn: int | None = None
    heads: int = 0

    @classmethod
    def open(cls, path: Path) -> "ModelFolder":
        """Check that every file is there, has its recorded size, and asks for nothing but what is known to be safe.

        Raises ModelFolderError naming the first fault.
        """
        if not path.is_dir():
            raise ModelFolderError(f"{path} is not a folder.")
        for name in REQUIRED:
            if not (path / name).exists():
                raise ModelFolderError(f"{path / name} is missing: build the model again with --rebuild.")
        for entry in path.iterdir():
            if not (entry.is_file() or entry.is_dir()):
                raise ModelFolderError(f"{entry} is neither a file nor a folder: remove it.")
        config = path / "genai_config.json"
        try:
            settings = read_settings(read_text(config))
        except ModelFolderError as error:
            raise ModelFolderError(f"{config} cannot be used: {error}") from error
        try:
            model = settings["model"]
            decoder = model["decoder"]
            graph = path / decoder["filename"]
            manifest = read_json(path / "manifest.json") if (path / "manifest.json").is_file() else {}
            kv_values_per_token = 2 * _kv_layers(decoder, manifest) * decoder["num_key_value_heads"]
            opened = cls(
                path,
                model["context_length"],
                model["vocab_size"],
                kv_values_per_token * decoder["head_size"],
                decoder["head_size"],
                bool(settings.get("search", {}).get("past_present_share_buffer")),
                graph,
                manifest,
                _provider(decoder.get("session_options", {}).get("provider_options", [])),
                _turn(manifest, model["context_length"]),
                decoder.get("num_attention_heads", 0),
            )
        except KeyError as error:
            raise ModelFolderError(f"{config} lacks {error}: not an OGA decoder export.") from error
        check_file(path, decoder["filename"])
        files = opened.manifest.get("files", {})
        for name, entry in files.items() if isinstance(files, dict) else ():
            check_file(path, name, entry.get("size") if isinstance(entry, dict) else None)
        return opened

    def window(self, context_length: int | None) -> int:
        """The window to serve, in tokens. Raises InvalidRequest for one that the model does not have."""
        if context_length is not None and not 2 <= context_length <= self.context_length:
            raise InvalidRequest(
                f"--context-length must be from 2 to {self.context_length}, the window of this model, "
                f"not {context_length}."
            )
        return context_length or self.context_length

    @property
    def kv_bytes_per_token(self) -> int:
        """In float32, as on the CPU; an upper bound for the providers that keep float16."""
        return 4 * self.kv_values_per_token

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.stat().st_size for file in self.path.glob("*") if file.is_file())

    @property
    def source(self) -> str:
        """The name of what it was built from; the folder's own where that is not recorded."""
        source = self.manifest.get("source")
        name = source.get("name") if isinstance(source, dict) else None
        return name if isinstance(name, str) and name.isprintable() else self.path.name


def check_file(folder: Path, name: str, size: int | None = None) -> None:
    """A file is there, inside the folder, and has the `size` in bytes, if one is given. Raises ModelFolderError."""
    file = folder / name
    if not is_inside(name):
        raise ModelFolderError(f"{folder} names the file {name[:100]!r}, which is not inside it: it is not read.")
    if not file.is_file():
        raise ModelFolderError(f"{file} is missing: build the model again with --rebuild.")
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ModelFolderError(f"{file} is a link out of the folder, and is not followed: put the file itself there.")
    if size is not None and file.stat().st_size != size:
        raise ModelFolderError(
            f"{file} has {file.stat().st_size} bytes instead of {size}: build the model again with --rebuild."
        )


def _kv_layers(decoder: dict[str, Any], manifest: dict[str, Any]) -> int:
    """Layers that keep keys and values: all, where neither the builder nor OGA's own file says that there are fewer."""
    layers: int = decoder["num_hidden_layers"]
    states = sum(kind == "conv" for kind in decoder.get("layer_types", ()))
    recorded = manifest.get("kv_layers", layers - states)
    return recorded if isinstance(recorded, int) and 0 < recorded <= layers else layers


def _turn(manifest: dict[str, Any], context_length: int) -> int | None:
    recorded = manifest.get("turn")
    return recorded if isinstance(recorded, int) and 0 < recorded < context_length else None


def _provider(provider_options: list[dict[str, Any]]) -> str:
    """The first that is named, each being {name: options}."""
    name = next((name for options in provider_options for name in options), "cpu")
    known = provider_name(name)
    return known if known in get_args(Provider) else name


def read_text(path: Path) -> str:
    """The text of a file of a model folder. Raises ModelFolderError naming the file and the fault."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")
        if path.stat().st_size > MOST_BYTES:
            raise OSError(f"it has more than {MOST_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ModelFolderError(
            f"{path} is missing: the model folder is incomplete; build it again with --rebuild."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); build the model again with --rebuild.") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises ModelFolderError naming the file and the fault."""
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); build the model again with --rebuild.") from error
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} does not hold a JSON object; build the model again with --rebuild.")
    return content
