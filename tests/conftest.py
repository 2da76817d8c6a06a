"""One real build of the demo checkpoint for the whole session, and engines on it."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from builder import launch
from builder.calibration import make_blocks
from builder.demo import CHECKPOINT
from builder.progress import silent
from builder.recipe import ExportTarget, QuantRecipe
from builder.source import parse_source
from builder.stage import Job, run_stage
from serving.engine import Engine

# Small enough to build in half a minute; quality is tested by what the model still answers.
RECIPE = QuantRecipe(dataset="demo", num_calib_data=4, seq_len=128)


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder for the whole session; OGA_CHAT_TEST_MODELS keeps one between sessions, for work on `serving`."""
    kept = os.environ.get("OGA_CHAT_TEST_MODELS")
    return Path(kept) if kept else tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def demo_model(models_dir: Path) -> Path:
    """The demo checkpoint, quantized, exported and proved as it is served: with int8 activations."""
    return find_or_make(RECIPE, ExportTarget(), models_dir)


def find_or_make(recipe: QuantRecipe, target: ExportTarget, models_dir: Path) -> Path:
    """What a launch does."""
    source = parse_source("demo")
    found = launch.find(source, recipe, target, models_dir)
    return found or launch.make(source, recipe, target, models_dir, silent)


@dataclass(frozen=True)
class Stages:
    """The heavy stages of a build, run one by one: what each made, and the job that the next ones take."""

    quantized: Path
    exported: Path
    job: Job
    log: Path


@pytest.fixture(scope="session")
def stages(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Stages:
    """The demo checkpoint, quantized where no compiler can be found, and exported with float32 activations."""
    work = models_dir / "stages"
    if not work.exists():
        partial = tmp_path_factory.mktemp("stages") / "work"
        run_stages(partial, tmp_path_factory.mktemp("empty"))
        shutil.move(partial, work)
    return stages_in(work)


def stages_in(work: Path) -> Stages:
    """Where the stages put what they make."""
    recipe, target = QuantRecipe(dataset="demo", num_calib_data=4, seq_len=64), ExportTarget(accuracy_level=1)
    job = {**asdict(recipe), **asdict(target), "checkpoint": str(CHECKPOINT), "blocks": str(work / "blocks.npz")}
    job["proof"] = str(work / "quantized" / "proof.npz")
    return Stages(work / "quantized", work / "exported", job, work / "log")


def run_stages(work: Path, empty: Path) -> None:
    """Calibrate, quantize, export."""
    made = stages_in(work)
    work.mkdir()
    recipe = QuantRecipe(dataset="demo", num_calib_data=4, seq_len=64)
    blocks = make_blocks(CHECKPOINT, recipe)
    np.savez(made.job["blocks"], calibration=blocks.calibration, heldout=blocks.heldout, chats=blocks.chats)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("PATH", "TORCH_EXTENSIONS_DIR"):
            patch.setenv(variable, str(empty))
        for variable in ("CC", "CXX"):
            patch.delenv(variable, raising=False)
        run_stage("builder.quantize", {**made.job, "output": str(made.quantized)}, made.log, silent)
    paths = {"quantized": str(made.quantized), "output": str(made.exported)}
    run_stage("builder.export", {**made.job, **paths}, made.log, silent)


@pytest.fixture(scope="session")
def exact_model(stages: Stages) -> Path:
    """The demo at accuracy level 1, where logits do not depend on how a prompt is cut."""
    return stages.exported


@pytest.fixture(scope="session")
def engine(demo_model: Path) -> Iterator[Engine]:
    """An engine on the served demo model."""
    with Engine.load(demo_model) as engine:
        yield engine
