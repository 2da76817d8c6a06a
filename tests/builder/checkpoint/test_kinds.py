"""What a folder or a repository is told to be by its files' names and its config.json."""

from pathlib import Path
from typing import Any

import pytest

from builder.checkpoint.kinds import exports_among, kind_of
from builder.errors import BuildError
from tests.hub import Repository, in_child, serve
from tests.packings import CONFIGS

PHI3 = (
    "README.md", "config.json", "cpu_and_mobile/cpu-int4-rtn-block-32/genai_config.json",
    "cpu_and_mobile/cpu-int4-rtn-block-32/phi3-mini.onnx", "cuda/cuda-fp16/genai_config.json",
    "cuda/cuda-fp16/phi3-mini.onnx", "directml/directml-int4-awq-block-128/genai_config.json",
    "directml/directml-int4-awq-block-128/model.onnx",
)  # fmt: skip
CHECKPOINT = ("config.json", "model-00001-of-00002.safetensors", "tokenizer.json")
CONFIG: dict[str, Any] = {"model_type": "llama"}


def test_each_kind_is_told() -> None:
    assert kind_of("m", CHECKPOINT, CONFIG).kind == "original"
    assert kind_of("m", ("genai_config.json", "model.onnx", "config.json"), CONFIG).exports == ("",)
    assert kind_of("m", ("genai_config.json", "model.onnx", *CHECKPOINT), CONFIG).kind == "export", (
        "at the top it counts"
    )
    several = kind_of("m", PHI3, CONFIG)
    assert (several.kind, len(several.exports)) == ("export", 3)
    for packing, config in CONFIGS.items():
        found = kind_of("m", CHECKPOINT, {**CONFIG, "quantization_config": config})
        assert found.kind == "quantized" and found.quantization is not None
        assert found.quantization.packing == packing and "not quantized again" in found.named
    assert kind_of("m", (*CHECKPOINT, *PHI3), CONFIG).kind == "original", "whole weights beside exports of them"


def test_an_export_is_a_graph_with_its_settings_beside_it() -> None:
    assert exports_among(PHI3) == (
        "cpu_and_mobile/cpu-int4-rtn-block-32", "cuda/cuda-fp16", "directml/directml-int4-awq-block-128",
    )  # fmt: skip
    assert exports_among(("genai_config.json", "onnx/model.onnx")) == ()


@pytest.mark.parametrize("subfolder", ["cuda/cuda-fp16", "cuda/cuda-fp16/", "cuda"])
def test_a_subfolder_is_where_an_export_is_looked_for(subfolder: str) -> None:
    assert kind_of("m", (*CHECKPOINT, *PHI3), CONFIG, subfolder).exports == ("cuda/cuda-fp16",)


@pytest.mark.parametrize(
    ("files", "config", "words"),
    [
        (("model-Q4_K_M.gguf", "README.md"), None, "holds GGUF files"),
        (("config.json", "model.gguf"), CONFIG, "holds GGUF files"),
        (("config.json", "onnx/model_q4.onnx"), CONFIG, "ONNX files of another make"),
        (("model.onnx",), None, "without a genai_config.json"),
        (("adapter_config.json", "adapter_model.safetensors"), None, "an adapter (LoRA)"),
        (("params.json", "consolidated.safetensors"), None, "name the repository for transformers"),
        (("config.json", "pytorch_model.bin"), CONFIG, "no *.safetensors weights; other formats are not loaded"),
        (("config.json", "weights.npz"), CONFIG, "no *.safetensors weights"),
        (("README.md",), None, "has no config.json"),
        (CHECKPOINT, {**CONFIG, "quantization_config": {"quant_method": "mxfp4"}}, "MXFP4"),
        (CHECKPOINT, {**CONFIG, "quantization": {"bits": 4}}, "MLX's own packing"),
    ],
)
def test_anything_else_is_refused_with_its_reason(
    files: tuple[str, ...], config: dict[str, Any] | None, words: str
) -> None:
    with pytest.raises(BuildError) as refused:
        kind_of("acme/chat", files, config)
    assert words in str(refused.value)


def test_what_a_repository_says_it_was_made_from_is_the_nearest_thing_that_works() -> None:
    with pytest.raises(BuildError, match=r"made from acme/chat: name that"):
        kind_of("someone/chat-GGUF", ("chat-Q4_0.gguf",), None, base="acme/chat")


def test_a_subfolder_without_an_export_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(BuildError, match=r"--subfolder npu of m holds no .* exports are in cpu_and_mobile/.*, cuda"):
        kind_of("m", PHI3, CONFIG, "npu")


def test_without_an_answer_of_the_hub_a_checkpoint_is_told_by_its_config_alone(tmp_path: Path) -> None:
    script = """
from builder.checkpoint.source import look, parse_source
answer = look(parse_source("acme/chat"))[0].kind
"""
    files = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"weights"}
    with serve({"acme/chat": Repository(files)}) as hub:
        told = in_child(script, hub.url, tmp_path)
        assert hub.served == ["config.json"]
        again = in_child(script, hub.url, tmp_path, HF_HUB_OFFLINE="1")
    assert told == again == {"answer": "original"}
