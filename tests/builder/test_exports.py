"""What is already made, by `--model`: exports of others and quantized checkpoints, from the Hub and from folders.

The repositories are laid out as public ones are, their settings written after those (tests/builder/checkpoint/
test_choice.py); graph and tokenizer are the demo's.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import app
from builder import exports
from builder.commands import ready
from builder.demo import CHECKPOINT
from builder.errors import BuildError
from builder.kept.artifact import check_files, read_manifest
from builder.progress import silent
from builder.stages.prompts import check_exported
from serving.engine.engine import Engine
from serving.folder import ModelFolder
from serving.types import Message, SamplingOptions, complete
from tests.hub import Repository, in_child, serve
from tests.packings import pack

READY = """
import app, io, contextlib
from builder.commands import ready
from tests.builder.test_exports import on_cpu
said = io.StringIO()
with contextlib.redirect_stderr(said):
    folder, is_demo = ready(app.parser().parse_args(sys.argv[1:]), on_cpu)
answer = {"folder": str(folder), "said": said.getvalue()}
"""
CPU, CUDA, NPU = "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4", "cuda/cuda-int4-rtn-block-32", "npu/qnn"
GRAPH = "demo-cpu-int4-rtn-block-32-acc-level-4.onnx"
QUESTION = [Message("user", "What is the capital of France?")]


def on_cpu() -> tuple[str, ...]:
    """What can be used here."""
    return ("cpu",)


def foreign(model: Path, folder: Path, **session: Any) -> Path:
    """A model folder as others publish them: the template in tokenizer_config.json, a graph by a name of its own."""
    shutil.copytree(
        model, folder, ignore=shutil.ignore_patterns("manifest.json", "proof.npz", "generation_config.json")
    )
    (folder / "model.onnx").rename(folder / GRAPH)
    settings = json.loads((folder / "genai_config.json").read_text())
    settings["model"]["decoder"]["filename"] = GRAPH
    settings["model"]["decoder"]["session_options"] |= session
    ends = settings["model"]["eos_token_id"]
    settings["model"]["eos_token_id"] = [*(ends if isinstance(ends, list) else [ends]), 0]
    settings["model"] |= {"eot_token_id": 2, "bot_token_id": 1}
    (folder / "genai_config.json").write_text(json.dumps(settings, indent=4))
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def repository(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a repository with exports for several devices."""
    clone = tmp_path_factory.mktemp("repository") / "chat-onnx"
    foreign(demo_model, clone / CPU)
    foreign(demo_model, clone / CUDA, provider_options=[{"cuda": {"enable_cuda_graph": "0"}}])
    foreign(demo_model, clone / NPU, custom_ops_library="onnx_custom_ops.dll")
    (clone / "README.md").write_text("exports")
    (clone / CPU / "LICENSE.md").write_text("MIT")
    (clone / "config.json").write_text('{"model_type": "llama"}')
    return clone


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def answered(folder: Path) -> str:
    with Engine.load(folder) as engine:
        return complete(engine.generate(QUESTION, SamplingOptions(temperature=0.0, max_tokens=20))).text


def test_of_a_repository_the_export_that_fits_is_fetched_kept_and_served(repository: Path, tmp_path: Path) -> None:
    arguments = ["--model", "acme/chat-onnx", "--models-dir", str(tmp_path / "models")]
    with serve({"acme/chat-onnx": Repository(files_of(repository))}) as hub:
        data = f"{CPU}/model.onnx.data"
        hub.breaking[data] = [1 << 20]
        made = in_child(READY, hub.url, tmp_path / "cache", *arguments)["answer"]
        assert f"acme/chat-onnx: an export for ONNX Runtime GenAI on cpu, in {CPU}, served as it is" in made["said"]
        assert hub.ranges[data] == [None, f"bytes={1 << 20}-"], "a transfer that broke off went on"
        asked = set(hub.served)
        assert asked == {f"{each}/genai_config.json" for each in (CPU, CUDA, NPU)} | {"config.json"} | {
            f"{CPU}/{file.name}" for file in (repository / CPU).iterdir() if file.suffix != ".md"
        }
        hub.asked.clear()
        again = in_child(READY, hub.url, tmp_path / "cache", *arguments)["answer"]
        assert again["folder"] == made["folder"] and hub.asked == [], "what is here is served without the Hub"
    folder = Path(made["folder"])
    assert not any(file.is_symlink() for file in folder.iterdir())
    check_files(folder)
    assert read_manifest(folder)["source"] == {
        "kind": "export", "name": "acme/chat-onnx", "revision": Repository({}).commit, "folder": CPU
    }  # fmt: skip
    assert ModelFolder.open(folder).source == "acme/chat-onnx"
    assert "Paris" in answered(folder)


def test_a_subfolder_that_is_named_is_taken_and_what_it_may_not_do_is_refused(repository: Path, tmp_path: Path) -> None:
    arguments = ["--model", "acme/chat-onnx", "--models-dir", str(tmp_path / "models"), "--subfolder"]
    with serve({"acme/chat-onnx": Repository(files_of(repository))}) as hub:
        refused = in_child(READY, hub.url, tmp_path / "cache", *arguments, NPU)
        missing = in_child(READY, hub.url, tmp_path / "cache", *arguments, "webgpu")
        assert not any(path.endswith(".data") for path in hub.served)
    assert refused["error"] == "UnsupportedModel" and "custom_ops_library is refused" in refused["message"]
    assert missing["error"] == "SourceError" and f"exports are in {CPU}, {CUDA}, {NPU}" in missing["message"]


def test_a_repository_of_ours_is_compared_with_its_own_manifest(demo_model: Path, tmp_path: Path) -> None:
    whole = files_of(demo_model)
    spoiled = whole | {"model.onnx.data": bytes(len(whole["model.onnx.data"]))}
    repositories = {"me/good": Repository(whole), "me/bad": Repository(spoiled)}
    with serve(repositories) as hub:
        arguments = (json.dumps([*repositories]), "--models-dir", str(tmp_path))
        found = in_child(EACH, hub.url, tmp_path / "cache", *arguments)["answer"]
    assert read_manifest(Path(found["me/good"])) == read_manifest(demo_model)
    origin = {"name": "me/good", "revision": Repository({}).commit, "folder": ""}
    assert json.loads((Path(found["me/good"]) / "received.json").read_text()) == origin
    assert "me/bad is not what its manifest.json says: model.onnx.data has another SHA-256" in found["me/bad"]


ODD = {
    "acme/chat-GGUF": ({"chat-Q4_K_M.gguf": b"GGUF"}, "holds GGUF files"),
    "acme/chat-js": ({"onnx/model_q4.onnx": b"", "config.json": b"{}"}, "ONNX files of another make"),
    "acme/chat-mxfp4": (
        {"config.json": b'{"quantization_config": {"quant_method": "mxfp4"}}', "model.safetensors": b""}, "MXFP4",
    ),
}  # fmt: skip
EACH = """
import app
from builder.commands import ready
from tests.builder.test_exports import on_cpu
answer = {}
for name in json.loads(sys.argv[1]):
    try:
        answer[name] = str(ready(app.parser().parse_args(["--model", name, *sys.argv[2:]]), on_cpu)[0])
    except BuildError as error:
        answer[name] = str(error)
"""


def test_what_cannot_be_used_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    with serve({name: Repository(files) for name, (files, _) in ODD.items()}) as hub:
        found = in_child(EACH, hub.url, tmp_path, json.dumps([*ODD]), "--models-dir", str(tmp_path / "m"))["answer"]
        assert set(hub.served) <= {"config.json"}
    for name, (_, words) in ODD.items():
        assert words in found[name]


# Folders


def flags(*argv: str) -> Any:
    return app.parser().parse_args([*argv])


def test_of_a_clone_the_folder_is_served_where_it_lies_and_checked_once(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = flags("--model", str(repository), "--models-dir", str(tmp_path))
    assert ready(arguments, on_cpu) == (repository / CPU, False)
    assert "an export for ONNX Runtime GenAI on cpu" in capsys.readouterr().err
    monkeypatch.setattr(exports, "check", lambda _: pytest.fail("checked again"))
    assert ready(arguments, on_cpu) == (repository / CPU, False)


def test_a_template_of_others_that_never_ends_is_ended(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(repository / CPU, tmp_path / "endless"))
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(loops)
    monkeypatch.setattr(exports, "_SECONDS", 2.0)
    with pytest.raises(BuildError, match=r"chat template of .*endless cannot be used: .* took longer than 2 s"):
        ready(flags("--model", str(folder), "--models-dir", str(tmp_path / "m")), on_cpu)


def test_tokens_that_the_model_does_not_know_are_a_fault_of_the_folder(repository: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(repository / CPU, tmp_path / "small"))
    settings = json.loads((folder / "genai_config.json").read_text())
    settings["model"]["vocab_size"] = 100
    (folder / "genai_config.json").write_text(json.dumps(settings))
    with pytest.raises(BuildError, match="the model knows 100 tokens"):
        check_exported({"exported": str(folder)}, silent)


# Checkpoints that came quantized


def test_a_quantized_checkpoint_is_exported_proved_measured_and_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = pack(CHECKPOINT, tmp_path / "packed", "gptq")
    arguments = ["--model", str(packed), "--models-dir", str(tmp_path / "models"), "--original", "demo"]
    folder, _ = ready(flags(*arguments), on_cpu)
    said = capsys.readouterr().err
    assert "quantized by GPTQ already, 4 bits, groups of 32: exported and proved, not quantized again" in said
    assert "against the quantized checkpoint: KL divergence 0.0" in said and "text: perplexity " in said
    check_files(folder)
    quality = read_manifest(folder)["quality"]
    assert quality["export"]["kl_divergence"] < 0.01 and 0.001 < quality["text"]["kl_divergence"] < 1
    assert "Paris" in answered(folder)
    assert ready(flags(*arguments), on_cpu)[0] == folder and "proved" not in capsys.readouterr().err
    with pytest.raises(BuildError, match=r"--group-size is for original checkpoints, and .* quantized by GPTQ"):
        ready(flags(*arguments, "--rebuild", "--group-size", "32"), on_cpu)


def test_what_config_json_does_not_tell_of_packed_weights_is_refused_by_their_headers(tmp_path: Path) -> None:
    packed = pack(CHECKPOINT, tmp_path / "packed", "awq", group_size=64)
    with pytest.raises(BuildError, match=r"q?zeros of the shape .* in groups of 64 need"):
        ready(flags("--model", str(packed), "--models-dir", str(tmp_path / "m")), on_cpu)


def test_original_is_for_what_came_quantized(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"--original is for .* quantized already, and demo is an orig"):
        ready(flags("--original", "demo", "--models-dir", str(tmp_path), "--rebuild"), on_cpu)
