"""Why some families are refused, asked of the libraries themselves: an upgrade that changes the answer fails here."""

import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from builder.checkpoint.refused import GEGLU, REFUSED

HIDDEN, EXPERTS, GROUP = 64, 4, 32


def experts(**attributes: Any) -> ort.InferenceSession:
    """A mixture of experts by itself, on the CPU: tokens [n, HIDDEN] and router scores [n, EXPERTS] in."""
    rng = np.random.default_rng(0)
    initializers = {
        "first": rng.integers(0, 256, (EXPERTS, 2 * HIDDEN, HIDDEN // 2), dtype=np.uint8),
        "first_scales": rng.uniform(0.02, 0.05, (EXPERTS, 2 * HIDDEN, HIDDEN // GROUP)).astype(np.float32),
        "second": rng.integers(0, 256, (EXPERTS, HIDDEN, HIDDEN // 2), dtype=np.uint8),
        "second_scales": rng.uniform(0.02, 0.05, (EXPERTS, HIDDEN, HIDDEN // GROUP)).astype(np.float32),
    }
    known = {"k": 2, "expert_weight_bits": 4, "block_size": GROUP, "swiglu_fusion": 1, "activation_type": "swiglu"}
    node = helper.make_node(
        "QMoE", ["x", "scores", "first", "first_scales", "", "second", "second_scales"], ["y"],
        domain="com.microsoft", **{**known, **attributes},
    )  # fmt: skip
    sizes = {"x": HIDDEN, "scores": EXPERTS, "y": HIDDEN}
    x, scores, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", size]) for n, size in sizes.items())
    weights = [numpy_helper.from_array(array, name) for name, array in initializers.items()]
    graph = helper.make_graph([node], "experts", [x, scores], [y], weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_experts_of_gemma_4_are_refused_by_the_operator() -> None:
    with pytest.raises(Exception, match="Unsupported MoE activation type: geglu"):
        experts(activation_type="geglu")
    assert "Unsupported MoE activation type" in GEGLU


def test_the_rule_by_which_phimoe_chooses_experts_is_passed_over_in_silence() -> None:
    rng = np.random.default_rng(1)
    given = {name: rng.normal(size=(9, size)).astype(np.float32) for name, size in (("x", HIDDEN), ("scores", EXPERTS))}
    plain, mixed = (experts(use_sparse_mixer=value).run(None, given)[0] for value in (0, 1))
    assert np.array_equal(plain, mixed) and plain.std() > 0.1
    assert "sparse mixer" in REFUSED["phimoe"].reason


@pytest.mark.parametrize("lacking", ["mamba", "embed_tokens_per_layer", "num_kv_shared_layers"])
def test_the_model_builder_has_no_layers_with_it(lacking: str) -> None:
    builders = Path(str(distribution("onnxruntime-genai").locate_file("onnxruntime_genai/models/builders")))
    assert not [file.name for file in builders.glob("*.py") if re.search(lacking, file.read_text(), re.IGNORECASE)]
