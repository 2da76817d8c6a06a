"""The graph that OGA's model builder wrote: what is mended in it, and whether it is what was asked for."""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import StageFailed

if TYPE_CHECKING:
    from onnx import GraphProto

UNTOUCHED = 16  # lm_head_bits of an output layer, and embedding_bits of embeddings, that stay as they are

_LAYER = re.compile(r"/layers\.(\d+)/")
_GATE = re.compile(r"/linear_attn/[ab]_proj/|/moe/router/|/shared_expert_gate/")  # which no recipe quantizes
_LOOKUP = re.compile(r"/model/embed_tokens/Gather")
_DTYPES = {1: "float32", 10: "float16"}


def quantized_by_quark(job: Mapping[str, Any]) -> bool:
    """Whether the output layer came quantized."""
    return job.get("exclude_layers") in ([], ())


# What the model builder cannot be told


def mend_graph(
    path: Path,
    without_rope: Collection[int],
    embedding_scale: float | None,
    linear_attention: bool = False,
    turns: bool = False,
    scaled_queries: bool = False,
) -> None:
    """Change the graph, not its weights, to what the model computes, and let it be whole.

    without_rope: layers whose queries and keys are not rotated. embedding_scale: what embeddings are multiplied by; the
    model builder rounds it to two decimals. linear_attention: there is some, which asks for its products by the names
    that they have where they are rounded later. turns: it has two tables of rotations, of which the tokens that there
    are decide for one. From then on it is the tokens that there is room for: those in a KV cache must have been rotated
    by the same table. scaled_queries: queries are scaled before attention, and not their products with the keys: those
    of one query and all keys are then computed without a copy of the keys (as of ONNX Runtime 1.32, on x86).
    """
    import onnx

    if not (without_rope or embedding_scale is not None or linear_attention or turns or scaled_queries):
        return
    model = onnx.load(str(path), load_external_data=False)
    if linear_attention:
        _connect(model.graph)
    if turns:
        _decide_by_room(model.graph)
    _remove_rope(model.graph, without_rope)
    if embedding_scale is not None:
        _scale_embedding(model.graph, embedding_scale)
    if scaled_queries:
        _scale_queries(model.graph)
    onnx.save(model, str(path))


def _connect(graph: "GraphProto") -> None:
    """Give what asks for a product that is nowhere the quantized one of that name."""
    made = {name for node in graph.node for name in node.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            quantized = name.replace("/MatMul/", "/MatMulNBits/")
            if name not in made and quantized in made:
                node.input[index] = quantized


def _decide_by_room(graph: "GraphProto") -> None:
    import onnx

    (index,) = (n for n, node in enumerate(graph.node) if node.name == "/model/rope_caches_subgraph/Greater")
    name = "/model/rope_caches_subgraph/Shape"
    room = onnx.helper.make_node("Shape", ["past_key_values.0.key"], [f"{name}/output_0"], name, start=2, end=3)
    graph.node[index].input[0] = f"{name}/output_0"
    graph.node.insert(index, room)


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


def _scale_queries(graph: "GraphProto") -> None:
    """A rotation and a limit on the products (softcap) let the factor through."""
    import numpy as np
    import onnx

    widths = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in graph.value_info
        if value.type.tensor_type.shape.dim
    }
    known: set[str] = set()
    for index, node in reversed(list(enumerate(graph.node))):
        if node.op_type != "GroupQueryAttention":
            continue
        values = {attribute.name: attribute for attribute in node.attribute}
        queries, scale = widths[node.output[0]], values["scale"].f
        others = 0 if node.input[1] else widths[node.input[0]] - queries  # keys and values, where one tensor has all
        name = f"/model/constants/query_scale/{queries}_{others}_{scale:g}"
        if name not in known:
            factors = np.repeat(np.array([scale, 1], np.float32), [queries, others])
            graph.initializer.append(onnx.numpy_helper.from_array(factors, name))
            known.add(name)
        scaled = f"{node.name}/scale_queries"
        multiply = onnx.helper.make_node("Mul", [node.input[0], name], [f"{scaled}/output_0"], scaled)
        node.input[0], values["scale"].f = multiply.output[0], 1.0
        graph.node.insert(index, multiply)


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
    """How many products with a weight matrix of each kind the graph has, gates left out; weights are not read.

    All experts of a layer count as one.
    """
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
        elif node.op_type == "QMoE":
            values = {a.name: a.i for a in node.attribute}
            kind = QuantizedMatMul(
                values["expert_weight_bits"], values["block_size"], values["accuracy_level"],
                all(node.input[11:13]), False, types.get(node.input[3], "unknown"),
            )  # fmt: skip
        elif node.op_type == "MatMul" and not _GATE.search(node.name):
            kind = QuantizedMatMul(UNTOUCHED, 0, 0, False, head, types.get(node.input[1], "unknown"))
        else:
            continue
        found[kind] += 1
    return found


def bits_per_weight(path: Path) -> float:
    """Of the decoder's quantized weights, each with its share of a scale and a zero point; NaN where there are none."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    halves = {tensor.name for tensor in graph.initializer if _DTYPES.get(tensor.data_type) == "float16"}
    bits = weights = 0.0
    for node in graph.node:
        if node.op_type != "MatMulNBits" or "lm_head" in node.name:
            continue
        values = {a.name: a.i for a in node.attribute}
        each = (16 if node.input[2] in halves else 32) + (values["bits"] if len(node.input) > 3 else 0)
        size = values["K"] * values["N"]
        weights += size
        bits += size * (values["bits"] + each / values["block_size"])
    return bits / weights if weights else math.nan


def check_embeddings(path: Path, bits: int) -> None:
    """The graph looks embeddings up in a table of so many bits. Raises StageFailed."""
    import onnx

    nodes = [node for node in onnx.load(str(path), load_external_data=False).graph.node if _LOOKUP.match(node.name)]
    found = [{a.name: a.i for a in node.attribute}.get("bits", UNTOUCHED) for node in nodes]
    if found != [bits]:
        raise StageFailed(
            f"the export looks embeddings up in tables of {found} bits where one of {bits} was asked for."
        )


def check_graph(graph: Counter[QuantizedMatMul], job: Mapping[str, Any], eight_bits: int = 0) -> None:
    """Every decoder linear has the recipe's bits, group, zero points and accuracy level, and the head what it should.

    eight_bits: linears that have so many instead of four. Raises StageFailed, naming what is there and what was asked
    for.
    """
    activations = "float32" if job["execution_provider"] == "cpu" else "float16"
    heads = [kind for kind in graph if kind.lm_head]
    level, group = job["accuracy_level"], job["group_size"]
    wanted = QuantizedMatMul(4, group, level, zero_points=True, lm_head=False, activations=activations)
    more = replace(wanted, bits=8)
    others = {kind: count for kind, count in graph.items() if not kind.lm_head and kind != wanted}
    if wanted not in graph or others != ({more: eight_bits} if eight_bits else {}):
        linears = "; ".join(str(kind) for kind in graph if not kind.lm_head)
        asked = f"{wanted}; {eight_bits} times {more}" if eight_bits else str(wanted)
        raise StageFailed(f"the export has [{linears}] where the recipe asks for [{asked}].")

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
