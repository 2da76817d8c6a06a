"""The graph that the model builder wrote: what is mended in it, and how it is read back and checked."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from builder.errors import StageFailed
from builder.stages.graph import UNTOUCHED, QuantizedMatMul, bits_per_weight, check_graph, mend_graph, read_graph

JOB: dict[str, Any] = {"group_size": 128, "accuracy_level": 4, "lm_head_bits": 8, "execution_provider": "cpu"}
LINEAR = QuantizedMatMul(4, 128, 4, zero_points=True, lm_head=False)
HEAD = QuantizedMatMul(8, 32, 4, zero_points=True, lm_head=True)
FLOAT_HEAD = QuantizedMatMul(UNTOUCHED, 0, 0, zero_points=False, lm_head=True)
QUARK_HEAD = replace(LINEAR, lm_head=True)


# What is mended


def value(name: str) -> onnx.ValueInfoProto:
    """A value of a graph."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])


def save_graph(path: Path, nodes: list[onnx.NodeProto], initializers: list[TensorProto] | None = None) -> None:
    """A graph from "x" to "y"."""
    graph = helper.make_graph(nodes, "tiny", [value("x")], [value("y")], initializers or [])
    path.write_bytes(helper.make_model(graph).SerializeToString())


def attention(layer: int, *inputs: str) -> onnx.NodeProto:
    """An attention node that rotates by itself."""
    name = f"/model/layers.{layer}/attn/GroupQueryAttention"
    return helper.make_node("GroupQueryAttention", inputs, [f"o{layer}"], name, domain="com.microsoft", do_rotary=1)


def test_attention_without_rotation_has_neither_the_attribute_nor_the_caches(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    inputs = ("x", "", "", "past_k", "past_v", "seqlens", "total", "cos_cache", "sin_cache", "", "")
    save_graph(path, [attention(0, *inputs), attention(1, *inputs)])
    mend_graph(path, without_rope=[1], embedding_scale=None)
    rotated, plain = onnx.load(str(path)).graph.node
    assert (rotated.attribute[0].i, list(rotated.input)) == (1, list(inputs))
    assert plain.attribute[0].i == 0
    assert list(plain.input) == [*inputs[:7], "", "", "", ""]


def test_rotations_before_attention_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    nodes = [
        helper.make_node("RotaryEmbedding", [f"q{i}", "ids"], [f"r{i}"], f"/model/layers.{i}/attn/q_rotary/Rotary")
        for i in (0, 1)
    ]
    nodes += [helper.make_node("Attend", [f"r{i}"], [f"o{i}"], f"/model/layers.{i}/attn/Attend") for i in (0, 1)]
    save_graph(path, nodes)
    mend_graph(path, without_rope=[1], embedding_scale=None)
    left = onnx.load(str(path)).graph.node
    assert [(node.op_type, node.input[0]) for node in left] == [
        ("RotaryEmbedding", "q0"), ("Attend", "r0"), ("Attend", "q1"),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_scale_of_embeddings_is_exact_and_of_the_graphs_type(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "model.onnx"
    constant = numpy_helper.from_array(np.array(11.31, dtype))
    nodes = [
        helper.make_node("Constant", [], ["c"], "/model/constant_nodes/11.31", value=constant),
        helper.make_node("Mul", ["x", "c"], ["scaled"], "/model/embed_tokens/Mul"),
        helper.make_node("Mul", ["scaled", "c"], ["y"], "/model/elsewhere/Mul"),
    ]
    save_graph(path, nodes)
    mend_graph(path, without_rope=[], embedding_scale=128**0.5)
    graph = onnx.load(str(path)).graph
    (scale,) = graph.initializer
    assert numpy_helper.to_array(scale) == np.array(128**0.5, dtype)
    assert [node.input[1] for node in graph.node if node.op_type == "Mul"] == [scale.name, "c"]


@pytest.mark.parametrize("packed", [True, False])
def test_queries_are_scaled_and_not_their_products_with_keys(tmp_path: Path, packed: bool) -> None:
    """Four heads of queries and two of keys, of 16 channels; in one tensor, or in three."""
    rng, path, shape = np.random.default_rng(0), tmp_path / "model.onnx", ["batch", 2, "past", 16]
    fed = {name: rng.normal(size=(1, 5, width)).astype(np.float32) for name, width in (("q", 64), ("k", 32), ("v", 32))}
    if packed:
        fed = {"q": np.concatenate(list(fed.values()), axis=-1)}
    floats = {name: ["batch", "tokens", array.shape[-1]] for name, array in fed.items()}
    floats |= {name: shape for name in ("past_k", "past_v")}
    nodes = [
        helper.make_node("Identity", ["q"], ["queries"]),
        helper.make_node(
            "GroupQueryAttention", ["queries", *(["k", "v"] if "k" in fed else ["", ""]), "past_k", "past_v", "s", "n"],
            ["y", "new_k", "new_v"], "/model/layers.0/attn/GroupQueryAttention", domain="com.microsoft", num_heads=4,
            kv_num_heads=2, scale=0.3, softcap=2.0,
        ),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in floats.items()]
        + [helper.make_tensor_value_info(n, TensorProto.INT32, d) for n, d in (("s", ["batch"]), ("n", []))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", 64])],
        value_info=[
            helper.make_tensor_value_info("queries", TensorProto.FLOAT, floats["q"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "tokens", 64]),
        ],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    fed |= {name: np.zeros((1, 2, 0, 16), np.float32) for name in ("past_k", "past_v")}
    fed |= {"s": np.array([4], np.int32), "n": np.array(5, np.int32)}

    def computed() -> Any:
        return InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["y"], fed)[0]

    before = computed()
    mend_graph(path, without_rope=(), embedding_scale=None, scaled_queries=True)
    _, multiply, attention = onnx.load(str(path)).graph.node
    assert (multiply.op_type, attention.input[0]) == ("Mul", multiply.output[0])
    assert [each.f for each in attention.attribute if each.name == "scale"] == [1.0]
    np.testing.assert_allclose(computed(), before, rtol=1e-5, atol=1e-6)


def test_a_graph_that_is_right_is_not_written_again(tmp_path: Path) -> None:
    mend_graph(tmp_path / "not-there.onnx", without_rope=(), embedding_scale=None)


# What it wrote


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        (HEAD, {"lm_head_bits": 8}),
        (replace(HEAD, bits=4, zero_points=False), {"lm_head_bits": 4}),
        (FLOAT_HEAD, {"lm_head_bits": UNTOUCHED}),
        (QUARK_HEAD, {"lm_head_bits": 8, "exclude_layers": []}),
    ],
)
def test_a_graph_as_it_was_asked_for_passes(head: QuantizedMatMul, asked: dict[str, Any]) -> None:
    check_graph(Counter({LINEAR: 14, head: 1}), {**JOB, **asked})


@pytest.mark.parametrize("provider", ["dml", "cuda", "webgpu"])
def test_other_providers_than_the_cpu_have_float16_activations(provider: str) -> None:
    halves = Counter({replace(LINEAR, activations="float16"): 14, replace(HEAD, activations="float16"): 1})
    check_graph(halves, {**JOB, "execution_provider": provider})
    with pytest.raises(StageFailed, match=r"float16 activations\] where the recipe asks for .*float32 activations"):
        check_graph(halves, JOB)
    with pytest.raises(StageFailed, match=r"output layer is .*float32.* where .*float16 activations\] was asked for"):
        check_graph(Counter({replace(LINEAR, activations="float16"): 1, HEAD: 1}), {**JOB, "execution_provider": "dml"})


@pytest.mark.parametrize(
    "fault",
    [{"bits": 8}, {"bits": UNTOUCHED}, {"block_size": 32}, {"accuracy_level": 1}, {"zero_points": False}],
)
def test_a_linear_that_is_not_as_asked_for_is_refused_with_both(fault: dict[str, Any]) -> None:
    wrong = replace(LINEAR, **fault)
    with pytest.raises(StageFailed) as refused:
        check_graph(Counter({wrong: 14, HEAD: 1}), JOB)
    assert f"the export has [{wrong}] where the recipe asks for [{LINEAR}]" in str(refused.value)


def test_one_different_linear_among_many_is_refused() -> None:
    with pytest.raises(StageFailed, match="linear: not quantized"):
        check_graph(Counter({LINEAR: 13, replace(LINEAR, bits=UNTOUCHED): 1, HEAD: 1}), JOB)


def test_a_graph_with_nothing_quantized_is_refused() -> None:
    with pytest.raises(StageFailed, match=r"the export has \[\] where"):
        check_graph(Counter(), JOB)


EIGHT = replace(LINEAR, bits=8)


def test_so_many_linears_of_8_bits_as_the_checkpoint_has_pass() -> None:
    check_graph(Counter({LINEAR: 12, EIGHT: 2, HEAD: 1}), JOB, eight_bits=2)


@pytest.mark.parametrize(
    "linears", [{LINEAR: 13, EIGHT: 1}, {LINEAR: 14}, {EIGHT: 2}, {LINEAR: 12, replace(EIGHT, accuracy_level=1): 2}]
)
def test_other_than_the_linears_of_8_bits_that_the_checkpoint_has_is_refused(
    linears: dict[QuantizedMatMul, int],
) -> None:
    with pytest.raises(StageFailed, match=r"where the recipe asks for .*4 bits.*; 2 times linear: 8 bits"):
        check_graph(Counter({**linears, HEAD: 1}), JOB, eight_bits=2)


@pytest.mark.parametrize(
    "heads",
    [[], [replace(HEAD, bits=4)], [HEAD, replace(HEAD, bits=4)], [replace(HEAD, accuracy_level=1)], [FLOAT_HEAD]],
)
def test_an_output_layer_that_is_not_as_asked_for_is_refused(heads: list[QuantizedMatMul]) -> None:
    with pytest.raises(StageFailed, match=r"output layer is .* where \[lm_head: 8 bits.* was asked for"):
        check_graph(Counter([LINEAR, *heads]), JOB)


def test_an_output_layer_that_was_to_stay_and_is_quantized_is_refused() -> None:
    with pytest.raises(StageFailed, match=r"8 bits.* where \[lm_head: not quantized, float32 activations\] was asked"):
        check_graph(Counter([LINEAR, HEAD]), {**JOB, "lm_head_bits": UNTOUCHED})


@pytest.mark.parametrize("fault", [{"bits": 8}, {"block_size": 32}, {"accuracy_level": 1}, {"zero_points": False}])
def test_an_output_layer_that_quark_quantized_must_be_as_the_linears(fault: dict[str, Any]) -> None:
    wrong = replace(QUARK_HEAD, **fault)
    with pytest.raises(StageFailed) as refused:
        check_graph(Counter([LINEAR, wrong]), {**JOB, "exclude_layers": []})
    assert f"output layer is [{wrong}] where [{QUARK_HEAD}] was asked for" in str(refused.value)


def matmul(name: str, *inputs: str, **attributes: int) -> onnx.NodeProto:
    """A MatMulNBits node."""
    return helper.make_node("MatMulNBits", inputs, [f"{name}/out"], name, domain="com.microsoft", **attributes)


def test_bits_of_a_weight_are_those_of_all_with_their_scales_and_zero_points(tmp_path: Path) -> None:
    nodes = [
        matmul("/model/layers.0/q_proj/MatMulNBits", "x", "w", "s", "z", K=256, N=96, bits=4, block_size=128),
        matmul("/model/layers.0/v_proj/MatMulNBits", "x", "w", "half", K=256, N=32, bits=8, block_size=64),
        matmul("/lm_head/MatMulNBits", "x", "w", "s", "z", K=256, N=999, bits=8, block_size=32),
    ]
    types = {"s": TensorProto.FLOAT, "half": TensorProto.FLOAT16}
    save_graph(tmp_path / "model.onnx", nodes, [TensorProto(name=name, data_type=kind) for name, kind in types.items()])
    expected = 0.75 * (4 + (32 + 4) / 128) + 0.25 * (8 + 16 / 64)
    assert bits_per_weight(tmp_path / "model.onnx") == pytest.approx(expected)
    save_graph(tmp_path / "model.onnx", nodes[2:])
    assert math.isnan(bits_per_weight(tmp_path / "model.onnx"))


def test_a_graph_is_read_without_its_weights(tmp_path: Path) -> None:
    body = {"K": 256, "N": 256, "bits": 4, "block_size": 128}
    nodes = [
        matmul("/model/layers.0/q_proj/MatMulNBits", "x", "w", "s", "z", accuracy_level=4, **body),
        matmul("/model/layers.1/q_proj/MatMulNBits", "x", "w", "s", "z", accuracy_level=4, **body),
        matmul("/model/layers.0/o_proj/MatMulNBits", "x", "w", "s", accuracy_level=4, **body),
        matmul("/model/layers.1/o_proj/MatMulNBits", "x", "w", "s", "", "", "bias", accuracy_level=4, **body),
        matmul("/model/layers.0/up_proj/MatMulNBits", "x", "w", "s", "z", **body),
        matmul("/model/layers.1/up_proj/MatMulNBits", "x", "w", "half", "z", accuracy_level=4, **body),
        helper.make_node("MatMul", ["x", "f"], ["y"], "/model/layers.0/down_proj/MatMul"),
        matmul("/lm_head/MatMulNBits", "x", "w", "s", "z", accuracy_level=4, K=256, N=9, bits=8, block_size=32),
        helper.make_node("MatMul", ["x", "half"], ["y"], "/lm_head/MatMul"),
    ]
    types = {"w": TensorProto.UINT8, "s": TensorProto.FLOAT, "f": TensorProto.FLOAT, "half": TensorProto.FLOAT16}
    weights = [TensorProto(name=name, data_type=kind, dims=[256, 2, 64]) for name, kind in types.items()]
    for tensor in weights:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="not-there.data")
    save_graph(tmp_path / "model.onnx", nodes, weights)

    assert read_graph(tmp_path / "model.onnx") == Counter(
        {
            LINEAR: 2,
            replace(LINEAR, zero_points=False): 2,
            replace(LINEAR, accuracy_level=0): 1,
            replace(LINEAR, activations="float16"): 1,
            replace(FLOAT_HEAD, lm_head=False): 1,
            HEAD: 1,
            replace(FLOAT_HEAD, activations="float16"): 1,
        }
    )
