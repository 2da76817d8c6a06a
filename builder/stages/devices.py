"""What a layer is quantized on. Only the stage that quantizes imports this."""

import torch

from builder.errors import BuildError
from builder.progress import Report, Step


def device_of(asked: str, report: Report) -> str:
    """The torch device for what `--quantize-on` says; a GPU is reported. Raises BuildError where it is not there."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if asked == "cpu" or (asked == "auto" and found is None):
        return "cpu"
    if found is None or asked not in ("auto", found.type):
        there = f"torch {torch.__version__} finds {found.type if found else 'none'}"
        raise BuildError(f"--quantize-on {asked} needs such a device, and {there}: use cpu, or install torch for it.")
    name = getattr(torch, found.type)
    model = name.get_device_name() if hasattr(name, "get_device_name") else found.type
    report(Step("quantize", 0, 0, f"quantizing on {model} ({found.type}), a layer at a time.", lasting=True))
    return found.type


def most_held(device: str) -> int:
    """The most bytes that this process has held on a device; 0 of the CPU, and where nobody counts."""
    counts = getattr(getattr(torch, device), "max_memory_allocated", None) if device != "cpu" else None
    return int(counts()) if counts else 0
