"""Mixtures of experts in the exported graph: all experts of a layer in one operator (QMoE, com.microsoft).

OGA's loader of Quark's checkpoints puts the zero points of two linears one behind the other where the operator wants
them in turn, rounds scales to float16, and its classes leave zero points out (docs/upstream.md). So what Quark packed
is packed for the operator here. As of onnxruntime-genai 0.18 and ONNX Runtime 1.32.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

# Of Quark's int32, the column that each 4 bits are of, lowest first.
_REORDERED = (0, 2, 4, 6, 1, 3, 5, 7)
_KINDS = {
    "weight": "weight", "qweight": "weight", "weight_scale": "scales", "scales": "scales",
    "weight_zero_point": "zeros", "qzeros": "zeros",
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


def put_together(tensors: Mapping[str, Tensor], tensor_module: Any) -> Any:
    """What the graph's layer is made of: the router and the packed experts.

    tensors: of a layer's mlp, by their names in it, as Quark packed them. tensor_module: the loader's class.
    """
    linears: dict[tuple[int, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("experts."):
            _, number, linear, kind = name.split(".")
            linears.setdefault((int(number), linear), {})[_KINDS[kind]] = tensor
    count = 1 + max(number for number, _ in linears)
    router = tensor_module(tensors["gate.weight"], tensors.get("gate.bias"))
    router.exclude_from_quantization = True
    first = [_halves(_in_turn(_rows(linears[n, "gate_proj"]), _rows(linears[n, "up_proj"]))) for n in range(count)]
    second = [_halves(_rows(linears[n, "down_proj"])) for n in range(count)]
    return SimpleNamespace(gate=router, first=_of_all(first), second=_of_all(second))


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
            block_size=2 * moe.first.weight.shape[2] // moe.first.scales.shape[2],
            activation_type="swiglu",
            activation_alpha=1.0,
            activation_beta=0.0,
            swiglu_fusion=1,
            normalize_routing_weights=int(normalised),
            accuracy_level=model.quant_attrs["accuracy_level"],
        )  # fmt: skip
        model.make_value(output, model.io_dtype, shape=model.make_hidden_state_shape())
        model.layernorm_attrs["skip_input"] = output

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
