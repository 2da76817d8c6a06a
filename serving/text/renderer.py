"""transformers without its models, for a process that renders templates and nothing else.

At its import transformers reads every file of every model, to know what each has: half of what importing its renderer
takes.
"""

import importlib
import importlib.util
import sys
from importlib.metadata import version

_NAME = "transformers"


def import_renderer() -> None:
    """Import transformers' renderer of chat templates. No model can be imported from transformers after that."""
    if _NAME not in sys.modules:
        _import_without_models()
    importlib.import_module(f"{_NAME}.utils.chat_template_utils")


def _import_without_models() -> None:
    spec = importlib.util.find_spec(_NAME)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {_NAME!r}", name=_NAME)
    # The package itself comes after the part of it that reads the files, which asks it for no more than its version.
    sys.modules[_NAME] = package = importlib.util.module_from_spec(spec)
    vars(package)["__version__"] = version(_NAME)
    reading = importlib.import_module(f"{_NAME}.utils.import_utils")
    own = reading.define_import_structure
    vars(reading)["define_import_structure"] = lambda *_, **__: {frozenset(): {}}
    try:
        spec.loader.exec_module(package)
    finally:
        vars(reading)["define_import_structure"] = own
