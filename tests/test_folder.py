"""What serving reads of a model folder."""

import json
import shutil
from pathlib import Path

import pytest

from serving.errors import ModelFolderError
from serving.folder import ModelFolder


@pytest.fixture
def folder(demo_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_model, tmp_path / "model"))


def without_manifest(folder: Path) -> Path:
    (folder / "manifest.json").unlink(missing_ok=True)
    return folder


def test_sizes_of_the_kv_cache_come_from_the_export(folder: Path) -> None:
    opened = ModelFolder.open(folder)
    assert opened.context_length == 2048
    genai = json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]
    per_layer = 2 * genai["num_key_value_heads"] * genai["head_size"]
    assert opened.kv_values_per_token == genai["num_hidden_layers"] * per_layer


@pytest.mark.parametrize("name", ["genai_config.json", "tokenizer.json", "model.onnx", "chat_template.jinja"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        ModelFolder.open(folder)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"model": {"decoder": {"filename": "model.onnx"}}}'])
def test_a_genai_config_that_is_not_a_decoders_is_refused(folder: Path, content: str) -> None:
    (without_manifest(folder) / "genai_config.json").write_text(content)
    with pytest.raises(ModelFolderError, match=r"genai_config\.json"):
        ModelFolder.open(folder)


def test_a_folder_made_elsewhere_needs_no_manifest(folder: Path) -> None:
    assert ModelFolder.open(without_manifest(folder)).manifest == {}


def test_no_folder_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="not a folder"):
        ModelFolder.open(tmp_path / "nowhere")
