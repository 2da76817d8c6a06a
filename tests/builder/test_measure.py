"""`python -m builder measure`: on the real export, against what its build measured; and what it refuses."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from builder.checkpoint.checkpoint import read_folder
from builder.commands import run
from builder.demo import CHECKPOINT
from builder.errors import BuildError, CalibrationError, SourceError
from builder.stages.measure import check_vocabulary
from serving.errors import ModelFolderError
from serving.gguf import spelled_by
from tests.conftest import Stages

TEXT = "The capital of France is Paris, and that of Italy is Rome.\n" * 200


def test_an_export_has_the_loss_that_its_build_measured(
    stages: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The original there went by 16-bit files, here it does not."""
    file = tmp_path / "figures.json"
    run(["measure", str(stages.exported), "--against", "demo", "--json", str(file)])
    told, written = capsys.readouterr(), json.loads(file.read_text())
    assert written["against"] == "demo" and written["measurements"].keys() == {"text", "chats"}
    for kind, found in written["measurements"].items():
        built: dict[str, Any] = stages.kept["verify"].result["quality"][kind]
        assert found["tokens"] == built["tokens"] == 4 * 511
        assert found["kl"]["mean"]["value"] == pytest.approx(built["kl_divergence"], rel=0.01)
        assert found["kl"]["mean"]["error"] == pytest.approx(built["kl_divergence_error"], rel=0.01)
        assert found["perplexity"]["base"]["value"] == pytest.approx(built["perplexity_original"], rel=1e-3)
        assert found["perplexity"]["q"]["value"] == pytest.approx(built["perplexity_exported"], rel=1e-3)
        assert found["p"]["same_top"]["value"] == pytest.approx(built["top1_agreement"], abs=0.002)
        assert f"Mean    KLD: {found['kl']['mean']['value']:10.6f}" in told.out
    assert "original: done" in told.err and "compare: done" in told.err


def test_another_model_beside_it_is_measured_on_the_same_tokens(
    exact_model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    with text.open("a") as more:
        more.write(TEXT)
    run(
        [
            "measure",
            str(exact_model),
            "--against",
            "demo",
            "--beside",
            str(exact_model),
            "--text",
            str(text),
            "--json",
            str(file),
        ]
    )
    written = json.loads(file.read_text())
    assert written["beside"] == written["measurements"] and written["model_beside"] == str(exact_model)
    assert written["paired"]["text"]["kl_ratio"] == {"value": 1.0, "error": 0.0}
    assert "Q beside R, token by token" in capsys.readouterr().out
    assert "name a model folder" in refused(SourceError, exact_model, "--against", "demo", "--beside", tmp_path)


def refused(kind: type[BuildError], *arguments: str | Path) -> str:
    with pytest.raises(kind) as error:
        run(["measure", *map(str, arguments)])
    return str(error.value)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(TEXT)
    return file


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGML and more")
    assert "is not there" in refused(SourceError, tmp_path / "none", "--against", "demo")
    for other in (tmp_path, tmp_path / "model.gguf", CHECKPOINT):
        assert "name a model folder" in refused(SourceError, other, "--against", "demo")


def test_what_is_no_original_is_refused(exact_model: Path, tmp_path: Path) -> None:
    assert "--against 'nothing' is neither" in refused(SourceError, exact_model, "--against", "nothing")
    assert "is an export already" in refused(SourceError, exact_model, "--against", exact_model)
    quantized = tmp_path / "quantized"
    shutil.copytree(CHECKPOINT, quantized, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((quantized / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
        "modules_to_not_convert": [],
    }
    (quantized / "config.json").write_text(json.dumps(config))
    assert "is quantized itself (awq)" in refused(SourceError, exact_model, "--against", quantized)


def test_too_little_text_is_refused_and_says_how_much_is_needed(exact_model: Path, text: Path) -> None:
    text.write_text("Too short. " * 50)
    message = refused(CalibrationError, exact_model, "--against", "demo", "--text", text)
    assert "too few to measure with" in message and "1024 at least" in message
    assert "--tokens 100 are too few" in refused(BuildError, exact_model, "--against", "demo", "--tokens", "100")


def test_what_is_no_text_is_refused(exact_model: Path, text: Path) -> None:
    text.write_bytes(b"\0\1\2" * 2000)
    assert "null characters" in refused(CalibrationError, exact_model, "--against", "demo", "--text", text)


def test_too_little_memory_is_refused_before_anything_is_loaded(
    exact_model: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.checkpoint.preflight.available_memory", lambda: 300 << 20)
    message = refused(BuildError, exact_model, "--against", "demo", "--text", text)
    assert "needs about" in message and "300 MiB are free" in message and "--tokens" in message


def test_another_vocabulary_is_refused_by_the_first_token_that_differs(exact_model: Path, tmp_path: Path) -> None:
    checkpoint = read_folder(CHECKPOINT)
    own = Tokenizer.from_file(str(exact_model / "tokenizer.json"))
    new = own.get_vocab_size()
    token_ids = np.asarray([3, 700, new], dtype=np.int64)
    check_vocabulary(checkpoint, exact_model, token_ids[:2])
    own.add_special_tokens([AddedToken("<|another|>", special=True)])
    other = tmp_path / "other"
    other.mkdir()
    own.save(str(other / "tokenizer.json"))
    with pytest.raises(SourceError, match=rf"token {new} is None for .* and '<\|another\|>' for .*vocabul"):
        check_vocabulary(checkpoint, other, token_ids)


def test_a_gguf_file_without_llama_cpp_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(ModelFolderError, match="pip install llama-cpp-python"):
        spelled_by(tmp_path / "model.gguf", [1])
    checkpoint = read_folder(CHECKPOINT)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match="cmake"):
        check_vocabulary(checkpoint, tmp_path / "model.gguf", np.asarray([1], dtype=np.int64))
