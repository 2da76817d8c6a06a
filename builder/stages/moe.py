"""Mixtures of experts in the exported graph: all experts of a layer in one operator (QMoE, com.microsoft).

OGA's loader of Quark's checkpoints puts the zero points of two linears one behind the other where the operator wants
them in turn, rounds scales to float16, and its classes leave zero points out (docs/upstream.md). So what Quark packed
is packed for the operator here: for layers of ours, and for those that the model builder has itself. As of
onnxruntime-genai 0.18 and ONNX Runtime 1.32.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

_LAYER = re.compile(r"/layers\.(\d+)/")
# Of Quark's int32, the column that each 4 bits are of, lowest first.
_REORDERED = (0, 2, 4, 6, 1, 3, 5, 7)
_KINDS = {
    "weight": "weight", "qweight": "weight", "weight_scale": "scales", "scales": "scales",
    "weight_zero_point": "zeros", "qzeros": "zeros", "bias": "bias",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Packed:
    """A linear of every expert, as QMoE reads it, two values to a byte, the first in its lower half.

    weight: uint8 [experts, out, in / 2]. scales: float32 [experts, out, groups]. zeros: uint8 [experts, out,
    groups / 2], rounded up.
    """

    weight: Tensor
    scales: Tensor
    zeros: Tensor

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return 2 * self.weight.shape[2] // self.scales.shape[2]


def put_together(tensors: Mapping[str, Tensor], tensor_module: Any, mlp: Any) -> Any:
    """What the graph's layer is made of: the router and the packed experts, by the model builder's names too.

    tensors: of a layer's mlp, by their names in it, as Quark packed them. tensor_module: the loader's class. mlp: what
    the loader found of an ordinary MLP, which sees all tokens.
    """
    linears: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("experts."):
            _, number, linear, kind = name.split(".")
            linears.setdefault((int(number), linear), {})[_KINDS[kind]] = tensor
    count = 1 + max(number for number, _ in linears)

    def whole(name: str) -> Any:
        if f"{name}.weight" not in tensors:
            return None
        module = tensor_module(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))
        module.exclude_from_quantization = True
        return module

    router = whole("gate") or whole("router")
    first = [_halves(_in_turn(_rows(linears[n, "gate_proj"]), _rows(linears[n, "up_proj"]))) for n in range(count)]
    second = [_halves(_rows(linears[n, "down_proj"])) for n in range(count)]
    biases: dict[str, Tensor] = {}
    if "bias" in linears[0, "down_proj"]:
        gates, ups, downs = (
            torch.stack([linears[number, linear]["bias"].float() for number in range(count)])
            for linear in ("gate_proj", "up_proj", "down_proj")
        )
        biases = {"gate_up_bias": torch.stack((gates, ups), dim=2).flatten(1), "down_bias": downs}
    return SimpleNamespace(
        gate=router,
        router=router,
        first=(packed := _of_all(first)),
        second=(after := _of_all(second)),
        experts=_experts(packed, after, biases),
        expert_bias=tensors.get("expert_bias"),
        shared_expert=mlp,
        shared_expert_gate=whole("shared_expert_gate"),
    )


def _experts(first: Packed, second: Packed, biases: Mapping[str, Tensor]) -> Any:
    """As the model builder's own classes ask for what is packed."""
    of_other_formats = ("scale_dtype", "weights_prepacked", "gate_up_global_scales", "down_global_scales")
    return SimpleNamespace(
        quant_type="int", block_size=first.group_size, scales_raw=False,
        gate_up_qweight=first.weight, gate_up_scales=first.scales, gate_up_zero_points=first.zeros,
        down_qweight=second.weight, down_scales=second.scales, down_zero_points=second.zeros,
        **dict.fromkeys(of_other_formats), **biases,
    )  # fmt: skip


def packed_class(base: Any) -> Any:
    """A class of the model builder that has experts itself: with their zero points, and multiplied as all linears are.

    Of its classes that make this operator, some leave the zero points out, and all the accuracy level.
    """

    def make_qmoe_op(model: Any, name: str, **inputs: Any) -> None:
        found = _LAYER.search(name)
        assert found
        first, second = model.moe_attrs["zero_point_names"][int(found[1])]
        base.make_qmoe_op(model, name, **{**inputs, "zero_points1": first, "zero_points2": second})

    def make_node(model: Any, op_type: str, *arguments: Any, **named: Any) -> None:
        if op_type == "QMoE":
            named["accuracy_level"] = model.quant_attrs["accuracy_level"]
        base.make_node(model, op_type, *arguments, **named)

    return type(base.__name__, (base,), {"make_qmoe_op": make_qmoe_op, "make_node": make_node})


def moe_class(base: Any, normalised: bool) -> Any:
    """A class of the model builder as `base`, with experts in the MLP's place.

    normalised: whether the weights of the experts that see a token sum to 1.
    """

    def get_moe_module(model: Any, layer_id: int, layer: Any) -> Any:
        return layer.mlp

    def make_moe(model: Any, layer_id: int, moe: Any, root_input: str) -> None:
        name, experts = f"/model/layers.{layer_id}/moe", model.moe_attrs["num_experts"]
        rows = ["batch_size * sequence_length", experts]
        gate = model.make_matmul(moe.gate, f"{name}/router/MatMul", root_input)
        scores, shape = f"{name}/router/Reshape", f"/model/constants/INT64/[-1, {experts}]"
        model.make_reshape(scores, [f"{gate}/output_0", shape], dtype=model.io_dtype, shape=rows)
        weights = ""  # by itself, the operator takes a softmax over those that are chosen
        if not normalised:
            model.make_softmax(f"{name}/router/Softmax", f"{scores}/output_0", dtype=model.io_dtype, shape=rows)
            weights = f"{name}/router/Softmax/output_0"
        first, second = (
            _initializers(model, f"model.layers.{layer_id}.moe.experts.{own}", packed)
            for own, packed in (("gate_up_proj", moe.first), ("down_proj", moe.second))
        )
        output = f"{name}/QMoE/output_0"
        model.make_node(
            "QMoE",
            inputs=[
                root_input, f"{scores}/output_0", *first[:2], "", *second[:2], "", "", "", "", first[2], second[2], "",
                weights,
            ],
            outputs=[output],
            name=f"{name}/QMoE",
            domain="com.microsoft",
            k=model.moe_attrs["top_k"],
            expert_weight_bits=4,
            block_size=moe.first.group_size,
            activation_type="swiglu",
            activation_alpha=1.0,
            activation_beta=0.0,
            swiglu_fusion=1,
            normalize_routing_weights=int(normalised),
            accuracy_level=model.quant_attrs["accuracy_level"],
        )  # fmt: skip
        model.make_value(output, model.io_dtype, shape=model.make_hidden_state_shape())
        model.layernorm_attrs["skip_input"] = output
        if moe.shared_expert is not None and moe.shared_expert.down_proj.qweight is not None:
            base.make_mlp(model, layer_id, moe.shared_expert, root_input)
            seen_by_all = model.layernorm_attrs["skip_input"]
            model.make_add(f"{name}/Add", [output, seen_by_all], model.io_dtype, model.make_hidden_state_shape())
            model.layernorm_attrs["skip_input"] = f"{name}/Add/output_0"

    made = {"get_moe_module": get_moe_module, "make_moe": make_moe, "make_mlp": make_moe}
    return type(base.__name__, (base,), made)


def _initializers(model: Any, name: str, packed: Packed) -> tuple[str, str, str]:
    names = f"{name}.qweight", f"{name}.scales", f"{name}.zero_points"
    for tensor, own in zip((packed.weight, packed.scales, packed.zeros), names, strict=True):
        model.make_initializer(tensor, own)
    return names


def _rows(linear: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Integers [out, in], scales [out, groups] and zero points [out, groups], of what Quark packed by columns."""
    return _unpacked(linear["weight"]).T, linear["scales"].float().T, _unpacked(linear["zeros"]).T


def _unpacked(packed: Tensor) -> Tensor:
    """int32 [n, columns / 8] -> uint8 [n, columns]."""
    values = torch.empty(*packed.shape, 8, dtype=torch.uint8)
    for place, column in enumerate(_REORDERED):
        values[..., column] = ((packed >> (4 * place)) & 15).to(torch.uint8)
    return values.flatten(-2)


def _in_turn(gate: tuple[Tensor, ...], up: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Rows of two linears in turn."""
    return tuple(torch.stack(pair, dim=1).flatten(0, 1) for pair in zip(gate, up, strict=True))


def _halves(rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight, scales, zeros = rows
    return _halved(weight), scales, _halved(zeros)


def _of_all(experts: list[tuple[Tensor, ...]]) -> Packed:
    return Packed(*(torch.stack(parts) for parts in zip(*experts, strict=True)))


def _halved(values: Tensor) -> Tensor:
    """uint8 [n, m] of 4 bits -> [n, m / 2], rounded up."""
    values = torch.nn.functional.pad(values, (0, values.shape[1] % 2))
    return values[:, 0::2] | (values[:, 1::2] << 4)
