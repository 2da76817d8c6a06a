"""What OGA's model builder is given and told, and what is mended beside its graph."""

import json
import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from builder.checkpoint.checkpoint import read_folder
from builder.stages.export import builder_options, mend_settings, stage_copy
from builder.stages.graph import UNTOUCHED

JOB: dict[str, Any] = {"group_size": 128, "accuracy_level": 4, "lm_head_bits": 8, "execution_provider": "cpu"}


# What the model builder is told


@pytest.mark.parametrize("level", [1, 4])
def test_the_builder_is_told_the_accuracy_level(level: int) -> None:
    assert builder_options({**JOB, "accuracy_level": level})["accuracy_level"] == str(level)


def test_an_output_layer_is_asked_for_by_name_unless_it_is_the_builders_own_or_quarks() -> None:
    own = builder_options({**JOB, "lm_head_bits": 4})
    assert builder_options({**JOB, "lm_head_bits": 4}, eight_bits=1) == {**own, "fuse_qkv": "false"}
    assert builder_options(JOB) == {**own, "matmul_mixed_precision": "last_matmul:int8"}
    assert builder_options({**JOB, "lm_head_bits": UNTOUCHED}) == {**own, "nodes_to_exclude": "/lm_head/MatMul"}
    for bits in (4, 8, UNTOUCHED):
        for nothing in ([], ()):
            assert builder_options({**JOB, "lm_head_bits": bits, "exclude_layers": nothing}) == own
    assert builder_options({**JOB, "exclude_layers": ["lm_head"]}) == builder_options(JOB)


@pytest.mark.parametrize("bits", [8, UNTOUCHED])
def test_the_model_builder_knows_every_option(bits: int) -> None:
    # It ignores options that it does not know, without a word.
    path = distribution("onnxruntime-genai").locate_file("onnxruntime_genai/models/builder.py")
    source = Path(str(path)).read_text(encoding="utf-8")
    options = builder_options({**JOB, "lm_head_bits": bits})
    assert len(options) == 5
    for option in options:
        assert re.search(rf"^ +{option} = ", source, re.MULTILINE), option


# What it is given


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """The files of a quantized checkpoint."""
    folder = tmp_path / "quantized"
    folder.mkdir()
    sizes = dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads"), 16)
    config = {"model_type": "mistral", "num_hidden_layers": 1, "sliding_window": 9, **sizes}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "chat_template.jinja"):
        (folder / name).write_text("{}")
    save_file({"lm_head.weight": np.zeros(2, np.float32)}, folder / "model.safetensors")
    return folder


def staged(quantized: Path, **config: Any) -> Path:
    """The copy that is made of it, once its configuration is changed."""
    (quantized / "config.json").write_text(json.dumps({**json.loads(text(quantized)), **config}))
    return stage_copy(read_folder(quantized), quantized.parent / "copy")


def text(folder: Path) -> str:
    return (folder / "config.json").read_text()


def test_the_copy_says_what_the_builder_must_be_told_and_the_checkpoint_stays_as_it_is(quantized: Path) -> None:
    before = text(quantized)
    copy = staged(quantized)
    assert json.loads(text(copy))["layer_types"] == ["sliding_attention"]
    assert text(quantized) == before
    assert {file.name for file in copy.iterdir()} == {file.name for file in quantized.iterdir()}


def test_weights_that_need_no_change_are_not_copied(quantized: Path) -> None:
    copy = staged(quantized)
    assert (copy / "model.safetensors").samefile(quantized / "model.safetensors")


def test_weights_are_copied_where_there_are_no_hard_links(quantized: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr("os.link", refuse)
    copy = staged(quantized) / "model.safetensors"
    assert not copy.samefile(quantized / "model.safetensors")
    assert copy.read_bytes() == (quantized / "model.safetensors").read_bytes()


# What is mended


@pytest.mark.parametrize(
    ("limit", "turn", "served", "room"),
    [
        (None, None, 131_072, 131_072),
        (4096, None, 4096, 4096),
        (262_144, None, 131_072, 131_072),
        (None, 4096, 131_072, 4096),
    ],
)
def test_the_context_is_never_longer_than_either_limit(
    tmp_path: Path, limit: int | None, turn: int | None, served: int, room: int
) -> None:
    file = tmp_path / "genai_config.json"
    written = {"model": {"context_length": 131_072, "type": "phi3"}, "search": {"max_length": 131_072, "top_k": 1}}
    file.write_text(json.dumps(written))
    mend_settings(file, limit, turn, {"pad_token_id": -1})
    expected = {
        "model": {"context_length": served, "type": "phi3", "pad_token_id": -1},
        "search": {"max_length": room, "top_k": 1},
    }  # fmt: skip
    assert json.loads(file.read_text()) == expected
