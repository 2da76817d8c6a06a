"""Exports for ONNX Runtime GenAI: what each of several in a repository is for, and which of them fits. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from builder.errors import SourceError, UnsupportedModel
from serving.errors import ServingError
from serving.genai_config import provider_name, read_settings

# Their graphs compute nowhere else, or they send everything elsewhere; those of others load on the CPU too.
_NEVER = ("ryzenai", "vitisai", "qnn", "azure")
# Parts of folders' names that tell what an export is for, where its settings do not.
_FOR = {
    "cpu": "cpu",
    "mobile": "cpu",
    "cuda": "cuda",
    "directml": "dml",
    "dml": "dml",
    "webgpu": "webgpu",
    "web": "webgpu",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An export among others.

    folder: its path, "" for the top. provider: it is for. size: bytes of its files. shape: of the model, so that two
    models are not taken for one. refused: why it is not served; "" for nothing known.
    """

    folder: str
    provider: str
    size: int
    shape: tuple[int, ...] = ()
    refused: str = ""


def candidate(folder: str, genai_config: str, size: int) -> Candidate:
    """What an export's settings say of it."""
    try:
        settings = read_settings(genai_config)
    except ServingError as error:
        return Candidate(folder, "", size, refused=str(error))
    decoder: dict[str, Any] = settings.get("model", {}).get("decoder", {})
    options = decoder.get("session_options", {}).get("provider_options", [])
    named = next((name for each in options for name in each), "")
    provider = (
        provider_name(named) if named else next((_FOR[word] for word in sorted(_words(folder)) if word in _FOR), "cpu")
    )
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    shape = (settings.get("model", {}).get("vocab_size", 0), *(decoder.get(name, 0) for name in names))
    refused = f"it is for {named}, which is not among the providers that are served." if provider in _NEVER else ""
    return Candidate(folder, provider, size, shape, refused)


def choose(name: str, candidates: Sequence[Candidate], providers: Sequence[str]) -> Candidate:
    """The export that fits this machine best.

    providers: that can be used here, the best first; exports for others are computed on the CPU, if there is no other.
    Of several for one provider, the one with 4-bit weights, int8 activations and then the fewest bytes. Raises
    UnsupportedModel where none can be served, and SourceError where they are of several models.
    """
    usable = [each for each in candidates if not each.refused]
    if not usable:
        first = candidates[0]
        where = f"{name}, {first.folder}" if first.folder else name
        raise UnsupportedModel(
            f"{where} cannot be served: {first.refused} What works is an export for the CPU or a GPU, or the original "
            "weights."
        )
    models = {each.shape for each in usable}
    if len(models) > 1:
        named = ", ".join(each.folder or "the top" for each in usable)
        raise SourceError(f"{name} holds exports of {len(models)} models: name one with --subfolder ({named}).")

    def preference(each: Candidate) -> tuple[int, bool, bool, int, str]:
        rank = providers.index(each.provider) if each.provider in providers else len(providers)
        words = _words(each.folder)
        level_4 = "level-4" in each.folder or "acc4" in words
        return rank, not words & {"int4", "uint4", "awq", "gptq", "rtn"}, not level_4, each.size, each.folder

    return min(usable, key=preference)


def _words(folder: str) -> set[str]:
    """Of a path: cpu_and_mobile/cpu-int4-rtn -> cpu, and, mobile, int4, rtn."""
    plain = folder.lower()
    for mark in "_-./":
        plain = plain.replace(mark, " ")
    return set(plain.split())


def inside(folder: str, file: str) -> str | None:
    """A file's path in a folder; None for one that is elsewhere, or further down."""
    path = PurePosixPath(file)
    return path.name if str(path.parent) == (folder or ".") else None
