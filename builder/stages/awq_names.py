"""Names of tensors in AWQ's own format, which Quark writes in a way that no reader understands."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_HEADER_SIZE = struct.Struct("<Q")


def repair_awq_names(checkpoint: Path) -> None:
    """Call what is not quantized `weight` again: in AWQ's format Quark writes every weight as `qweight`.

    Only headers change. The safetensors format lets a header end in spaces, so no data moves.
    """
    headers = {file: _read_header(file) for file in checkpoint.glob("*.safetensors")}
    names = awq_names(name for header, _ in headers.values() for name in header)
    for file, (header, size) in headers.items():
        renamed = json.dumps({names.get(name, name): entry for name, entry in header.items()}, separators=(",", ":"))
        with file.open("r+b") as content:
            content.seek(_HEADER_SIZE.size)
            content.write(renamed.encode().ljust(size))
    index = checkpoint / "model.safetensors.index.json"
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        content["weight_map"] = {names.get(name, name): shard for name, shard in content["weight_map"].items()}
        index.write_text(json.dumps(content, indent=2), encoding="utf-8")


def awq_names(written: Iterable[str]) -> dict[str, str]:
    """Written name -> right name of every tensor that is called `qweight` and has no scales; never a longer one."""
    names = set(written)
    layers = (name.removesuffix(".qweight") for name in names if name.endswith(".qweight"))
    return {f"{layer}.qweight": f"{layer}.weight" for layer in layers if f"{layer}.scales" not in names}


def _read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file, and its size in bytes."""
    with file.open("rb") as content:
        (size,) = _HEADER_SIZE.unpack(content.read(_HEADER_SIZE.size))
        return json.loads(content.read(size)), size
