"""The whole build on the demo checkpoint: what it publishes, what it refuses, and what a kill leaves behind."""

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from builder import launch
from builder.artifact import Shelf, read_manifest
from builder.demo import CHECKPOINT
from builder.errors import VerificationFailed
from builder.export import read_graph
from builder.progress import silent
from builder.recipe import ExportTarget, QuantRecipe, recipe_hash
from builder.source import parse_source
from builder.stage import run_stage
from builder.verify import check_prompts
from serving.engine import Engine
from serving.prompt import Prompt
from serving.types import Message, SamplingOptions, complete
from tests.conftest import RECIPE, Stages

ROOT = Path(__file__).parent.parent


def test_the_manifest_records_what_was_made_and_how_good_it_is(demo_model: Path) -> None:
    manifest = read_manifest(demo_model)
    assert manifest["source"]["name"] == "demo"
    assert manifest["recipe"] == dataclasses.asdict(RECIPE)
    assert manifest["target"] == {"execution_provider": "cpu", "accuracy_level": 4, "lm_head_bits": 8}
    quality = manifest["quality"]
    assert 1.0 < quality["perplexity_original"] < 20
    assert quality["perplexity_exported"] < 1.2 * quality["perplexity_original"]
    assert 0.8 < quality["top1_agreement"] <= 1.0
    assert quality["export_top1_agreement"] > quality["top1_agreement"]
    assert set(manifest["seconds"]) == {"calibrate", "quantize", "export", "verify"}
    on_disk = {file.name for file in demo_model.iterdir()} - {"manifest.json"}
    assert set(manifest["files"]) == on_disk
    for name, entry in manifest["files"].items():
        content = (demo_model / name).read_bytes()
        assert (entry["size"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_the_graph_has_the_bits_groups_and_zero_points_of_the_recipe(demo_model: Path) -> None:
    graph = read_graph(demo_model / "model.onnx")
    linears = {kind for kind in graph if not kind.lm_head}
    heads = {kind for kind in graph if kind.lm_head}
    assert [(k.bits, k.block_size, k.zero_points, k.accuracy_level) for k in linears] == [(4, 128, True, 4)]
    assert [k.bits for k in heads] == [8]


def test_the_served_demo_answers_and_remembers(engine: Engine) -> None:
    greedy = SamplingOptions(temperature=0.0, max_tokens=60)
    history = [Message("user", "My name is Anna.")]
    history.append(Message("assistant", complete(engine.generate(history, greedy)).text))
    assert "Anna" in complete(engine.generate([*history, Message("user", "What is my name?")], greedy)).text
    assert "Paris" in complete(engine.generate([Message("user", "What is the capital of France?")], greedy)).text


def test_nothing_is_left_beside_a_finished_build(demo_model: Path) -> None:
    assert [p.name for p in demo_model.parent.iterdir() if p.is_dir()] == [demo_model.name]


# What is refused


def edit_weights(model: Path, suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> int:
    """Change every initializer whose name ends in `suffix`; returns how many there are."""
    graph = onnx.load(str(model / "model.onnx"))
    found = [tensor for tensor in graph.graph.initializer if tensor.name.endswith(suffix)]
    for tensor in found:
        changed = onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)), tensor.name)
        tensor.CopyFrom(changed)
    (model / "model.onnx.data").unlink()
    onnx.save(graph, str(model / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
    return len(found)


def swap_nibbles(model: Path) -> int:
    return edit_weights(model, "qweight", lambda packed: (packed >> 4) | (packed << 4))


def drop_zero_points(model: Path) -> int:
    return edit_weights(model, "qzeros", lambda packed: np.full_like(packed, 0x88))


def change_rotary_base(model: Path) -> int:
    """The caches as a base of 1,000,000 makes them, instead of 10,000."""
    angles = np.arange(2048)[:, None] / 1_000_000.0 ** (np.arange(32) / 32)
    return edit_weights(model, "cos_cache", lambda _: np.cos(angles).astype(np.float32)) + edit_weights(
        model, "sin_cache", lambda _: np.sin(angles).astype(np.float32)
    )


def change_template(model: Path) -> int:
    file = model / "chat_template.jinja"
    text = file.read_text()
    file.write_text(text.replace("<|im_start|>assistant", "<|im_start|>bot"))
    return text.count("<|im_start|>assistant")


@pytest.fixture
def export(stages: Stages, tmp_path: Path) -> Path:
    """A copy of a sound export, to be spoiled."""
    return Path(shutil.copytree(stages.exported, tmp_path / "export"))


def test_a_sound_export_passes_and_equals_the_quantized_model(stages: Stages, export: Path) -> None:
    quality = run_stage("builder.verify", {**stages.job, "exported": str(export)}, stages.log, silent)
    assert quality["export_kl_divergence"] < 1e-3
    assert quality["export_top1_agreement"] > 0.95


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (swap_nibbles, "does not compute the quantized model"),
        (drop_zero_points, "does not compute the quantized model"),
        (change_rotary_base, "does not compute the quantized model"),
        (change_template, "chat template or tokenizer differs"),
    ],
)
def test_a_spoiled_export_is_refused(stages: Stages, export: Path, spoil: Callable[[Path], int], message: str) -> None:
    assert spoil(export) > 0
    with pytest.raises(VerificationFailed, match=message):
        run_stage("builder.verify", {**stages.job, "exported": str(export)}, stages.log, silent)


def test_an_export_that_would_not_stop_is_refused(exact_model: Path) -> None:
    endless = dataclasses.replace(Prompt.load(exact_model), end_ids=frozenset({0}))
    with pytest.raises(VerificationFailed, match=r"tokens \[2\]"):
        check_prompts(endless, CHECKPOINT)


def test_a_refused_build_publishes_nothing(tmp_path: Path, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    """The build resumes at a spoiled export, as if the exporter had written it."""
    source, target = parse_source("demo"), ExportTarget(accuracy_level=1)
    recipe = QuantRecipe(dataset="demo", num_calib_data=4, seq_len=64)
    shelf = Shelf(tmp_path / source.slug, recipe_hash(recipe, target))
    seen: list[Path] = []

    def spoil_when_verifying(step: object) -> None:
        for work in (tmp_path / source.slug).glob(".staging-*"):
            if work.is_dir() and not seen:
                seen.append(work)
                for name, origin in (("quantized", stages.quantized), ("exported", stages.exported)):
                    stage = {"quantized": "quantize", "exported": "export"}[name]
                    shutil.copytree(origin, work / stage)
                swap_nibbles(work / "export")

    with pytest.raises(VerificationFailed):
        launch.make(source, recipe, target, tmp_path, spoil_when_verifying)
    assert seen and shelf.current() is None


# What a kill leaves behind


def build_command(models_dir: Path) -> list[str]:
    knobs = ["--num-calib-data", "2", "--seq-len", "64"]
    return [sys.executable, "app.py", "--rebuild", "--port", "0", "--models-dir", str(models_dir), *knobs]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, "the build ended before it could be killed"
        time.sleep(0.01)


def test_a_killed_rebuild_leaves_the_old_model_and_goes_on_where_it_was(tmp_path: Path, demo_model: Path) -> None:
    """SIGKILL while quantizing, exporting and verifying; each restart repeats no finished stage."""
    recipe = QuantRecipe(dataset="demo", num_calib_data=2, seq_len=64)
    slug = tmp_path / "demo"
    shelf = Shelf(slug, recipe_hash(recipe, ExportTarget()))
    old = Path(shutil.copytree(demo_model, slug / f"{shelf.recipe_hash}-1"))
    finished: dict[str, int] = {}
    for moment in ("quantize.*.partial", "export.*.partial", "export"):
        process = subprocess.Popen(build_command(tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
        pattern = f".staging-*/{moment}"
        wait_for(lambda pattern=pattern: any(slug.glob(pattern)), process)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert shelf.current() == old
        Engine.load(old).close()
        for stage in slug.glob(".staging-*/*"):
            if stage.name in finished:
                assert stage.stat().st_ino == finished[stage.name], f"{stage.name} was made again"
            elif stage.name in ("calibrate", "quantize", "export"):
                finished[stage.name] = stage.stat().st_ino
    assert set(finished) == {"calibrate", "quantize", "export"}

    process = subprocess.Popen(build_command(tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert line.startswith("Chat at http://127.0.0.1:")
    new = shelf.current()
    assert new is not None and new.name == f"{shelf.recipe_hash}-2"
    assert not old.exists()
    assert read_manifest(new)["seconds"]["quantize"] < 1.0  # taken over, not made


@pytest.mark.skipif(os.name != "posix", reason="asks ps for the children")
def test_the_children_of_a_killed_build_end_too(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "builder",
        "--models-dir",
        str(tmp_path),
        "--num-calib-data",
        "2",
        "--seq-len",
        "64",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    wait_for(lambda: any(tmp_path.glob("demo/.staging-*/build.log")), process)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    pids = [int(pid) for pid in children.stdout.split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert pids
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a child outlived its build"
        time.sleep(0.05)
