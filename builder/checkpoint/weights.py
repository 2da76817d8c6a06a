"""What the headers of a checkpoint's safetensors say: names, types and shapes of all tensors, without their values."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open

from builder.checkpoint.files import read_text
from builder.errors import SourceError
from serving.hardware import multiplies_16_bits

SMALL_MODEL = 300_000_000  # parameters
INDEX = "model.safetensors.index.json"
_OF_A_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_TORCH_TYPES = {"F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Tensor:
    """Of one tensor: its type as safetensors calls it, its shape, and the name of its file."""

    dtype: str
    shape: tuple[int, ...]
    file: str

    @property
    def size(self) -> int:
        """Values in it."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Weights:
    """Every tensor by its name; none before they were read."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Values in all tensors; in MXFP4, a byte has two."""
        packed = {name for name, tensor in self.tensors.items() if tensor.dtype == "U8" and name.endswith("_blocks")}
        return sum(tensor.size * (2 if name in packed else 1) for name, tensor in self.tensors.items())

    @property
    def stored_type(self) -> str:
        """The torch dtype name of what most values are stored in; float32 for what torch is not to compute in.

        Bytes are left out: they hold smaller values, packed.
        """
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            counts[tensor.dtype] += tensor.size if tensor.dtype != "U8" else 0
        return _TORCH_TYPES.get(max(counts, key=lambda dtype: counts[dtype], default=""), "float32")

    def loaded_type(self, data_type: str) -> str:
        """The torch dtype name that a recipe's data_type means for them: see QuantRecipe on "auto"."""
        if data_type != "auto":
            return data_type
        return self.stored_type if self.parameters >= SMALL_MODEL and multiplies_16_bits() else "float32"


def read_weights(folder: Path, wanted: Callable[[str], bool] = bool) -> Weights:
    """The tensors whose names are `wanted`. Raises SourceError where files are missing, damaged or not whole."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SourceError(
            f"{folder} has no *.safetensors weights; other formats are not loaded, for safety. Name a repository "
            "that has them, or load yours with transformers and write it with save_pretrained."
        )
    missing = sorted(_shards(folder) - {file.name for file in files})
    if missing:
        raise SourceError(f"{folder} lacks {', '.join(missing)}: the download is incomplete.")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= tensors_of(file)
    return Weights({name: tensor for name, tensor in tensors.items() if wanted(name)})


def _shards(folder: Path) -> set[str]:
    """Names of the files that the index of a divided checkpoint lists."""
    index = folder / INDEX
    try:
        return set(map(str, json.loads(read_text(index))["weight_map"].values())) if index.is_file() else set()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{index} cannot be read: {error}.") from error


def layer_of(name: str) -> tuple[int | None, str]:
    """The decoder layer of a tensor, and its name in it; None and the whole name for one of no layer."""
    found = _OF_A_LAYER.search(name)
    return (int(found[1]), name[found.end() :]) if found else (None, name)


def tensors_of(file: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name. Raises SourceError for one that is damaged or not whole."""
    try:
        with safe_open(file, framework="np") as content:  # which compares the header with the file's size
            slices = {name: content.get_slice(name) for name in content.keys()}  # noqa: SIM118 (not a mapping)
            return {name: Tensor(s.get_dtype(), tuple(s.get_shape()), file.name) for name, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise SourceError(
            f"{file} is damaged or not whole ({error}): download or copy it again. In a git clone, 'git lfs pull' "
            "fetches what the pointers stand for."
        ) from error
