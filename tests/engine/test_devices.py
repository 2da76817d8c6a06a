"""Which device computes: what a folder was exported for, what was asked for, and what happens where that is not there.

No other device than the CPU is here. What can be proved: every refusal, every fallback, and that float16 exports and
devices that cannot continue answer as the CPU does.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import app
from builder.flags import add_export_flags, target_from
from builder.progress import silent
from builder.stages.stage import run_stage
from serving.engine.choosing import load_runtime
from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime, check_provider
from serving.engine.process import EngineProcess
from serving.errors import InvalidRequest, ModelFolderError
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import EngineSettings, Message, Provider, SamplingOptions, complete
from tests.conftest import Stages
from tests.scripted import ScriptedGenerator, ScriptedRuntime, by_hash
from tests.servers import ended

QUESTION = Message("user", "What is the capital of France?")
ANSWER = "The capital of France is Paris."
GREEDY = SamplingOptions(temperature=0.0, max_tokens=30)
PACKAGES = {
    "cuda": "pip install onnxruntime-genai-cuda",
    "dml": "pip install onnxruntime-genai-winml",
    "webgpu": "pip install onnxruntime-ep-webgpu",
    "openvino": "pip install onnxruntime-ep-openvino",
}


@pytest.fixture(scope="module")
def halves(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as the builder exports it for CUDA: in float16."""
    folder = tmp_path_factory.mktemp("halves") / "export"
    job = {**stages.job, "execution_provider": "cuda", "output": str(folder)}
    run_stage("builder.stages.export", job, stages.log, silent)
    return folder


def exported_for(provider: dict[str, Any] | None, model: Path, folder: Path) -> Path:
    """A copy of a model folder whose configuration names a provider; None names none."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["provider_options"] = [] if provider is None else [provider]
    (folder / "genai_config.json").write_text(json.dumps(config))
    return folder


def answer(engine: Engine | EngineProcess) -> str:
    return complete(engine.generate([QUESTION], GREEDY)).text


# What a folder was exported for


@pytest.mark.parametrize(
    ("options", "provider"),
    [
        (None, "cpu"),
        ({"cuda": {"enable_cuda_graph": "0"}}, "cuda"),
        ({"DML": {}}, "dml"),
        ({"WebGpuExecutionProvider": {}}, "webgpu"),
        ({"NvTensorRtRtx": {}}, "NvTensorRtRtx"),
    ],
)
def test_a_folder_says_what_it_was_exported_for(
    exact_model: Path, tmp_path: Path, options: dict[str, Any] | None, provider: str
) -> None:
    assert ModelFolder.open(exported_for(options, exact_model, tmp_path / "m")).provider == provider


def test_provider_options_of_another_shape_are_a_fault_of_the_folder(exact_model: Path, tmp_path: Path) -> None:
    folder = exported_for(None, exact_model, tmp_path / "m")
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"] = ["cuda"]
    (folder / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFolderError, match=r"genai_config\.json"):
        ModelFolder.open(folder)


# Falling back


def test_a_float16_export_answers_on_the_cpu_and_the_reason_is_noted(halves: Path) -> None:
    with Engine.load(halves) as engine:
        assert answer(engine) == ANSWER
        (note,) = engine.notes
    assert "exported for cuda and is computed on the CPU" in note and PACKAGES["cuda"] in note


def test_the_cpu_by_name_needs_no_note(halves: Path) -> None:
    with Engine.load(halves, EngineSettings(provider="cpu")) as engine:
        assert (answer(engine), engine.notes) == (ANSWER, ())


def test_an_export_for_the_cpu_has_no_note(exact_model: Path) -> None:
    with Engine.load(exact_model) as engine:
        assert (answer(engine), engine.notes) == (ANSWER, ())


@pytest.mark.parametrize("provider", ["Abacus", "AZURE"])  # ONNX Runtime has the second, which computes elsewhere
def test_a_provider_that_is_not_served_falls_back_with_its_reason(
    exact_model: Path, tmp_path: Path, provider: str
) -> None:
    folder = exported_for({provider: {"backend_path": "evil.so"}}, exact_model, tmp_path / "m")
    with Engine.load(folder) as engine:
        assert answer(engine) == ANSWER
        (note,) = engine.notes
    assert f"exported for {provider}" in note and "is not one that is served" in note


def test_notes_come_out_of_the_engines_process(halves: Path) -> None:
    with EngineProcess.load(halves) as engine:
        assert answer(engine) == ANSWER
        assert [note.partition(" and ")[0] for note in engine.notes] == ["this model was exported for cuda"]


def test_a_model_that_loads_nowhere_is_not_called_a_matter_of_devices(exact_model: Path, tmp_path: Path) -> None:
    folder = exported_for({"cuda": {}}, exact_model, tmp_path / "m")
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelFolderError, match="does not load in ONNX Runtime GenAI"):
        OgaRuntime(ModelFolder.open(folder))


# Asked for by name


@pytest.mark.parametrize("provider", PACKAGES)
def test_a_provider_that_is_not_installed_is_refused_with_the_name_of_its_package(
    exact_model: Path, provider: Provider
) -> None:
    with pytest.raises(InvalidRequest, match=f"provider {provider} needs the package.*`{PACKAGES[provider]}`"):
        Engine.load(exact_model, EngineSettings(provider=provider))


def test_every_provider_can_be_asked_for() -> None:
    assert {"auto", "cpu", *PACKAGES} == set(get_args(Provider))
    check_provider("cpu")


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package for OpenVINO, with a library that does not load."""
    package = tmp_path / "packages" / "onnxruntime_ep_openvino"
    package.mkdir(parents=True)
    functions = {"get_ep_name": "OpenVINOExecutionProvider", "get_library_path": str(package / "none.so")}
    lines = [f"def {name}(): return {value!r}\n" for name, value in functions.items()]
    (package / "__init__.py").write_text("".join(lines))
    monkeypatch.syspath_prepend(package.parent)
    yield
    sys.modules.pop("onnxruntime_ep_openvino", None)


@pytest.mark.usefixtures("plug_in")
def test_a_package_without_a_device_is_told_from_a_missing_one(exact_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"openvino is installed, and finds no device here .*none\.so"):
        Engine.load(exact_model, EngineSettings(provider="openvino"))
    with Engine.load(exported_for({"OpenVINO": {}}, exact_model, tmp_path / "m")) as engine:
        assert answer(engine) == ANSWER
        assert "finds no device here" in engine.notes[0]


def test_settings_refuse_what_cannot_be() -> None:
    with pytest.raises(InvalidRequest, match=r"--execution-provider must be .* 'tpu'"):
        EngineSettings(provider="tpu")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="auto or cpu with --runtime ort, not 'cuda'"):
        EngineSettings(provider="cuda", runtime="ort")
    EngineSettings(provider="cpu", runtime="ort")


def test_batching_wants_a_model_for_the_cpu(halves: Path) -> None:
    with pytest.raises(InvalidRequest, match="--runtime ort needs a model that was built for the CPU, not for cuda"):
        load_runtime(ModelFolder.open(halves), EngineSettings(runtime="ort"))


# What a device cannot do


class _Grudging(ScriptedGenerator):
    """Appends again and again, and never rewinds."""

    def rewind_to(self, length: int) -> None:
        raise RuntimeError(f"RewindTo is not supported, nor is {length}")


class _GrudgingRuntime(ScriptedRuntime):
    def generator(self, capacity: int) -> ScriptedGenerator:
        return _Grudging(self, capacity)


def test_what_a_device_can_do_is_tried_when_it_loads() -> None:
    def can(runtime: OgaRuntime) -> tuple[bool, bool, bool]:
        runtime._try_out()
        return runtime.continues, runtime.rewinds, runtime.keeps

    assert can(ScriptedRuntime(by_hash(50), 50)) == (True, True, False)
    assert can(ScriptedRuntime(by_hash(50), 50, rewinds=False, keeps=True)) == (True, False, True)
    assert can(_GrudgingRuntime(by_hash(50), 50)) == (True, False, False)
    assert can(ScriptedRuntime(by_hash(50), 50, continues=False)) == (False, False, False)


def test_states_that_cannot_be_rewound_are_kept_at_one_place() -> None:
    slot = ScriptedRuntime(by_hash(50), 50, rewinds=False, keeps=True).slot(0)
    slot.reserve(100)
    slot.append(np.array([1, 2, 3], np.int32))
    slot.mark()
    slot.append(np.array([4, 5], np.int32))
    assert (slot.rewind(5), slot.tokens) == (5, [1, 2, 3, 4, 5])
    assert (slot.rewind(4), slot.tokens) == (3, [1, 2, 3])
    slot.append(np.array([6], np.int32))
    assert (slot.rewind(2), slot.tokens) == (0, [])
    slot.append(np.array([1, 2, 3, 4], np.int32))
    assert slot.rewind(3) == 0  # what was kept has gone with the rest


def test_states_that_cannot_be_kept_either_are_only_continued() -> None:
    slot = ScriptedRuntime(by_hash(50), 50, rewinds=False).slot(0)
    slot.reserve(100)
    slot.append(np.array([1, 2, 3], np.int32))
    slot.mark()
    assert slot.rewind(3) == 3
    slot.append(np.array([4], np.int32))
    assert (slot.rewind(3), slot.tokens) == (0, [])


class _AppendsOnce:
    """A real og.Generator that refuses what DirectML refuses."""

    def __init__(self, generator: Any) -> None:
        self._generator, self._appended = generator, False

    def append_tokens(self, tokens: np.ndarray) -> None:
        if self._appended:
            raise RuntimeError("Continuous decoding is not supported on the selected device type")
        self._appended = True
        self._generator.append_tokens(tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


class _Once(OgaRuntime):
    def generator(self, capacity: int) -> Any:
        return _AppendsOnce(super().generator(capacity))


def test_a_device_that_cannot_continue_answers_the_same_and_says_so(exact_model: Path) -> None:
    folder, prompt = ModelFolder.open(exact_model), Prompt.load(exact_model)
    follow_up = [QUESTION, Message("assistant", ANSWER), Message("user", "And of Italy?")]
    with Engine(_Once(folder), prompt) as engine, Engine(OgaRuntime(folder), prompt) as usual:
        assert [note.partition(":")[0] for note in engine.notes] == ["cpu cannot continue in a KV cache"]
        assert usual.notes == ()
        for conversation in ([QUESTION], follow_up):
            once, again = (complete(one.generate(conversation, GREEDY)) for one in (engine, usual))
            assert once.token_ids == again.token_ids
            assert once.last.cached_tokens == 0
        assert again.last.cached_tokens > 0


# The program


@pytest.mark.parametrize("provider", get_args(Provider))
def test_the_program_builds_for_what_it_serves_on(provider: str) -> None:
    flags = app.parser().parse_args(["-e", provider])
    assert app.parser().parse_args([]).execution_provider == "auto"
    built_for = {"auto": "cpu", "openvino": "cpu"}.get(provider, provider)
    assert asdict(target_from(flags, ("lm_head",)))["execution_provider"] == built_for


def test_the_builder_alone_knows_only_what_it_can_export_for(capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_export_flags(parser)
    assert parser.parse_args([]).execution_provider == "cpu"
    with pytest.raises(SystemExit):
        parser.parse_args(["-e", "auto"])
    assert "cuda" in capsys.readouterr().err


def test_a_missing_package_is_told_before_anything_is_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Nothing that could be built, so that the first fault that is told is the first one looked for.
    assert app.main(["-e", "webgpu", "--port", "0", "--model", str(tmp_path)]) == 2
    assert PACKAGES["webgpu"] in capsys.readouterr().err


def test_the_program_says_at_its_start_what_is_otherwise(halves: Path) -> None:
    command = [sys.executable, "app.py", "--port", "0", "--model", str(halves)]
    root = Path(app.__file__).parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline().startswith("Chat at ")
        _, errors = ended(process)
    notes = [line for line in errors.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and "exported for cuda" in notes[0]
