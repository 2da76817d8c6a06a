"""What serving reads of a model folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from serving.engine.engine import Engine
from serving.errors import ModelFolderError
from serving.folder import ModelFolder
from serving.types import EngineSettings, RuntimeName
from tests.folder_fuzz import fuzz
from tests.hub import ROOT


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


def changed(folder: Path, name: str, value: object) -> Path:
    """The folder, without a manifest and with another session option."""
    file = without_manifest(folder) / "genai_config.json"
    content = json.loads(file.read_text())
    content["model"]["decoder"]["session_options"][name] = value
    file.write_text(json.dumps(content))
    return folder


def test_a_library_of_native_code_is_refused_by_name_and_not_loaded(folder: Path, tmp_path: Path) -> None:
    (folder / "evil.so").write_bytes(b"not even a library")
    with pytest.raises(
        ModelFolderError, match=r"genai_config\.json cannot be used: .*custom_ops_library.* native code"
    ):
        Engine.load(changed(folder, "custom_ops_library", "evil.so"))


def test_the_program_says_so_in_one_line(folder: Path) -> None:
    changed(folder, "custom_ops_library", "evil.so")
    command = [sys.executable, "app.py", "--model", str(folder), "--port", "0"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert "custom_ops_library" in result.stderr and "Traceback" not in result.stderr


def with_external_data(folder: Path, location: str) -> Path:
    """The folder, whose graph looks for its weights elsewhere."""
    file = without_manifest(folder) / "model.onnx"
    graph = onnx.load(str(file), load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    file.write_bytes(graph.SerializeToString())
    return folder


@pytest.mark.parametrize("runtime", ["oga", "ort"])
@pytest.mark.parametrize("where", ["above", "absolute", "link", "device"])
def test_weights_outside_the_folder_are_not_read(folder: Path, where: str, runtime: RuntimeName) -> None:
    outside = Path(shutil.move(folder / "model.onnx.data", folder.parent / "data"))
    (folder / "link").symlink_to(outside)
    (folder / "zeros").mkdir()
    (folder / "zeros" / "zero").symlink_to("/dev/zero")
    location = {"above": "../data", "absolute": str(outside), "link": "link", "device": "zeros/zero"}[where]
    with pytest.raises(ModelFolderError, match="does not load"):
        Engine.load(with_external_data(folder, location), EngineSettings(runtime=runtime))


def test_a_graph_that_is_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    outside = Path(shutil.move(folder / "model.onnx", folder.parent / "model.onnx"))
    (without_manifest(folder) / "model.onnx").symlink_to(outside)
    with pytest.raises(ModelFolderError, match="link out of the folder"):
        ModelFolder.open(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["genai_config.json", "manifest.json", "generation_config.json", "tokenizer.json"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelFolderError, match=name.replace(".", r"\.")):
        ModelFolder.open(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "x" * 100_000])
def test_a_manifest_that_names_files_elsewhere_is_refused(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"size": 1, "sha256": "0"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFolderError, match="not inside"):
        ModelFolder.open(folder)


@pytest.mark.parametrize(
    "manifest", [{}, {"files": []}, {"source": 1}, {"source": {"name": ["x"]}}, {"files": {"model.onnx": 1}}]
)
def test_a_manifest_of_another_make_is_no_fault(folder: Path, manifest: dict[str, object]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert ModelFolder.open(folder).source == folder.name


def test_json_nested_beyond_reason_is_a_fault_of_the_file(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(ModelFolderError, match=r"manifest\.json cannot be read"):
        ModelFolder.open(folder)


def test_a_folder_with_any_one_change_is_served_or_refused_with_an_error_of_ours(demo_model: Path) -> None:
    outcomes = fuzz(demo_model, 150, seed=0)
    assert outcomes["ModelFolderError"] > 50 and outcomes["served"] > 20
