"""What OGA's model builder is told, and how its graph is read back and checked."""

import re
from collections import Counter
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from builder.errors import StageFailed
from builder.export import QuantizedMatMul, builder_options, check_graph, read_graph
from builder.families import FAMILIES

JOB = {"group_size": 128, "accuracy_level": 4, "lm_head_bits": 8}
LINEAR = QuantizedMatMul(4, 128, 4, zero_points=True, lm_head=False)
HEAD = QuantizedMatMul(8, 128, 4, zero_points=True, lm_head=True)


@pytest.mark.parametrize("level", [1, 4])
def test_the_builder_is_told_the_accuracy_level(level: int) -> None:
    options = builder_options({"model_type": "llama"}, {**JOB, "accuracy_level": level})
    assert options["accuracy_level"] == str(level)


def test_an_output_layer_of_8_bits_is_asked_for_by_name_and_one_of_4_is_the_builders_own() -> None:
    eight = builder_options({"model_type": "llama"}, JOB)
    four = builder_options({"model_type": "llama"}, {**JOB, "lm_head_bits": 4})
    assert eight.pop("matmul_mixed_precision") == "last_matmul:int8"
    assert eight == four


def test_tied_embeddings_are_not_shared_in_the_graph() -> None:
    tied = builder_options({"model_type": "llama", "tie_word_embeddings": True}, JOB)
    assert tied["shared_embeddings"] == "false"
    for config in ({"model_type": "llama", "tie_word_embeddings": False}, {"model_type": "llama"}):
        assert "shared_embeddings" not in builder_options(config, JOB)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_family_brings_its_own_options(model_type: str) -> None:
    options = builder_options({"model_type": model_type}, JOB)
    assert dict(FAMILIES[model_type].builder_options).items() <= options.items()


def test_the_model_builder_knows_every_option() -> None:
    # It ignores options that it does not know, without a word.
    path = distribution("onnxruntime-genai").locate_file("onnxruntime_genai/models/builder.py")
    source = Path(str(path)).read_text(encoding="utf-8")
    options = builder_options({"model_type": "llama", "tie_word_embeddings": True}, JOB)
    assert len(options) == 3
    for option in options:
        assert re.search(rf"^ +{option} = ", source, re.MULTILINE), option


@pytest.mark.parametrize("heads", [8, 4])
def test_a_graph_as_the_recipe_asks_for_it_passes(heads: int) -> None:
    graph = Counter({LINEAR: 14, replace(HEAD, bits=heads): 1})
    check_graph(graph, {**JOB, "lm_head_bits": heads})


@pytest.mark.parametrize("fault", [{"bits": 8}, {"block_size": 32}, {"accuracy_level": 1}, {"zero_points": False}])
def test_a_linear_that_is_not_as_asked_for_is_refused_with_both(fault: dict[str, Any]) -> None:
    wrong = replace(LINEAR, **fault)
    with pytest.raises(StageFailed) as refused:
        check_graph(Counter({wrong: 14, HEAD: 1}), JOB)
    assert f"the export has [{wrong}] where the recipe asks for [{LINEAR}]" in str(refused.value)


def test_one_different_linear_among_many_is_refused() -> None:
    with pytest.raises(StageFailed, match="linear: 8 bits"):
        check_graph(Counter({LINEAR: 13, replace(LINEAR, bits=8): 1, HEAD: 1}), JOB)


def test_a_graph_with_nothing_quantized_is_refused() -> None:
    with pytest.raises(StageFailed, match=r"the export has \[\] where"):
        check_graph(Counter(), JOB)


@pytest.mark.parametrize("heads", [[], [replace(HEAD, bits=4)], [HEAD, replace(HEAD, bits=4)]])
def test_an_output_layer_that_is_not_as_asked_for_is_refused(heads: list[QuantizedMatMul]) -> None:
    with pytest.raises(StageFailed, match=r"output layer is .* where 8 bits were asked for"):
        check_graph(Counter([LINEAR, *heads]), JOB)


def matmul(name: str, *inputs: str, **attributes: int) -> onnx.NodeProto:
    """A MatMulNBits node."""
    return helper.make_node("MatMulNBits", inputs, [f"{name}/out"], name, domain="com.microsoft", **attributes)


def test_a_graph_is_read_without_its_weights(tmp_path: Path) -> None:
    body = {"K": 256, "N": 256, "bits": 4, "block_size": 128}
    nodes = [
        matmul("/model/layers.0/q_proj/MatMulNBits", "x", "w", "s", "z", accuracy_level=4, **body),
        matmul("/model/layers.1/q_proj/MatMulNBits", "x", "w", "s", "z", accuracy_level=4, **body),
        matmul("/model/layers.0/o_proj/MatMulNBits", "x", "w", "s", accuracy_level=4, **body),
        matmul("/model/layers.1/o_proj/MatMulNBits", "x", "w", "s", "", "", "bias", accuracy_level=4, **body),
        matmul("/model/layers.0/up_proj/MatMulNBits", "x", "w", "s", "z", **body),
        helper.make_node("MatMul", ["x", "f"], ["y"], "/model/layers.0/down_proj/MatMul"),
        matmul("/lm_head/MatMulNBits", "x", "w", "s", "z", accuracy_level=4, K=256, N=9, bits=8, block_size=32),
    ]
    weights = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[256, 2, 64])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="not-there.data")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 256]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "tiny", values[:1], values[1:], [weights])
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())

    symmetric = replace(LINEAR, zero_points=False)
    assert read_graph(tmp_path / "model.onnx") == Counter(
        {
            LINEAR: 2,
            symmetric: 2,
            replace(LINEAR, accuracy_level=0): 1,
            QuantizedMatMul(8, 32, 4, zero_points=True, lm_head=True): 1,
        }
    )
