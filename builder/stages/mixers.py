"""Layers that mix tokens otherwise than by attention, for OGA's loader of Quark's checkpoints.

The model builder has such layers, and this loader no names for them: it reads their packed linears as those of ordinary
attention, and everything else of them goes past it. As of onnxruntime-genai 0.18.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from builder.stages import moe


@dataclass(frozen=True, slots=True)
class Mixer:
    """packed: linears that Quark packs, and whose place they take. whole: what has a weight, and stays as it is.

    plain: tensors by themselves.
    """

    packed: Mapping[str, str]
    whole: tuple[str, ...]
    plain: tuple[str, ...] = ()


# By what a layer calls them: the gated delta rule (arXiv:2412.06464), LFM2's short convolutions, and Mamba 2.
MIXERS = {
    "linear_attn": Mixer(
        {"in_proj_qkv": "q_proj", "in_proj_z": "k_proj", "out_proj": "o_proj"},
        ("in_proj_a", "in_proj_b", "conv1d", "norm"),
        ("A_log", "dt_bias"),
    ),
    "conv": Mixer({"in_proj": "q_proj", "out_proj": "o_proj"}, ("conv",)),
    "mamba": Mixer({"in_proj": "q_proj", "out_proj": "o_proj"}, ("conv1d", "norm"), ("A_log", "dt_bias", "D")),
}
_PLAIN = ("layer_scalar",)  # tensors by themselves, of a layer
_ROUTED = re.compile(r"\.mlp\.((?:experts|gate|router|shared_expert_gate)\..+|expert_bias)$")
# What the model builder asks a layer for by another name than the loader's.
_ALIASES = {
    "operator_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "self_attn.out_proj": "self_attn.o_proj", "self_attn.q_layernorm": "self_attn.q_norm",
    "self_attn.k_layernorm": "self_attn.k_norm",
}  # fmt: skip


def readable(tensors: Mapping[str, Any], aside: dict[str, Any]) -> dict[str, Any]:
    """Tensors by names that the loader knows; those that have none go aside, by their names in the layer."""
    known: dict[str, Any] = {}
    for name, tensor in tensors.items():
        layer, mixer, linear, kind = _parts(name)
        if routed := _ROUTED.search(name):
            aside[f"mlp.{routed[1]}"] = tensor
        elif name.rpartition(".")[2] in _PLAIN:
            aside[name.rpartition(".")[2]] = tensor
        elif mixer is None:
            known[name.replace(".mlp.shared_expert.", ".mlp.")] = tensor
        elif linear in MIXERS[mixer].packed:
            known[f"{layer}.self_attn.{MIXERS[mixer].packed[linear]}.{kind}"] = tensor
        else:
            aside[f"{mixer}.{linear}.{kind}".rstrip(".")] = tensor
    return known


def put_together(layer: Any, aside: Mapping[str, Any], tensor_module: Any) -> None:
    """Give a layer that was read so the parts that the model builder asks for. tensor_module: the loader's class."""
    routed = {name.removeprefix("mlp."): tensor for name, tensor in aside.items() if name.startswith("mlp.")}
    if routed:
        layer.mlp = moe.put_together(routed, tensor_module, layer.mlp)
    for name in aside.keys() & _PLAIN:
        setattr(layer, name, aside[name])
    for name in {key.partition(".")[0] for key in aside if not key.startswith("mlp.")} - {*_PLAIN}:
        mixer = MIXERS[name]
        parts = {own: getattr(layer.self_attn, other) for own, other in mixer.packed.items()}
        parts |= {
            own: tensor_module(aside[f"{name}.{own}.weight"], aside.get(f"{name}.{own}.bias")) for own in mixer.whole
        }
        setattr(layer, name, SimpleNamespace(**parts, **{own: aside[f"{name}.{own}"] for own in mixer.plain}))
    for alias, own in _ALIASES.items():
        part, _, attribute = alias.rpartition(".")
        owner = getattr(layer, part) if part else layer
        setattr(owner, attribute, getattr(owner, own.rpartition(".")[2]))


def _parts(name: str) -> tuple[str, str | None, str, str]:
    """Of a tensor's name: its layer's, its mixer, what it is of there, and which tensor of that."""
    for mixer in MIXERS:
        layer, found, own = name.partition(f".{mixer}.")
        if found:
            linear, _, kind = own.partition(".")
            return layer, mixer, linear, kind
    return name, None, "", ""
