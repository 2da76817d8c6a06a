"""The two steps of a build by themselves, as Quark's own example has them, and what they refuse."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder.checkpoint.checkpoint import read
from builder.checkpoint.source import locate, parse_source
from builder.demo import CHECKPOINT
from builder.errors import BuildError
from builder.kept.artifact import check_files, read_manifest
from builder.progress import silent
from builder.recipe import ExportTarget, QuantRecipe
from builder.stages.graph import read_graph
from builder.steps import export_step, quantize_step, read_quantized
from serving.engine.engine import Engine
from serving.types import Message, SamplingOptions, complete
from tests.builder.stages.texts import pile
from tests.conftest import Stages
from tests.family_cases import Case
from tests.family_chain import make_checkpoint
from tests.hub import ROOT, Repository, serve

QUANTIZE = (
    "quantize --model_dir {model} --output_dir {quantized} --quant_scheme w_uint4_per_group_asym --num_calib_data 128 "
    "--quant_algo awq --dataset pileval_for_awq_benchmark --seq_len 512 --model_export quark_safetensors "
    "--data_type float16 --custom_mode awq"
)
EXPORT = "export -i {quantized} -o {exported} -p int4 -e dml"
DOCUMENTS = [f"Document {number} says that {number} and one are {number + 1}. " * 6 for number in range(400)]


def run(command: str, environment: Mapping[str, str], **paths: Path) -> "subprocess.CompletedProcess[str]":
    """`python -m builder`, with `{name}` in the command standing for a path."""
    arguments = [part.format(**paths) for part in command.split()]
    return subprocess.run(
        [sys.executable, "-m", "builder", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_two_commands_of_quarks_example_end_in_a_model_that_is_served(tmp_path: Path) -> None:
    """Word for word, but for the program's name; the Pile comes from a stand-in for the Hub."""
    paths = {name: tmp_path / name for name in ("model", "quantized", "exported")}
    shape = {"tie_word_embeddings": False, "vocab_size": 1856, "num_hidden_layers": 1}
    make_checkpoint(Case("llama", shape), 0, paths["model"])
    for name in ("chat_template.jinja", "generation_config.json"):
        (paths["model"] / name).write_bytes((CHECKPOINT / name).read_bytes())
    data = Repository({"val.jsonl.zst": pile(*DOCUMENTS)}, kind="dataset")
    with serve({"mit-han-lab/pile-val-backup": data}) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        first = run(QUANTIZE, environment, **paths)
    assert (first.returncode, first.stdout.strip()) == (0, str(paths["quantized"])), first.stderr
    written = json.loads((paths["quantized"] / "config.json").read_text())["quantization_config"]
    assert (written["quant_method"], written["bits"], written["group_size"]) == ("awq", 4, 128)

    second = run(EXPORT, {}, **paths)
    assert (second.returncode, second.stdout.strip()) == (0, str(paths["exported"])), second.stderr
    assert "against the quantized checkpoint: KL divergence" in second.stderr
    kinds = {(kind.lm_head, kind.bits, kind.activations) for kind in read_graph(paths["exported"] / "model.onnx")}
    assert kinds == {(False, 4, "float16"), (True, 8, "float16")}
    check_files(paths["exported"])
    assert not [path for path in tmp_path.glob(".staging-*") if path.is_dir()]

    third = run(EXPORT, {}, **paths)
    assert third.returncode == 2
    assert third.stderr == f"error: -o {paths['exported']} exists: nothing is overwritten, so name a new folder.\n"


def test_an_export_by_itself_is_proved_and_served(tmp_path: Path, stages: Stages) -> None:
    quantized, target = read_quantized(Path(stages.job["quantized"])), ExportTarget(accuracy_level=1)
    made, quality = export_step(quantized, target, tmp_path / "made", silent)
    assert quality.export is not None and quality.export.kl_divergence < 1e-3
    assert (made / "model.onnx.data").read_bytes() == (stages.exported / "model.onnx.data").read_bytes()
    assert read_manifest(made)["recipe"]["group_size"] == 128
    with Engine.load(made) as engine:
        question = [Message("user", "What is the capital of France?")]
        assert "Paris" in complete(engine.generate(question, SamplingOptions(temperature=0.0, max_tokens=20))).text


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    with pytest.raises(BuildError, match=r"--output_dir .*precious exists: nothing is overwritten"):
        quantize_step(read(locate(parse_source("demo"))), QuantRecipe(dataset="demo"), precious, silent)
    with pytest.raises(BuildError, match=r"-o .*precious exists: nothing is overwritten"):
        export_step(read(locate(parse_source("demo"))), ExportTarget(), precious, silent)
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["export", "-i", "{missing}", "-o", "{out}"], "has no config.json"),
        (["export", "-i", "{demo}", "-o", "{out}"], "are not quantized: make a checkpoint that is"),
        (["quantize", "--model_dir", "{missing}", "--output_dir", "{out}"], "neither 'demo', nor a folder"),
        (["quantize", "--model_dir", "demo", "--output_dir", "{out}", "--exclude_layers", "q_proj"], "q_proj"),
        (
            [
                "quantize",
                "--model_dir",
                "demo",
                "--output_dir",
                "{out}",
                "--custom_mode",
                "awq",
                "--quant_algo",
                "gptq",
            ],
            "--custom-mode awq writes AWQ's format, and --quant-algo is gptq",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path, flags: list[str], words: str) -> None:
    places = {"missing": tmp_path / "a b", "demo": CHECKPOINT, "out": tmp_path / "out"}
    command = [sys.executable, "-m", "builder", *(flag.format(**places) for flag in flags)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1 and words in refused.stderr
    assert not (tmp_path / "out").exists()
