"""What a build refuses before it loads anything, and in which words."""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from builder import demo
from builder.checkpoint.checkpoint import Checkpoint, read_folder
from builder.checkpoint.model import Shape
from builder.checkpoint.preflight import (
    check,
    check_disk,
    check_experts,
    check_export_memory,
    check_memory,
    check_target,
)
from builder.checkpoint.refused import REFUSED
from builder.checkpoint.resources import disk, export_memory, peak_memory, verify_memory
from builder.checkpoint.weights import Tensor, Weights
from builder.errors import BuildError, SourceError, UnsupportedModel
from builder.recipe import ExportTarget, GroupSize, QuantRecipe
from serving.hardware import available_memory
from tests.conftest import Stages

CONFIG = {
    "vocab_size": 1856,
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The files of a checkpoint, none of them with anything heavy in it."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_weights(folder / "model.safetensors", 0)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def write_weights(file: Path, size: int) -> None:
    """A safetensors file of so many bytes of weights, which take no room on the disk: a hole."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(file, file.stat().st_size + size)


def configure(checkpoint: Path, **changes: Any) -> None:
    """Change config.json; None removes a key."""
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    (checkpoint / "config.json").write_text(json.dumps(config))


def refusal(checkpoint: Path, error: type[BuildError], group_size: GroupSize = 128) -> str:
    """The words in which a build is refused."""
    with pytest.raises(BuildError) as refused:
        check(read_folder(checkpoint), QuantRecipe(group_size=group_size), ExportTarget(), checkpoint.parent / "models")
    assert type(refused.value) is error
    return str(refused.value)


def test_the_demo_checkpoint_passes_wherever_it_is_built(tmp_path: Path) -> None:
    check(read_folder(demo.CHECKPOINT), QuantRecipe(), ExportTarget(), tmp_path / "not" / "there" / "yet")
    assert not (tmp_path / "not").exists()


def test_a_whole_checkpoint_passes(checkpoint: Path) -> None:
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)


def test_an_unknown_architecture_is_refused_with_those_that_work(checkpoint: Path) -> None:
    configure(checkpoint, model_type="mamba")
    message = refusal(checkpoint, UnsupportedModel)
    assert "'mamba'" in message
    assert "llama, ministral, ministral3, mistral" in message


def test_a_checkpoint_that_is_quantized_already_is_refused_with_what_to_name_instead(checkpoint: Path) -> None:
    configure(checkpoint, quantization_config={"quant_method": "fp8"})
    message = refusal(checkpoint, UnsupportedModel)
    assert "quantized already, with 8-bit floats (FP8)" in message and "repository with the original weights" in message


def test_packed_weights_of_which_nothing_is_said_are_refused(checkpoint: Path) -> None:
    save_file({"model.layers.0.mlp.up_proj.qweight": np.zeros((8, 8), np.int32)}, checkpoint / "model.safetensors")
    message = refusal(checkpoint, UnsupportedModel)
    assert "up_proj.qweight" in message and "no quantization_config" in message


def test_weights_in_8_bits_are_refused_where_the_configuration_does_not_say_so(checkpoint: Path) -> None:
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (checkpoint / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    said = refusal(checkpoint, UnsupportedModel)
    assert "packed weights (w)" in said and "repository with the original weights" in said


MOE = {
    "model_type": "qwen3_moe", "moe_intermediate_size": 256, "num_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip


def test_experts_are_refused_where_the_export_has_nothing_for_them(checkpoint: Path) -> None:
    configure(checkpoint, **MOE)
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)
    with pytest.raises(UnsupportedModel, match="for the CPU only, not for dml: use -e cpu"):
        check_target(read_folder(checkpoint).model.shape, ExportTarget("dml"))
    with pytest.raises(UnsupportedModel, match="has 8 experts in one: use --mixture none"):
        check_experts(read_folder(checkpoint).model.shape, QuantRecipe(quant_algo="gptaq", mixture="q4_k_m"))
    configure(checkpoint, **MOE | {"moe_intermediate_size": 128})
    assert "have 128 inputs, and at least two groups of 128 are needed: use --group-size 64 or 32" in refusal(
        checkpoint, UnsupportedModel
    )
    configure(checkpoint, **MOE, mlp_only_layers=[0])
    assert "some of this model's layers have experts and some have none" in refusal(checkpoint, UnsupportedModel)


def test_a_token_is_multiplied_with_the_experts_that_see_it_and_all_are_quantized() -> None:
    dense = model_of(100).model.shape
    mixed = replace(dense, experts=8, active=2)
    mlp = 3 * dense.hidden * dense.intermediate
    assert (mixed.linears, mixed.seen) == (dense.linears + 7 * mlp, dense.linears + mlp)
    assert (dense.seen, dense.linears) == (dense.linears, dense.seen)


def test_an_architecture_that_is_known_to_break_is_refused_with_the_reason(checkpoint: Path) -> None:
    configure(checkpoint, model_type="stablelm")
    assert REFUSED["stablelm"].reason in refusal(checkpoint, UnsupportedModel)


def test_a_group_that_does_not_divide_is_refused_with_those_that_do(checkpoint: Path) -> None:
    configure(checkpoint, intermediate_size=768 + 64)
    message = refusal(checkpoint, UnsupportedModel)
    assert "down_proj has 832 inputs" in message
    assert "group size 128: use --group-size 64 or 32." in message
    check(read_folder(checkpoint), QuantRecipe(group_size=64), ExportTarget(), checkpoint)


def test_every_kind_of_linear_is_checked_against_the_group(checkpoint: Path) -> None:
    configure(checkpoint, hidden_size=320, head_dim=64)
    assert "gate_proj, up_proj has 320 inputs" in refusal(checkpoint, UnsupportedModel)
    configure(checkpoint, num_attention_heads=5, head_dim=64)
    assert "o_proj has 320 inputs" in refusal(checkpoint, UnsupportedModel)


def test_where_no_group_divides_the_refusal_says_so(checkpoint: Path) -> None:
    configure(checkpoint, intermediate_size=1000)
    assert "no group size fits this model" in refusal(checkpoint, UnsupportedModel, group_size=32)


def test_a_head_size_that_attention_cannot_compute_is_refused(checkpoint: Path) -> None:
    configure(checkpoint, num_attention_heads=32)
    assert "head size 8 is not a multiple of 16" in refusal(checkpoint, UnsupportedModel)


def test_a_rotated_part_of_each_head_that_attention_cannot_compute_is_refused(checkpoint: Path) -> None:
    configure(checkpoint, partial_rotary_factor=0.5)
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)
    configure(checkpoint, rope_scaling={"partial_rotary_factor": 0.4})
    assert "25 values per head are rotated" in refusal(checkpoint, UnsupportedModel)
    configure(checkpoint, partial_rotary_factor="half")
    assert "partial_rotary_factor = 'half'" in refusal(checkpoint, UnsupportedModel)


def test_the_size_of_a_family_with_another_name_for_it_is_checked(checkpoint: Path) -> None:
    granite = {"model_type": "granitemoehybrid", "layer_types": ["attention"] * 2, "num_local_experts": 0}
    configure(checkpoint, **granite, shared_intermediate_size=832)
    assert "down_proj has 832 inputs" in refusal(checkpoint, UnsupportedModel)
    configure(checkpoint, **granite)
    assert "shared_intermediate_size = None" in refusal(checkpoint, UnsupportedModel)


def test_a_rotary_embedding_of_another_shape_is_refused(checkpoint: Path) -> None:
    configure(checkpoint, rope_scaling="linear")
    assert "'linear' for its rotary embedding" in refusal(checkpoint, UnsupportedModel)


def test_a_null_head_size_means_that_it_follows_from_the_others(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({**CONFIG, "head_dim": None}))
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers"])
@pytest.mark.parametrize("value", [None, 0, "many", [4]])
def test_a_config_without_a_usable_size_is_refused_by_its_name(checkpoint: Path, key: str, value: Any) -> None:
    configure(checkpoint, **{key: value})
    assert f"{key} = {value!r}" in refusal(checkpoint, UnsupportedModel)


def test_a_config_without_an_architecture_is_refused(checkpoint: Path) -> None:
    configure(checkpoint, model_type=None)
    assert "'None' is not supported" in refusal(checkpoint, UnsupportedModel)


def test_a_folder_without_a_config_is_refused(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    assert f"{checkpoint} has no config.json" in refusal(checkpoint, SourceError)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [(b'{"model_type": ', "is not JSON"), (b'["llama"]', "does not hold a JSON object"), (b"\xff", "cannot be read")],
)
def test_a_damaged_configuration_is_named_with_its_fault(
    checkpoint: Path, name: str, content: bytes, fault: str
) -> None:
    (checkpoint / name).write_bytes(content)
    assert f"{checkpoint / name} {fault}" in refusal(checkpoint, SourceError)


def test_a_folder_without_safetensors_is_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    message = refusal(checkpoint, SourceError)
    assert "has no *.safetensors weights" in message
    assert "Name a repository that has them" in message


def test_missing_shards_are_named(checkpoint: Path) -> None:
    shards = {f"layer.{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00002-of-00003.safetensors")
    message = refusal(checkpoint, SourceError)
    assert "lacks model-00001-of-00003.safetensors, model-00003-of-00003.safetensors: the download" in message


def test_a_shard_that_is_not_whole_is_named_whatever_its_size(checkpoint: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    second = checkpoint / "model-2.safetensors"
    write_weights(second, 10**9)
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)
    os.truncate(second, second.stat().st_size - 1)
    started = time.perf_counter()
    message = refusal(checkpoint, SourceError)
    assert time.perf_counter() - started < 0.5, "the weights were read"
    assert f"{second} is damaged or not whole (" in message
    assert "download or copy it again" in message


def test_a_pointer_of_git_lfs_is_no_shard(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "'git lfs pull'" in refusal(checkpoint, SourceError)


def test_a_checkpoint_with_all_its_shards_passes(checkpoint: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)


@pytest.mark.parametrize("content", [b"{", b"{}", b"[]", b'{"weight_map": []}', b'{"weight_map": null}', b"\xff"])
def test_a_damaged_index_of_shards_is_named(checkpoint: Path, content: bytes) -> None:
    index = checkpoint / "model.safetensors.index.json"
    index.write_bytes(content)
    assert f"{index} cannot be read" in refusal(checkpoint, SourceError)


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").rename(checkpoint / "tokenizer.model")
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)
    (checkpoint / "tokenizer.model").unlink()
    assert "a tokenizer is needed" in refusal(checkpoint, SourceError)


@pytest.mark.parametrize(
    "tokenizer_config",
    [{}, {"chat_template": None}, {"chat_template": [{"name": "tool_use", "template": "{{ messages }}"}]}],
)
def test_a_base_model_is_refused_for_want_of_a_chat_template(checkpoint: Path, tokenizer_config: Any) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    assert "no chat template: this looks like a base model" in refusal(checkpoint, UnsupportedModel)


@pytest.mark.parametrize(
    "template", ["{{ messages }}", [{"name": "default", "template": "{{ messages }}"}, {"name": "rag", "template": ""}]]
)
def test_a_chat_template_inside_the_tokenizer_configuration_will_do(checkpoint: Path, template: Any) -> None:
    (checkpoint / "chat_template.jinja").unlink()
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    check(read_folder(checkpoint), QuantRecipe(), ExportTarget(), checkpoint)


def model_of(millions: float) -> Checkpoint:
    """A model of so many million parameters with the proportions of Llama 2."""
    demos = read_folder(demo.CHECKPOINT)
    shape = Shape(
        vocabulary=32_000, hidden=4096, intermediate=11_008, layers=32, heads=32, kv_heads=32, head_size=128,
        rotated=128, tied=False, attention=16_384,
    )  # fmt: skip
    weights = Weights({"all": Tensor("BF16", (int(millions * 1e6),), "model.safetensors")})
    return replace(demos, model=replace(demos.model, shape=shape), weights=weights)


BFLOAT16, FLOAT32 = QuantRecipe(data_type="bfloat16"), QuantRecipe(data_type="float32")


def test_too_little_disk_is_refused_with_what_every_stage_needs(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_disk(model_of(200), BFLOAT16, ExportTarget(), tmp_path)
    with pytest.raises(BuildError, match=r"MiB \(calibrate 1, quantize \d+, export \d+\): free some") as refused:
        check_disk(model_of(free / 1e6), BFLOAT16, ExportTarget(), tmp_path)
    assert "--models-dir" in str(refused.value)


def test_too_little_memory_is_refused_before_anything_is_loaded() -> None:
    free = available_memory()
    check_memory(model_of(100), replace(BFLOAT16, num_calib_data=1, seq_len=64))
    with pytest.raises(BuildError, match=r"quantizing needs about \d+ MiB of memory and \d+ MiB are free") as refused:
        check_memory(model_of(free / 5e4), FLOAT32)
    assert "--data-type bfloat16" in str(refused.value)
    with pytest.raises(BuildError) as refused:
        check_memory(model_of(free / 5e4), BFLOAT16)
    assert "--data-type" not in str(refused.value)


def test_memory_follows_a_layer_and_the_calibration_not_the_model() -> None:
    few, many = replace(BFLOAT16, num_calib_data=16), replace(BFLOAT16, num_calib_data=128)
    shallow, deep = model_of(3369), model_of(6738)
    deep_shape = deep.model.shape
    shallow = replace(shallow, model=replace(shallow.model, shape=replace(deep_shape, layers=16)))
    assert peak_memory(shallow, few) == pytest.approx(peak_memory(deep, few), rel=0.05)
    states = 112 * 512 * 4096 * 2  # of the tokens more, in 16 bits
    assert 2 * states < peak_memory(deep, many) - peak_memory(deep, few) < 3 * states
    assert peak_memory(deep, many) - peak_memory(deep, many, mapped=False) == (128 * 512 + 4096) * 4096 * 2
    assert peak_memory(deep, replace(many, data_type="float32")) < 8 << 30


def test_memory_depends_on_what_looks_at_the_calibration() -> None:
    deep = model_of(6738)
    fast, own, gptq, gptaq, none = (
        peak_memory(deep, replace(BFLOAT16, **knobs))
        for knobs in (
            {},
            {"awq_search": "quark"},
            {"quant_algo": "gptq"},
            {"quant_algo": "gptaq"},
            {"quant_algo": "none"},
        )
    )
    assert none < fast < gptq < gptaq < own
    assert gptaq < 9 << 30


def test_an_export_that_would_not_fit_is_refused_before_anything_is_quantized() -> None:
    shape = model_of(100).model.shape
    check_export_memory(replace(shape, vocabulary=1000, layers=2), 128, ExportTarget())
    tokens = available_memory() // (4 * shape.hidden)
    with pytest.raises(BuildError, match=r"exporting needs about \d+ MiB of memory and \d+ MiB are free"):
        check_export_memory(replace(shape, vocabulary=tokens), 128, ExportTarget())
    layers = 2 * shape.layers * available_memory() // verify_memory(shape, 128, ExportTarget()) + shape.layers
    with pytest.raises(BuildError, match=r"verification needs about \d+ MiB of memory and \d+ MiB are free"):
        check_export_memory(replace(shape, layers=layers), 128, ExportTarget())


def test_memory_of_an_export_follows_a_layer_and_the_vocabulary_and_not_the_number_of_layers() -> None:
    target, shape = ExportTarget(), model_of(100).model.shape
    needed = export_memory(shape, target)
    assert export_memory(replace(shape, layers=80), target) == needed
    assert export_memory(replace(shape, intermediate=2 * 11_008), target) > 1.5 * needed
    large = replace(shape, vocabulary=256_000)
    tables = 2 * 2 * 224_000 * 4096  # both are mapped in 16 bits
    assert export_memory(large, target) > needed + tables
    assert export_memory(large, target) > export_memory(large, ExportTarget(execution_provider="dml"))


def test_the_memory_of_a_real_export_is_what_was_estimated(stages: Stages) -> None:
    shape, target = read_folder(demo.CHECKPOINT).model.shape, ExportTarget()
    for stage, estimate in {
        "export": export_memory(shape, target),
        "verify": verify_memory(shape, 128, target),
    }.items():
        peak = stages.kept[stage].result["peak_memory"]
        assert 0.5 * estimate < peak < 1.1 * estimate, stage  # most of it are libraries, which differ


def test_disk_grows_with_what_stays_in_16_or_32_bits() -> None:
    eight, sixteen = (disk(model_of(7000), BFLOAT16, ExportTarget(lm_head_bits=bits)) for bits in (8, 16))
    assert eight["quantize"] == sixteen["quantize"]
    assert sixteen["export"] - eight["export"] == pytest.approx(2.9 * 32_000 * 4096)
    assert disk(model_of(7000), FLOAT32, ExportTarget())["quantize"] > eight["quantize"]
