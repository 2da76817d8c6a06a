"""One real build of the demo checkpoint for the whole session, and engines on it."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import launch
from builder.progress import silent
from builder.recipe import ExportTarget, QuantRecipe
from builder.source import parse_source
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


@pytest.fixture(scope="session")
def exact_model(models_dir: Path) -> Path:
    """The same with float32 activations, where logits do not depend on how a prompt is cut."""
    recipe = QuantRecipe(dataset="demo", num_calib_data=4, seq_len=64)
    return find_or_make(recipe, ExportTarget(accuracy_level=1), models_dir)


def find_or_make(recipe: QuantRecipe, target: ExportTarget, models_dir: Path) -> Path:
    """What a launch does."""
    source = parse_source("demo")
    found = launch.find(source, recipe, target, models_dir)
    return found or launch.make(source, recipe, target, models_dir, silent)


@pytest.fixture(scope="session")
def engine(demo_model: Path) -> Iterator[Engine]:
    """An engine on the served demo model."""
    with Engine.load(demo_model) as engine:
        yield engine
