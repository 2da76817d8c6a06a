"""A checkpoint in several files: their names and their index, as Hugging Face writes them."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from builder.checkpoint.weights import INDEX, tensors_of

_BITS = {"F32": 32, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "I8": 8, "U8": 8, "I64": 64}


def join(files: Sequence[Path], folder: Path) -> None:
    """Let files be the weights in a folder: linked where that can be done, copied elsewhere."""
    index: dict[str, str] = {}
    size = 0
    for number, file in enumerate(files, 1):
        shard = f"model-{number:05}-of-{len(files):05}.safetensors"
        link(file, folder / shard)
        for name, tensor in tensors_of(file).items():
            index[name] = shard
            size += tensor.size * _BITS[tensor.dtype] // 8
    content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
    (folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def link(file: Path, link: Path) -> None:
    """A second name of a file, or a copy where the file system has none."""
    try:
        os.link(file, link)
    except OSError:
        shutil.copyfile(file, link)
