"""What a folder or a repository holds, by its files' names and its config.json, before anything large is read. Pure.

An original checkpoint is quantized and exported; one that is quantized already is exported; an export is served.
Anything else is refused, with the reason and the nearest thing that works.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from builder.checkpoint.quantization import Quantization
from builder.errors import SourceError, UnsupportedModel

GENAI_CONFIG = "genai_config.json"
_PICKLES = (".bin", ".pt", ".pth", ".h5", ".msgpack", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class Found:
    """What there is. exports: folders of exports among which one is chosen, "" for the top; of an export only."""

    kind: Literal["original", "quantized", "export"]
    quantization: Quantization | None = None
    exports: tuple[str, ...] = ()

    @property
    def named(self) -> str:
        """In a few words, for people."""
        if self.kind == "original":
            return "an original checkpoint"
        if self.quantization:
            how = self.quantization
            return (
                f"a checkpoint {how.named}, {how.bits} bits, groups of {how.group_size}: exported and proved, not "
                "quantized again"
            )
        return "an export for ONNX Runtime GenAI: served as it is"


def kind_of(
    name: str, files: Collection[str], config: Mapping[str, Any] | None, subfolder: str | None = None, base: str = ""
) -> Found:
    """What a folder or repository called `name` holds.

    files: their paths in it, divided by slashes. config: the content of its config.json, None where it has none.
    subfolder: where an export is looked for, and nothing else. base: the model that it says it was made from. Raises
    SourceError and UnsupportedModel.
    """
    exports = exports_among(files)
    if subfolder is not None:
        wanted = PurePosixPath(subfolder.strip("/") or ".")
        fitting = tuple(path for path in exports if PurePosixPath(path or ".").is_relative_to(wanted))
        if not fitting:
            there = f"exports are in {_listed(exports)}" if exports else "it holds no export"
            raise SourceError(f"--subfolder {subfolder} of {name} holds no {GENAI_CONFIG} with an .onnx file: {there}.")
        return Found("export", exports=fitting)
    if "" in exports:
        return Found("export", exports=("",))

    top = {file for file in files if "/" not in file}
    if config is not None:
        quantization = Quantization.of(config)
        if quantization is not None:
            quantization.check()
        if any(file.endswith(".safetensors") for file in top):
            return Found("quantized" if quantization else "original", quantization)
    if exports:
        return Found("export", exports=exports)
    raise _refusal(name, files, top, base)


def exports_among(files: Collection[str]) -> tuple[str, ...]:
    """The folders that hold an export, by their paths, "" for the top."""
    parents = {str(path.parent) for path in map(PurePosixPath, files) if path.suffix == ".onnx"}
    found = {str(path.parent) for path in map(PurePosixPath, files) if path.name == GENAI_CONFIG}
    return tuple(sorted("" if path == "." else path for path in found & parents))


def _refusal(name: str, files: Collection[str], top: Collection[str], base: str) -> Exception:
    """Why nothing of it can be used, and what can be instead."""
    nearest = f"It says that it was made from {base}: name that." if base else "Name the repository it was made from."
    suffixes = {PurePosixPath(file).suffix for file in files}
    if ".gguf" in suffixes:
        return UnsupportedModel(f"{name} holds GGUF files, which llama.cpp reads and OGA does not. {nearest}")
    if "adapter_config.json" in top:
        return UnsupportedModel(
            f"{name} holds an adapter (LoRA), which is no model by itself: merge it into its base with peft's "
            "merge_and_unload, save_pretrained, and name that folder."
        )
    if ".onnx" in suffixes:
        return UnsupportedModel(
            f"{name} holds ONNX files of another make: without a {GENAI_CONFIG} beside them, ONNX Runtime GenAI cannot "
            f"generate with them. {nearest}"
        )
    if "config.json" not in top:
        mistral = " Of Mistral's own format (params.json), name the repository for transformers."
        return SourceError(
            f"{name} has no config.json: it is not a Hugging Face checkpoint folder. Of a model that comes as GGUF or "
            f"ONNX files, name the repository with the original weights.{mistral if 'params.json' in top else ''}"
        )
    if any(file.endswith(_PICKLES) for file in top):
        return SourceError(
            f"{name} has no *.safetensors weights; other formats are not loaded, for safety. Name a repository that "
            "has them, or load yours with transformers and write it with save_pretrained."
        )
    return SourceError(f"{name} has no *.safetensors weights. {nearest}")


def _listed(exports: Collection[str]) -> str:
    shown = [path or "its top" for path in exports]
    return ", ".join(shown[:12]) + (f" and {len(shown) - 12} more" if len(shown) > 12 else "")
