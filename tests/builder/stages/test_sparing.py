"""What the model builder's loader is given. That the export is the same shows test_family_chain.py."""

import json
from pathlib import Path
from types import SimpleNamespace
from weakref import ref

import numpy as np
import onnx_ir
import pytest
from safetensors.numpy import save_file

from builder.checkpoint.checkpoint import Checkpoint, read_folder
from builder.stages.sparing import LoadedInTurn, load_tensors, move, parts_of


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """Of three layers in two files, with names that the model builder calls otherwise."""
    sizes = dict.fromkeys(("vocab_size", "hidden_size", "shared_intermediate_size", "num_attention_heads"), 16)
    config = {"model_type": "granitemoehybrid", "num_hidden_layers": 3, "layer_types": ["attention"] * 3, **sizes}
    config["position_embedding_type"] = "rope"
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "chat_template.jinja"):
        (tmp_path / name).write_text("{}")
    first = {f"model.layers.{n}.shared_mlp.output_linear.weight": np.full(3, n, np.float32) for n in (0, 1)}
    last = {"model.layers.2.input_layernorm.weight": np.full(3, 2, np.float32), "lm_head.weight": np.ones(2)}
    save_file({**first, "model.embed_tokens.weight": np.ones(4)}, tmp_path / "model-1.safetensors")
    save_file(last, tmp_path / "model-2.safetensors")
    return read_folder(tmp_path)


def test_a_layer_has_its_tensors_and_no_others_from_whichever_file(checkpoint: Checkpoint) -> None:
    parts = parts_of(checkpoint)
    found = {
        part: {name for file in ("model-1.safetensors", "model-2.safetensors") for name in parts[part, file]}
        for part in (None, 0, 1, 2)
    }
    assert found == {
        None: {"model.embed_tokens.weight", "lm_head.weight"},
        0: {"model.layers.0.shared_mlp.output_linear.weight"},
        1: {"model.layers.1.shared_mlp.output_linear.weight"},
        2: {"model.layers.2.input_layernorm.weight"},
    }
    assert sum(map(len, parts.values())) == len(checkpoint.weights.tensors)


def test_tensors_come_by_the_names_that_the_model_builder_knows(checkpoint: Checkpoint) -> None:
    file = checkpoint.path / "model-1.safetensors"
    loaded = load_tensors(file, parts_of(checkpoint)[1, file.name], checkpoint.model.family.tensor_names)
    assert {name: tensor.tolist() for name, tensor in loaded.items()} == {
        "model.layers.1.mlp.down_proj.weight": [1] * 3
    }
    assert load_tensors(file, parts_of(checkpoint)[2, file.name], ()) == {}


class Layer:
    """Can be watched until it is gone."""


def test_a_layer_is_loaded_in_its_turn_and_gone_when_the_next_but_one_is(checkpoint: Checkpoint) -> None:
    events: list[str] = []
    layers: list[ref[Layer]] = []

    def load(part: int | None) -> SimpleNamespace:
        events.append(f"load {part}")
        if part is None:
            return SimpleNamespace(embedding="embedding", final_norm="norm", lm_head="head", layers=[])
        layer = Layer()
        assert [number for number, other in enumerate(layers) if other()] == [part - 1] * (part > 0)
        layers.append(ref(layer))
        return SimpleNamespace(layers=[layer])

    loaded = LoadedInTurn(load, 4, lambda: events.append("move"))
    for module in loaded.modules():
        events.append("layer" if isinstance(module, Layer) else module)
    layer_events = [event for number in range(4) for event in (f"load {number}", "layer", "move")]
    assert events == ["load None", "embedding", "move", *layer_events, "norm", "head", "move"]


def test_what_moves_to_the_file_keeps_its_values_and_leaves_memory(tmp_path: Path) -> None:
    weights = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.linspace(0, 1, 5, dtype=np.float16)}
    made = []

    def initializer(name: str) -> onnx_ir.Value:
        def make() -> onnx_ir.Tensor:
            made.append(name)
            return onnx_ir.tensor(weights[name], name=name)

        array = weights[name]
        dtype = onnx_ir.DataType.from_numpy(array.dtype)
        tensor = onnx_ir.LazyTensor(make, dtype=dtype, shape=onnx_ir.Shape(array.shape), name=name)
        return onnx_ir.Value(name=name, const_value=tensor)

    graph = onnx_ir.Graph((), (), nodes=(), initializers=[initializer("a")])
    with (tmp_path / "moved").open("xb") as file:
        move(graph, file)
        graph.register_initializer(initializer("b"))
        move(graph, file)
        move(graph, file)
    assert made == ["a", "b"]
    assert (tmp_path / "moved").read_bytes() == weights["a"].tobytes() + weights["b"].tobytes()
    for name, array in weights.items():
        tensor = graph.initializers[name].const_value
        assert isinstance(tensor, onnx_ir.ExternalTensor) and tensor.name == name
        assert tensor.numpy().dtype == array.dtype and tensor.numpy().tolist() == array.tolist()
