"""A checkpoint becomes one value: what it holds of each kind, and that each of its files is read once."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from builder import demo, launch
from builder.checkpoint import weights
from builder.checkpoint.checkpoint import Checkpoint, read_folder, read_settings
from builder.checkpoint.model import Model, Shape
from builder.checkpoint.preflight import check
from builder.checkpoint.source import parse_source
from builder.checkpoint.text_part import text_config, text_name
from builder.checkpoint.tokenizer import read_tokenizer
from builder.checkpoint.weights import Tensor, read_weights
from builder.errors import SourceError
from builder.recipe import ExportTarget, QuantRecipe
from builder.stages.calibration import make_blocks


def test_the_demo_is_what_its_files_say() -> None:
    found = read_folder(demo.CHECKPOINT)
    assert found.model.shape == Shape(
        vocabulary=1856, hidden=256, intermediate=768, layers=7, heads=4, kv_heads=2, head_size=64, rotated=64,
        tied=True, attention=768,
    )  # fmt: skip
    assert (found.model.model_type, found.model.positions, found.model.rope["rope_type"]) == ("llama", 2048, "default")
    assert found.weights.parameters == 5_984_000
    assert found.weights.tensors["model.norm.weight"] == Tensor("F16", (256,), "model.safetensors")
    assert found.tokenizer.kind == "fast"
    assert found.tokenizer.template == (demo.CHECKPOINT / "chat_template.jinja").read_text(encoding="utf-8")
    assert found.tokenizer.special_tokens["eos_token"] == "<|im_end|>"
    assert found.quantization is None


def test_settings_are_read_without_the_weights(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).write_bytes((demo.CHECKPOINT / name).read_bytes())
    assert read_settings(tmp_path).model == read_folder(demo.CHECKPOINT).model
    with pytest.raises(SourceError, match=r"has no \*\.safetensors weights"):
        read_folder(tmp_path)


def test_before_it_computes_a_build_reads_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    text, header = Path.read_text, weights.safe_open

    def counted_text(path: Path, *options: Any, **more: Any) -> str:
        read[path.name] += 1
        return text(path, *options, **more)

    def counted_header(path: Path, **options: Any) -> Any:
        read[path.name] += 1
        return header(path, **options)

    monkeypatch.setattr(Path, "read_text", counted_text)
    monkeypatch.setattr(weights, "safe_open", counted_header)
    recipe = QuantRecipe(dataset="demo", num_calib_data=1, seq_len=16)
    fetched = launch.fetch(parse_source("demo"), recipe)
    for better in (recipe, replace(recipe, group_size=32)):
        check(fetched.checkpoint, better, ExportTarget(), tmp_path)
    make_blocks(fetched.checkpoint, recipe)
    names = ("config.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors")
    assert {name: read[name] for name in names} == dict.fromkeys(names, 1)


def test_a_folder_that_is_no_checkpoint_says_what_would_be_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="name the repository with the original weights"):
        read_settings(tmp_path)
    for name in ("genai_config.json", "config.json", "model.onnx"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(SourceError, match="is an export already: serve it with"):
        read_settings(tmp_path)


def test_a_chat_template_that_is_not_utf8_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(SourceError, match=r"chat_template\.jinja cannot be read"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("kind", "files"), [("fast", "tokenizer.json tokenizer.model"), ("sentencepiece", "tokenizer.model"), ("none", "")]
)
def test_a_tokenizer_is_told_by_its_files(tmp_path: Path, kind: str, files: str) -> None:
    for name in files.split():
        (tmp_path / name).write_text("{}")
    assert read_tokenizer(tmp_path).kind == kind


SIZES: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 2,
    "num_attention_heads": 8,
}  # fmt: skip


def test_what_a_configuration_leaves_out_follows_from_the_rest() -> None:
    sparse = Model.of(SIZES)
    assert (sparse.shape.kv_heads, sparse.shape.head_size, sparse.shape.rotated) == (8, 32, 32)
    assert (sparse.positions, sparse.trained_positions, sparse.part_of) == (None, None, "")
    rope = {"partial_rotary_factor": 0.5, "original_max_position_embeddings": 4096}
    told = {"num_key_value_heads": 2, "head_dim": 64, "rope_parameters": rope, "max_position_embeddings": 32_768}
    full = Model.of({**SIZES, **told})
    assert (full.shape.kv_heads, full.shape.head_size, full.shape.rotated) == (2, 64, 32)
    assert (full.positions, full.trained_positions) == (32_768, 4096)


def write_tensors(file: Path, **sizes: int) -> None:
    """A safetensors file of zeros: so many values of each dtype."""
    width = {"F32": 4, "F16": 2, "BF16": 2}
    header: dict[str, Any] = {}
    end = 0
    for dtype, size in sizes.items():
        start, end = end, end + size * width[dtype]
        header[f"{dtype.lower()}.{file.stem}"] = {"dtype": dtype, "shape": [size], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def test_a_small_model_is_computed_in_float32_and_a_large_one_as_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tensors(tmp_path / "model-1.safetensors", BF16=60, F32=30)
    write_tensors(tmp_path / "model-2.safetensors", F16=40)
    monkeypatch.setattr(weights, "multiplies_16_bits", lambda: True)
    assert read_weights(tmp_path).loaded_type("auto") == "float32"
    assert read_weights(tmp_path).loaded_type("float16") == "float16"
    monkeypatch.setattr(weights, "SMALL_MODEL", 130)
    assert read_weights(tmp_path).loaded_type("auto") == "bfloat16"
    write_tensors(tmp_path / "model-3.safetensors", F16=30)
    assert read_weights(tmp_path).loaded_type("auto") == "float16"
    monkeypatch.setattr(weights, "multiplies_16_bits", lambda: False)
    assert read_weights(tmp_path).loaded_type("auto") == "float32", "an old processor emulates 16 bits"


def test_of_a_larger_model_only_the_tensors_of_the_language_model_count(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", BF16=60, F32=30)
    of_text = read_weights(tmp_path, lambda name: name.startswith("bf"))
    assert (read_weights(tmp_path).parameters, of_text.parameters) == (90, 60)


@pytest.mark.parametrize(
    ("stored", "own"),
    [
        ("language_model.model.layers.3.self_attn.q_proj.weight", "model.layers.3.self_attn.q_proj.weight"),
        ("model.language_model.layers.3.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"),
        ("model.text_model.embed_tokens.weight", "model.embed_tokens.weight"),
        ("model.layers.3.input_layernorm.weight", "model.layers.3.input_layernorm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("lm_head.weight", "lm_head.weight"),
        ("vision_tower.vision_model.encoder.layers.3.mlp.fc1.weight", None),
        ("model.vision_tower.transformer.layers.3.attention.q_proj.weight", None),
        ("visual.blocks.3.attn.qkv.weight", None),
        ("model.visual.merger.norm.weight", None),
        ("multi_modal_projector.linear_1.weight", None),
        ("model.connector.modality_projection.proj.weight", None),
    ],
)
def test_tensors_of_the_text_part_are_told_by_every_generation_of_names(stored: str, own: str | None) -> None:
    assert text_name(stored) == own


def of_whole(folder: Path, head: bool, **whole: Any) -> Checkpoint:
    """A checkpoint of a model that also sees, with an output layer in its weights or without."""
    names = {"embed": "language_model.model.embed_tokens.weight", "eyes": "vision_tower.layers.0.weight"}
    names |= {"head": "language_model.lm_head.weight"} if head else {}
    save_file({name: np.zeros(4, np.float32) for name in names.values()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral3", **whole}))
    return read_folder(folder)


@pytest.mark.parametrize("head", [True, False])
def test_whether_a_text_part_shares_its_embeddings_is_told_by_the_weights(tmp_path: Path, head: bool) -> None:
    """The configurations disagree: what transformers takes for granted of the whole is not what the text part says."""
    found = of_whole(tmp_path, head, tie_word_embeddings=head, text_config={**SIZES, "tie_word_embeddings": head})
    assert found.model.shape.tied is not head
    assert found.weights.parameters == (8 if head else 4), "of the text part"


def test_what_is_not_supported_of_a_model_that_also_sees_is_said(tmp_path: Path) -> None:
    found = of_whole(tmp_path, head=False, text_config=SIZES)
    assert found.model.model_type == "llama"
    assert found.model.note == "images are not supported: the text part of mistral3 is served."
    assert Model.of(SIZES).note == ""


def test_what_makers_leave_out_of_a_text_part_is_what_transformers_takes_for_granted() -> None:
    from transformers import AutoConfig

    for model_type in ("gemma3_text", "llama", "mistral"):
        own = AutoConfig.for_model(model_type)
        found = text_config({"model_type": "gemma3", "text_config": {"model_type": model_type}})
        assert {name: getattr(own, name) for name in found if name != "tie_word_embeddings"} == {
            name: value for name, value in found.items() if name != "tie_word_embeddings"
        }


def test_positions_in_an_image_are_left_out_of_the_rotation() -> None:
    rope = {"type": "mrope", "mrope_section": [16, 24, 24]}
    flat = {**SIZES, "model_type": "qwen2_5_vl", "rope_theta": 1e6, "rope_scaling": rope, "vision_config": {"depth": 2}}
    model = Model.of(flat)
    assert (model.model_type, model.rope["rope_type"]) == ("qwen2", "default")
    assert not {"vision_config"} & set(text_config(flat)) and "mrope_section" not in model.rope
