"""The demo's tokenizer, as it is and to be changed."""

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from builder import demo


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The demo's."""
    return Tokenizer.from_file(str(demo.CHECKPOINT / "tokenizer.json"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The demo's tokenizer and template, to be changed."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(demo.CHECKPOINT, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder
