"""What quantized checkpoints say of themselves, as their programs write it: read, or refused with the reason."""

from typing import Any

import pytest

from builder.checkpoint.quantization import Quantization
from builder.errors import SourceError, UnsupportedModel
from tests.packings import CONFIGS

AWQ, GPTQ, SECOND = CONFIGS["awq"], CONFIGS["gptq"], CONFIGS["gptq_v2"]
EIGHT: dict[str, Any] = {"*v_proj": {"weight": {"dtype": "uint8", "group_size": 64, "symmetric": False}}}
OTHER: dict[str, Any] = {"*v_proj": {"weight": {"dtype": "uint8", "group_size": 32, "symmetric": False}}}
QUARK: dict[str, Any] = {
    "quant_method": "quark",
    "global_quant_config": {"weight": {"dtype": "uint4", "group_size": 64, "symmetric": False}},
    "algo_config": [{"name": "gptq"}],
    "layer_quant_config": {},
    "export": {"pack_method": "reorder"},
    "exclude": ["lm_head"],
}


def quark(**weight: Any) -> dict[str, Any]:
    """Quark's, with other weights."""
    return {**QUARK, "global_quant_config": {"weight": {**QUARK["global_quant_config"]["weight"], **weight}}}


def read(found: dict[str, Any]) -> Quantization:
    quantization = Quantization.of({"quantization_config": found})
    assert quantization is not None
    return quantization


@pytest.mark.parametrize(
    ("found", "packing", "algorithm", "group"),
    [
        (QUARK, "quark", "gptq", 64),
        ({**QUARK, "algo_config": None}, "quark", "none", 64),
        ({**QUARK, "layer_quant_config": EIGHT}, "quark", "gptq", 64),
        (AWQ, "awq", "awq", 32),
        ({**AWQ, "version": "GEMM", "modules_to_not_convert": ["lm_head"]}, "awq", "awq", 32),
        (GPTQ, "gptq", "gptq", 32),
        ({**GPTQ, "checkpoint_format": "gptq"}, "gptq", "gptq", 32),
        (SECOND, "gptq_v2", "gptq", 32),
    ],
)
def test_the_packing_is_told_by_what_each_program_writes(
    found: dict[str, Any], packing: str, algorithm: str, group: int
) -> None:
    quantization = read(found)
    quantization.check()
    assert (quantization.packing, quantization.algorithm, quantization.group_size) == (packing, algorithm, group)
    assert quantization.bits == 4


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({**AWQ, "bits": 8}, "8 bits, where 4 are read"),
        ({**AWQ, "group_size": -1}, "scales for whole columns"),
        ({**AWQ, "group_size": 16}, "groups of 16"),
        ({**AWQ, "zero_point": False}, "without zero points"),
        ({**AWQ, "version": "gemv"}, "AWQ's packing 'gemv'"),
        ({**AWQ, "version": "exllama"}, "AWQ's packing 'exllama'"),
        ({**GPTQ, "bits": 3}, "3 bits"),
        ({**GPTQ, "desc_act": True}, "act-order"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "packing 'marlin'"),
        ({**GPTQ, "is_marlin_format": True}, "packing 'marlin'"),
        ({**SECOND, "pack_dtype": "int16"}, "'int16'"),
        ({**SECOND, "dynamic": {"-:.*down.*": {}}}, "for some layers (dynamic)"),
        (quark(dtype="int4", symmetric=True), "int4 without zero points"),
        (quark(dtype="uint8"), "8 bits"),
        (quark(dtype="fp8_e4m3", group_size=None), "Quark's fp8_e4m3"),
        (quark(dtype="mx", group_size=32), "Quark's mx"),
        ({**QUARK, "export": {"pack_method": "order"}}, "pack_method 'order'"),
        ({**QUARK, "layer_quant_config": OTHER}, "layer_quant_config"),
        ({"quant_method": "fp8"}, "8-bit floats"),
        ({"quant_method": "mxfp4"}, "MXFP4"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "tomorrow"}, "'tomorrow', a format that is not known"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_reason_and_what_works(found: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        read(found).check()
    assert reason in str(refused.value) and "Name the repository with the original weights" in str(refused.value)


def test_of_gpt_oss_mxfp4_is_how_the_original_is_stored() -> None:
    assert Quantization.of({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"quant_method": "awq", "bits": 4}, "a quantization_config of awq that lacks 'group_size'"),
        ({"quant_method": "gptq", "group_size": 128}, "a quantization_config of gptq that lacks 'bits'"),
        ({**QUARK, "global_quant_config": None}, "a quantization_config of quark that lacks"),
    ],
)
def test_what_is_incomplete_is_a_fault_of_the_file(found: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError) as refused:
        read(found)
    assert words in str(refused.value)


def test_mlx_says_so_by_another_name() -> None:
    found = Quantization.of({"quantization": {"bits": 4, "group_size": 64}, "quantization_config": {"bits": 4}})
    assert found is not None and found.method == "mlx"
    assert Quantization.of({"model_type": "llama"}) is None
