"""One real build of the demo checkpoint for the whole session, and engines on it."""

import gc
import os
import signal

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# These models are so small that two threads wait for each other longer than either computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is started in the background of a script begins with Ctrl+C ignored, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from filelock import FileLock

import serving.page  # noqa: F401  # before any test imports Gradio
from builder import launch
from builder.build import BLOCKS, Plan, prove
from builder.checkpoint.checkpoint import read_folder
from builder.checkpoint.source import parse_source
from builder.demo import CHECKPOINT
from builder.kept.results import Kept
from builder.progress import silent
from builder.recipe import ExportTarget, QuantRecipe
from builder.stages.quantize import CHECKPOINT as QUANTIZED
from builder.stages.quantize import ORIGINAL, PROOF
from builder.stages.stage import Job
from serving.engine.engine import Engine

# Small enough to build in half a minute; quality is tested by what the model still answers.
RECIPE = QuantRecipe(dataset="demo", num_calib_data=4, seq_len=128)
STAGES_RECIPE = QuantRecipe(dataset="demo", num_calib_data=4, seq_len=64)
STAGES_TARGET = ExportTarget(accuracy_level=1)


def pytest_collection_finish() -> None:
    """Let no garbage collection go through the libraries again: with all of them loaded, one takes a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder for the whole session; OGA_CHAT_TEST_MODELS keeps one between sessions, for work on `serving`."""
    kept = os.environ.get("OGA_CHAT_TEST_MODELS")
    base = tmp_path_factory.getbasetemp()
    # Tests in several processes (pytest-xdist) have one session, and folders of their own beside each other.
    folder = Path(kept) if kept else (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "models"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def demo_model(models_dir: Path) -> Path:
    """The demo checkpoint, quantized, exported and proved as it is served: with int8 activations."""
    with FileLock(models_dir / "demo.lock"):
        return find_or_make(RECIPE, ExportTarget(), models_dir)


def find_or_make(recipe: QuantRecipe, target: ExportTarget, models_dir: Path) -> Path:
    """What a launch does."""
    source = parse_source("demo")
    found = launch.find(source, recipe, target, models_dir)
    return found or launch.make(source, recipe, target, models_dir, silent)


@dataclass(frozen=True)
class Stages:
    """The stages of a build, as it leaves them in its working folder, and the job that each of them takes."""

    work: Path
    kept: Mapping[str, Kept]
    job: Job

    @property
    def exported(self) -> Path:
        """The export."""
        return self.kept["export"].folder

    @property
    def log(self) -> Path:
        """What libraries print."""
        return self.work / "build.log"


@pytest.fixture(scope="session")
def stages(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """The demo checkpoint, quantized where no compiler can be found, and exported with float32 activations."""
    work, empty = models_dir / "stages", tmp_path_factory.mktemp("empty")
    work.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("PATH", "TORCH_EXTENSIONS_DIR"):
            patch.setenv(variable, str(empty))
        for variable in ("CC", "CXX"):
            patch.delenv(variable, raising=False)
        with FileLock(models_dir / "stages.lock"):
            proved = prove(work, read_folder(CHECKPOINT), Plan(STAGES_RECIPE, STAGES_TARGET, work / "none"), silent)
    quantized = proved.stages["quantize"].folder
    job = {
        **asdict(STAGES_RECIPE),
        **asdict(STAGES_TARGET),
        "prompts": str(proved.stages["prompts"].folder),
        "quantized": str(quantized / QUANTIZED),
        "blocks": str(proved.stages["calibrate"].folder / BLOCKS),
        "proof": str(quantized / PROOF),
        "original": str(quantized / ORIGINAL),
    }
    return Stages(work, proved.stages, job)


@pytest.fixture(scope="session")
def exact_model(stages: Stages) -> Path:
    """The demo at accuracy level 1, where logits do not depend on how a prompt is cut."""
    return stages.exported


@pytest.fixture(scope="session")
def engine(demo_model: Path) -> Iterator[Engine]:
    """An engine on the served demo model."""
    with Engine.load(demo_model) as engine:
        yield engine
