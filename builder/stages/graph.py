"""The graph that OGA's model builder wrote: what is mended in it, and whether it is what was asked for."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import StageFailed

if TYPE_CHECKING:
    from onnx import GraphProto

UNTOUCHED = 16  # lm_head_bits of an output layer that stays as it is

_LAYER = re.compile(r"/layers\.(\d+)/")
_DTYPES = {1: "float32", 10: "float16"}


def quantized_by_quark(job: Mapping[str, Any]) -> bool:
    """Whether the output layer came quantized."""
    return job.get("exclude_layers") in ([], ())


# What the model builder cannot be told


def mend_graph(path: Path, without_rope: Collection[int], embedding_scale: float | None) -> None:
    """Change the graph, not its weights, to what the model computes.

    without_rope: layers whose queries and keys are not rotated. embedding_scale: what embeddings are multiplied by; the
    model builder rounds it to two decimals.
    """
    import onnx

    if not without_rope and embedding_scale is None:
        return
    model = onnx.load(str(path), load_external_data=False)
    _remove_rope(model.graph, without_rope)
    if embedding_scale is not None:
        _scale_embedding(model.graph, embedding_scale)
    onnx.save(model, str(path))


def _remove_rope(graph: "GraphProto", layers: Collection[int]) -> None:
    """Either attention rotates by itself, or there are nodes before it that do."""
    bypassed: dict[str, str] = {}
    for node in list(graph.node):
        layer = _LAYER.search(node.name)
        if not layer or int(layer[1]) not in layers:
            continue
        if node.op_type == "RotaryEmbedding":
            bypassed[node.output[0]] = node.input[0]
            graph.node.remove(node)
        elif node.op_type == "GroupQueryAttention":
            for attribute in node.attribute:
                if attribute.name == "do_rotary":
                    attribute.i = 0
            for index in (7, 8):  # the cosines and sines
                if len(node.input) > index:
                    node.input[index] = ""
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = bypassed.get(name, name)


def _scale_embedding(graph: "GraphProto", scale: float) -> None:
    import onnx

    (multiply,) = (node for node in graph.node if node.name == "/model/embed_tokens/Mul")
    (constant,) = (node for node in graph.node if list(node.output) == [multiply.input[1]])
    value = constant.attribute[0].t
    exact = onnx.numpy_helper.to_array(value).copy()
    exact[...] = scale
    name = "/model/embed_tokens/scale"
    graph.initializer.append(onnx.numpy_helper.from_array(exact, name))
    multiply.input[1] = name


# What the model builder wrote


@dataclass(frozen=True, slots=True)
class QuantizedMatMul:
    """A kind of product with a weight matrix. bits: of the weights; UNTOUCHED where they are not quantized."""

    bits: int
    block_size: int
    accuracy_level: int
    zero_points: bool
    lm_head: bool
    activations: str = "float32"

    def __str__(self) -> str:
        kind = "lm_head" if self.lm_head else "linear"
        if self.bits == UNTOUCHED:
            return f"{kind}: not quantized, {self.activations} activations"
        zero = "asymmetric" if self.zero_points else "symmetric"
        return (
            f"{kind}: {self.bits} bits, group {self.block_size}, {zero}, accuracy level {self.accuracy_level}, "
            f"{self.activations} activations"
        )


def read_graph(path: Path) -> Counter[QuantizedMatMul]:
    """How many products with a weight matrix of each kind the graph has; weights are not read."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    types = {tensor.name: _DTYPES.get(tensor.data_type, str(tensor.data_type)) for tensor in graph.initializer}
    found: Counter[QuantizedMatMul] = Counter()
    for node in graph.node:
        head = "lm_head" in node.name
        if node.op_type == "MatMulNBits":
            values = {a.name: a.i for a in node.attribute}
            zero_points = len(node.input) > 3 and bool(node.input[3])
            kind = QuantizedMatMul(
                values["bits"], values["block_size"], values.get("accuracy_level", 0), zero_points, head,
                types.get(node.input[2], "unknown"),
            )  # fmt: skip
        elif node.op_type == "MatMul":
            kind = QuantizedMatMul(UNTOUCHED, 0, 0, False, head, types.get(node.input[1], "unknown"))
        else:
            continue
        found[kind] += 1
    return found


def check_graph(graph: Counter[QuantizedMatMul], job: Mapping[str, Any]) -> None:
    """Every decoder linear has the recipe's bits, group, zero points and accuracy level, and the head what it should.

    Raises StageFailed, naming what is there and what was asked for.
    """
    activations = "float32" if job["execution_provider"] == "cpu" else "float16"
    linears = [kind for kind in graph if not kind.lm_head]
    heads = [kind for kind in graph if kind.lm_head]
    level, group = job["accuracy_level"], job["group_size"]
    wanted = QuantizedMatMul(4, group, level, zero_points=True, lm_head=False, activations=activations)
    if linears != [wanted]:
        raise StageFailed(f"the export has [{'; '.join(map(str, linears))}] where the recipe asks for [{wanted}].")

    (head,) = heads if len(heads) == 1 else [None]
    if quantized_by_quark(job):
        head_wanted = QuantizedMatMul(4, group, level, zero_points=True, lm_head=True, activations=activations)
        fits = head == head_wanted
    else:
        bits = job["lm_head_bits"]
        level = 0 if bits == UNTOUCHED else level
        # The model builder itself chooses group and zero points.
        fits = head is not None and (head.bits, head.accuracy_level, head.activations) == (bits, level, activations)
        group, zero_points = (head.block_size, head.zero_points) if head else (32, False)
        head_wanted = QuantizedMatMul(bits, group, level, zero_points, lm_head=True, activations=activations)
    if not fits:
        raise StageFailed(
            f"the export's output layer is [{'; '.join(map(str, heads))}] where [{head_wanted}] was asked for."
        )
