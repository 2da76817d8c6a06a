"""Gradio imported without the type stubs that it compares, at every import, with the source of each component.

That is parsing all of it: more than a third of what importing Gradio takes. Its wheel has those stubs already.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_MODULE, _FUNCTION = "gradio.component_meta", "create_or_modify_pyi"


def leave_stubs_unwritten() -> None:
    """From now on; before the first import of Gradio."""
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module that writes stubs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target) if fullname == _MODULE else None
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads it as it is, but for the function that writes them."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        setattr(module, _FUNCTION, lambda *_: None)
