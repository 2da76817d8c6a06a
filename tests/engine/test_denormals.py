"""Numbers that are next to nothing are nothing in both runtimes: processors compute with them many times slower."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.hub import ROOT

# The bits of about 1e-39: as a number it would be zero on a thread on which another test has loaded a model.
DENORMAL = 713_624
# ONNX Runtime heeds what the first session of a process says: so in a process of its own, on a thread as the engine's.
LOGITS = """
import sys, threading
from pathlib import Path
import numpy as np
from serving.engine import oga, ort
from serving.engine.runtime import NO_DENORMALS
from serving.folder import ModelFolder

folder, kind, usual = sys.argv[1:]
if usual == "as by default":
    NO_DENORMALS.clear()
runtime = {"oga": oga.OgaRuntime, "ort": ort.OrtRuntime}[kind](ModelFolder.open(Path(folder)), None, 2)

def say():
    slot = runtime.slot(0)
    slot.reserve(8)
    runtime.forward([(slot, np.array([300, 301], np.int32))])
    print(np.count_nonzero(slot.logits()))

thread = threading.Thread(target=say)
thread.start()
thread.join()
"""


@pytest.fixture(scope="module")
def next_to_nothing(exact_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose logits are denormal numbers."""
    folder = Path(shutil.copytree(exact_model, tmp_path_factory.mktemp("denormal") / "model"))
    model = onnx.load(str(folder / "model.onnx"))
    (norm,) = (each for each in model.graph.initializer if "final_norm" in each.name)
    bits = np.full(numpy_helper.to_array(norm).shape, DENORMAL, np.int32)
    norm.CopyFrom(numpy_helper.from_array(bits.view(np.float32), norm.name))
    (folder / "model.onnx.data").unlink()
    onnx.save(model, str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
    return folder


@pytest.mark.parametrize("kind", ["oga", "ort"])
def test_what_is_next_to_nothing_is_nothing(next_to_nothing: Path, kind: str) -> None:
    def logits(how: str) -> int:
        command = [sys.executable, "-c", LOGITS, str(next_to_nothing), kind, how]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert logits("as we have it") == 0
    assert logits("as by default") > 100
