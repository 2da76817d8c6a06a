"""Which of several exports fits: settings as they stand in public repositories, and folders as those are laid out."""

import json
from typing import Any

import pytest

from builder.checkpoint.choice import Candidate, candidate, choose
from builder.errors import SourceError, UnsupportedModel


def settings(provider: dict[str, Any] | None = None, session: dict[str, Any] | None = None, **decoder: Any) -> str:
    """As the model builder has written since 2024, for Phi-3."""
    options = [provider] if provider else []
    own = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": options, **(session or {})},
        "filename": "phi3-mini-128k-instruct-cpu-int4-rtn-block-32-acc-level-4.onnx",
        "head_size": 96,
        "hidden_size": 3072,
        "inputs": {
            "input_ids": "input_ids", "attention_mask": "attention_mask", "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits", "present_key_names": "present.%d.key", "present_value_names": "present.%d.value",
        },
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
    }  # fmt: skip
    model = {
        "bos_token_id": 1, "context_length": 131072, "decoder": {**own, **decoder}, "eos_token_id": [32000, 32007],
        "pad_token_id": 32000, "type": "phi3", "vocab_size": 32064,
    }  # fmt: skip
    return json.dumps({"model": model, "search": {"past_present_share_buffer": True, "top_k": 1}})


# Folders of microsoft's repositories for Phi-3 and Phi-4, with the settings in them.
PHI3 = {
    "cpu_and_mobile/cpu-int4-rtn-block-32": settings(),
    "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4": settings(),
    "cuda/cuda-fp16": settings({"cuda": {"enable_cuda_graph": "0"}}),
    "cuda/cuda-int4-rtn-block-32": settings({"cuda": {}}),
    "directml/directml-int4-awq-block-128": settings({"dml": {}}),
    "web": settings({"web": {}}),
}
SIZES = {"cuda/cuda-fp16": 7 << 30}
# AMD's for its NPU, before and since its software 1.7.
OPS = {"custom_ops_library": "onnx_custom_ops.dll", "custom_allocator": "ryzen_mm"}
RYZEN = {"RyzenAI": {"external_data_file": "model_jit.pb.bin", "hybrid_opt_max_seq_length": "4096"}}


def among(exports: dict[str, str]) -> list[Candidate]:
    return [candidate(folder, text, SIZES.get(folder, 2 << 30)) for folder, text in exports.items()]


@pytest.mark.parametrize(
    ("providers", "folder"),
    [
        (("cpu",), "cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4"),
        (("cuda", "cpu"), "cuda/cuda-int4-rtn-block-32"),
        (("dml", "cpu"), "directml/directml-int4-awq-block-128"),
        (("webgpu", "cpu"), "web"),
    ],
)
def test_the_export_for_the_best_provider_that_there_is_is_chosen(providers: tuple[str, ...], folder: str) -> None:
    assert choose("m", among(PHI3), providers).folder == folder


def test_without_one_for_the_cpu_another_is_computed_on_it() -> None:
    only = {folder: text for folder, text in PHI3.items() if folder.startswith("cuda")}
    assert choose("m", among(only), ("cpu",)).folder == "cuda/cuda-int4-rtn-block-32"


def test_what_asks_for_native_code_or_another_program_is_passed_over_and_alone_refused() -> None:
    npu = {"npu": settings(session=OPS), "hybrid": settings(RYZEN)}
    assert choose("m", among(npu | PHI3), ("cpu",)).provider == "cpu"
    with pytest.raises(UnsupportedModel, match=r"m, npu cannot be served: .*custom_ops_library is refused: it makes"):
        choose("m", among({"npu": npu["npu"]}), ("cpu",))
    with pytest.raises(UnsupportedModel, match=r"it is for RyzenAI, which is not among the providers"):
        choose("m", among({"hybrid": npu["hybrid"]}), ("cpu",))
    with pytest.raises(UnsupportedModel, match="does not hold a JSON object"):
        choose("m", [candidate("", "[]", 1)], ("cpu",))


def test_several_models_are_not_taken_for_one() -> None:
    two = {"1.5B/cpu": settings(hidden_size=1536), "7B/cpu": settings(hidden_size=3584)}
    with pytest.raises(SourceError, match=r"2 models: name one with --subfolder \(1\.5B/cpu, 7B/cpu\)"):
        choose("m", among(two), ("cpu",))
