"""Parts of OGA's model builder, which imports them by names of its own."""

import importlib
from typing import Any


def module(name: str) -> Any:
    """A module of it: `builders`, `builders.base`, `loaders.quark`."""
    importlib.import_module("onnxruntime_genai.models")  # makes the others importable
    importlib.import_module(name.partition(".")[0])  # makes its parts importable
    return importlib.import_module(name)
