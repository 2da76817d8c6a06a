"""The whole build on the demo checkpoint: what it publishes, what it refuses, and what a kill leaves behind."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from builder import launch
from builder.build import calibration_inputs, staging
from builder.checkpoint.checkpoint import read
from builder.checkpoint.source import locate, parse_source
from builder.demo import CHECKPOINT
from builder.errors import BuildError, StageFailed, VerificationFailed
from builder.kept.artifact import Shelf, check_files, read_manifest
from builder.kept.results import Facts, describe, keep
from builder.progress import Step, silent
from builder.quality import LOSS_LIMIT, Quality, judge
from builder.recipe import ExportTarget, QuantRecipe, depends_on, recipe_hash
from builder.stages.graph import read_graph
from builder.stages.stage import Job, run_stage
from serving.engine.engine import Engine
from serving.types import Message, SamplingOptions, complete
from tests.conftest import RECIPE, STAGES_RECIPE, STAGES_TARGET, Stages
from tests.servers import ended

ROOT = Path(__file__).parent.parent.parent


def test_the_manifest_records_what_was_made_and_how_good_it_is(demo_model: Path) -> None:
    manifest = read_manifest(demo_model)
    assert manifest["source"]["name"] == "demo"
    assert manifest["recipe"] == dataclasses.asdict(RECIPE) | {"exclude_layers": ["lm_head"]}
    assert manifest["target"] == asdict(ExportTarget())
    for kind in ("text", "chats"):
        quality = manifest["quality"][kind]
        assert 1.0 < quality["perplexity_original"] < 20
        assert quality["perplexity_exported"] < 1.2 * quality["perplexity_original"]
        assert 0.8 < quality["top1_agreement"] <= 1.0
        assert manifest["quality"]["export"]["top1_agreement"] > quality["top1_agreement"]
    assert set(manifest["seconds"]) == {"prompts", "calibrate", "quantize", "export", "verify"}
    assert all(bytes_held > 100e6 for bytes_held in manifest["peak_memory"].values())
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


def verdict(stages: Stages, export: Path) -> Quality:
    """Measure an export and judge it, as a build does."""
    job = {**stages.job, "exported": str(export), "output": str(export.with_name("verified"))}
    quality = Quality.from_facts(run_stage("builder.stages.verify", job, stages.log, silent)["quality"])
    judge(quality)
    return quality


def test_a_sound_export_passes_and_equals_the_quantized_model(stages: Stages, export: Path) -> None:
    quality = verdict(stages, export)
    assert quality.export is not None and quality.text is not None and quality.chats is not None
    assert quality.export.kl_divergence < 1e-3
    assert quality.export.top1_agreement > 0.95
    assert quality.text.tokens + quality.chats.tokens > 4000


def test_what_the_original_says_is_measured_before_it_is_quantized(stages: Stages) -> None:
    """The kept log probabilities are those of the checkpoint itself."""
    import torch
    from transformers import AutoModelForCausalLM

    kept = np.load(Path(stages.job["original"]) / "0.npy")
    with np.load(stages.job["blocks"]) as blocks:
        token_ids = torch.from_numpy(blocks["text"][0])[None]
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32)
    with torch.inference_mode():
        expected = model(token_ids).logits[0].log_softmax(dim=-1).numpy()
    assert np.abs(kept - expected).max() < 0.02  # of float16, at -16 to -32


@pytest.mark.parametrize(
    ("spoil", "message"),
    [  # swapped nibbles are refused with a whole build: see below
        (drop_zero_points, "does not compute the quantized model"),
        (change_rotary_base, "does not compute the quantized model"),
        (change_template, "chat template or tokenizer differs"),
    ],
)
def test_a_spoiled_export_is_refused(stages: Stages, export: Path, spoil: Callable[[Path], int], message: str) -> None:
    assert spoil(export) > 0
    with pytest.raises(VerificationFailed, match=message):
        verdict(stages, export)


def resume_from(stages: Stages, models_dir: Path) -> Path:
    """Put finished stages where a build of the demo looks for them; returns its working folder."""
    (models_dir / "demo").mkdir()
    with staging(read(locate(parse_source("demo"))), models_dir / "demo") as work:
        for kept in stages.kept.values():
            shutil.copytree(kept.folder, work / kept.folder.name)
            shutil.copy(kept.folder.with_name(f"{kept.folder.name}.json"), work)
    return work


def reseal(folder: Path) -> None:
    """Describe a stage's files anew, as if the stage itself had written them so."""
    seal = folder.with_name(f"{folder.name}.json")
    facts = json.loads(seal.read_text())
    seal.write_text(json.dumps({**facts, "files": describe(folder)}))


def stage_folder(work: Path, stage: str) -> Path:
    return next(folder for folder in work.glob(f"{stage}-*") if folder.is_dir())


def test_a_refused_build_publishes_nothing_and_keeps_what_took_long(tmp_path: Path, stages: Stages) -> None:
    work = resume_from(stages, tmp_path)
    swap_nibbles(stage_folder(work, "export"))
    reseal(stage_folder(work, "export"))
    shutil.rmtree(stage_folder(work, "verify"))
    with pytest.raises(VerificationFailed, match="does not compute the quantized model"):
        launch.make(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, tmp_path, silent)
    assert not any(tmp_path.glob("demo/*/manifest.json"))
    assert {folder.name.partition("-")[0] for folder in work.iterdir() if folder.is_dir()} == {
        "prompts", "calibrate", "quantize"
    }  # fmt: skip


def test_finished_stages_are_taken_over_and_not_made_again(tmp_path: Path, stages: Stages) -> None:
    work = resume_from(stages, tmp_path)
    steps: list[Step] = []
    built = launch.make(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, tmp_path, steps.append)
    assert {step.note for step in steps} == {""}  # no stage reported any work
    assert read_manifest(built)["seconds"] == {name: kept.seconds for name, kept in stages.kept.items()}
    assert not work.exists()


def test_a_damaged_result_is_named_and_made_again(tmp_path: Path, stages: Stages) -> None:
    damaged = stage_folder(resume_from(stages, tmp_path), "export") / "model.onnx.data"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    steps: list[Step] = []
    built = launch.make(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, tmp_path, steps.append)
    (said,) = (step.note for step in steps if step.lasting)
    assert "model.onnx.data has another SHA-256 than when it was written" in said
    assert (built / "model.onnx.data").read_bytes() == (stages.exported / "model.onnx.data").read_bytes()


@pytest.mark.parametrize("knob", ["group_size", "exclude_layers", "data_type", "num_calib_data"])
def test_a_stage_that_was_made_by_another_recipe_is_not_taken_over(
    tmp_path: Path, stages: Stages, knob: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = {"group_size": 64, "exclude_layers": (), "data_type": "bfloat16", "num_calib_data": 5}
    resume_from(stages, tmp_path)

    class Stop(Exception):
        pass

    def stop_at_quantizing(module: str, *rest: Any) -> Job:
        if module == "builder.stages.quantize":
            raise Stop
        return run_stage(module, *rest)

    monkeypatch.setattr("builder.build.run_stage", stop_at_quantizing)  # whose process would import Quark first
    recipe = dataclasses.replace(STAGES_RECIPE, **{knob: another[knob]})
    with pytest.raises(Stop):
        launch.make(parse_source("demo"), recipe, STAGES_TARGET, tmp_path, silent)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(place)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_runs_full_is_named_and_the_build_goes_on_when_there_is_room(
    small_disk: Path, stages: Stages
) -> None:
    work = resume_from(stages, small_disk)
    for stage in ("export", "verify"):
        shutil.rmtree(stage_folder(work, stage))
    ballast = small_disk / "ballast"

    def fill(step: Step) -> None:
        if step.stage == "export" and not ballast.exists():
            free = shutil.disk_usage(small_disk).free
            ballast.write_bytes(bytes(free - (3 << 20)))

    with pytest.raises(StageFailed, match=r"the stage \S+export failed because the disk of .* is full: free some"):
        launch.make(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, small_disk, fill)
    assert not any(small_disk.glob("demo/*/manifest.json"))
    kept = stage_folder(work, "quantize").stat().st_ino

    with pytest.raises(BuildError, match="MiB free and the build needs about"):  # while the disk is full
        launch.make(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, small_disk, silent)
    ballast.unlink()
    seen: list[int] = []
    built = launch.make(
        parse_source("demo"),
        STAGES_RECIPE,
        STAGES_TARGET,
        small_disk,
        lambda step: seen.append(stage_folder(work, "quantize").stat().st_ino) if step.stage == "export" else None,
    )
    assert set(seen) == {kept}
    check_files(built)


def test_a_place_that_cannot_be_written_to_is_a_sentence_that_names_it(tmp_path: Path, stages: Stages) -> None:
    work = resume_from(stages, tmp_path)
    for stage in ("export", "verify"):
        shutil.rmtree(stage_folder(work, stage))
    (work / "build.log").unlink(missing_ok=True)
    (work / "build.log").mkdir()  # what a read-only file system does, for a user whom nothing stops
    with pytest.raises(BuildError, match=r"build.log cannot be written \(Is a directory\): what was there before is"):
        launch.make(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, tmp_path, silent)


# What --auto-quality does


def remember(stages: Stages, work: Path, **knobs: Any) -> None:
    """Let the working folder hold stages of another recipe, with the loss that it is to have: no search is run."""
    loss = knobs.pop("kl_divergence")
    recipe, target = dataclasses.replace(STAGES_RECIPE, **knobs), STAGES_TARGET

    def copy(stage: str) -> Callable[[Path], Facts]:
        def make(output: Path) -> Facts:
            shutil.copytree(stages.kept[stage].folder, output)
            if stage != "prompts":  # other recipes make other results
                (output / "recipe").write_text(str(knobs))
            result = dict(stages.kept[stage].result)
            if stage == "verify":
                result["quality"] = {**result["quality"], "text": {**result["quality"]["text"], "kl_divergence": loss}}
            return result

        return make

    prompts = keep(work, "prompts", {}, copy("prompts"), silent)
    knobs_of_text = {"prompts": prompts.digest, **calibration_inputs(recipe)}
    calibrated = keep(work, "calibrate", knobs_of_text, copy("calibrate"), silent)
    quantized = keep(work, "quantize", {"calibrate": calibrated.digest, **depends_on(recipe)}, copy("quantize"), silent)
    inputs = {"prompts": prompts.digest, "quantize": quantized.digest, **asdict(target)}
    exported = keep(work, "export", inputs, copy("export"), silent)
    keep(work, "verify", {"export": exported.digest}, copy("verify"), silent)


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        ((0.01, 0.001, 0.002), 0),  # the first is good enough, though a later one would lose less
        ((0.2, 0.04, 0.002), 1),
        ((0.2, 0.1, 0.04), 2),
        ((0.3, 0.07, 0.08), 1),  # none is good enough: the one that loses least
    ],
)
def test_auto_quality_keeps_the_first_that_loses_little_enough(
    tmp_path: Path, stages: Stages, losses: tuple[float, ...], chosen: int
) -> None:
    ways: list[dict[str, Any]] = [{}, {"group_size": 32}, {"group_size": 32, "quant_algo": "gptaq"}]
    (tmp_path / "demo").mkdir()
    with staging(read(locate(parse_source("demo"))), tmp_path / "demo") as work:
        for way, loss in zip(ways, losses, strict=True):
            remember(stages, work, **way, kl_divergence=loss)
    source, steps = parse_source("demo"), list[Step]()
    built = launch.make(source, STAGES_RECIPE, STAGES_TARGET, tmp_path, steps.append, auto_quality=True)
    expected = dataclasses.replace(STAGES_RECIPE, **ways[chosen])
    assert built.name == f"{recipe_hash(expected, STAGES_TARGET)}-1"
    assert [folder.name for folder in (tmp_path / "demo").glob("*/manifest.json")] == ["manifest.json"]
    assert sum(step.lasting for step in steps) == (2 if losses[chosen] > LOSS_LIMIT else chosen)
    # The next launch finds it, with the same flags and without building.
    assert launch.find(source, STAGES_RECIPE, STAGES_TARGET, tmp_path, auto_quality=True) == built


def test_without_auto_quality_a_large_loss_is_only_reported(tmp_path: Path, stages: Stages) -> None:
    (tmp_path / "demo").mkdir()
    with staging(read(locate(parse_source("demo"))), tmp_path / "demo") as work:
        remember(stages, work, kl_divergence=0.4)
    built = launch.make(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, tmp_path, silent)
    assert "try --group-size 32, then --quant-algo gptaq" in launch.describe(built)
    assert launch.find(parse_source("demo"), STAGES_RECIPE, STAGES_TARGET, tmp_path) == built


# What a kill leaves behind


def build_command(models_dir: Path, *program: str) -> list[str]:
    knobs = ["--num-calib-data", "2", "--seq-len", "64"]
    return [sys.executable, *(program or ("-m", "builder")), "--models-dir", str(models_dir), *knobs]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
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
    for moment in ("quantize-*.partial", "export-*.partial", "verify-*.partial"):
        process = subprocess.Popen(build_command(tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
        pattern = f".staging-*/{moment}"
        wait_for(lambda pattern=pattern: any(slug.glob(pattern)), process)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert shelf.current() == old
        Engine.load(old).close()
        for seal in slug.glob(".staging-*/*-*.json"):
            stage = seal.name.partition("-")[0]
            if seal.with_suffix("").is_dir():
                assert finished.setdefault(stage, seal.stat().st_ino) == seal.stat().st_ino, f"{stage} was made again"
    assert set(finished) == {"prompts", "calibrate", "quantize", "export"}

    program = build_command(tmp_path, "app.py", "--rebuild", "--port", "0")
    process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    progress, chat = process.stdout.readline(), process.stdout.readline()
    ended(process)
    assert chat.startswith("Chat at http://127.0.0.1:")
    assert progress.partition(" at ")[2] == chat.partition(" at ")[2]  # where it could be watched before
    new = shelf.current()
    assert new is not None and new.name == f"{shelf.recipe_hash}-2"
    assert not old.exists()


@pytest.mark.skipif(os.name != "posix", reason="asks ps for the children")
def test_the_children_of_a_killed_build_end_too(tmp_path: Path) -> None:
    process = subprocess.Popen(build_command(tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
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
