"""Child processes that speak over their pipes."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from serving.heap import SMALL_HEAP

_IMPORT_ROOT = str(Path(__file__).parent.parent)  # where our `serving` is, before any other of that name


def started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that finds our `serving`, with pipes to its stdin and from its stdout."""
    path = os.pathsep.join(filter(None, [_IMPORT_ROOT, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        # numpy multiplies no matrices there, and starting threads for that takes time and memory.
        env={"OPENBLAS_NUM_THREADS": "1"} | dict(SMALL_HEAP) | os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
        process_group=0,  # Ctrl+C reaches the whole terminal, and the child before it can ignore that
    )  # fmt: skip
