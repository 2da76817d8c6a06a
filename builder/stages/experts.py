"""Mixtures of experts, whose linears are modules: transformers has those of a layer in two tensors, which Quark passes
over. Only the stage that quantizes imports this.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_FUSED = re.compile(r"(?:(.+)\.)?(gate_up_proj|down_proj)(_bias)?$")
_ONE_BY_ONE = re.compile(r"(experts\.\d+)\.w([123])\.")  # as Mixtral and LFM2 call an expert's linears
_CALLED = {"1": "gate_proj", "2": "down_proj", "3": "up_proj"}


class Expert(nn.Module):
    """One expert: its linears are named as those of an MLP.

    combined: what becomes of the outputs of the first two, [n, intermediate] each.
    """

    def __init__(
        self, hidden: int, intermediate: int, combined: Callable[[Tensor, Tensor], Tensor], bias: bool = False
    ) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.up_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.down_proj = nn.Linear(intermediate, hidden, bias=bias)
        self.combined = combined

    def forward(self, states: Tensor) -> Tensor:
        """[n, hidden] -> [n, hidden]."""
        made: Tensor = self.down_proj(self.combined(self.gate_proj(states), self.up_proj(states)))
        return made


class Experts(nn.ModuleList):
    """Stands in for transformers' experts of a layer."""

    def forward(self, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """What each token's experts make of it, weighed and added: states [n, hidden]; chosen, weights [n, active]."""
        output = torch.zeros_like(states)
        for number in torch.unique(chosen).tolist():
            tokens, place = torch.where(chosen == number)
            made = self[number](states[tokens]) * weights[tokens, place, None]
            output.index_add_(0, tokens, made.to(output.dtype))
        return output


def apart(layer: Any) -> Any:
    """The same layer on the meta device, with every expert a module."""
    for name, module in list(layer.named_modules()):
        fused = getattr(module, "gate_up_proj", None)
        if isinstance(fused, nn.Parameter) and fused.dim() == 3:
            biased = hasattr(module, "gate_up_proj_bias")
            number, both, hidden = (fused.shape[0], *reversed(fused.shape[1:])) if biased else fused.shape
            combined = _in_turn(module) if biased else _activated(module)
            with torch.device("meta"):
                experts = Experts(Expert(hidden, both // 2, combined, biased) for _ in range(number))
            layer.set_submodule(name, experts)
    return layer


def split(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A layer's tensors by their names in `apart`, whether a checkpoint has its experts one by one or together.

    Together, they are [experts, 2 x intermediate, hidden] and [experts, hidden, intermediate]; where they have biases,
    each the other way round, and rows of the first two linears in turn.
    """
    known: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        fused = _FUSED.match(name)
        if not fused:
            known[_ONE_BY_ONE.sub(lambda found: f"{found[1]}.{_CALLED[found[2]]}.", name)] = tensor
            continue
        stem, linear, bias = fused.groups()
        biased = f"{stem}.gate_up_proj_bias" in tensors
        for number, own in enumerate(tensor):
            rows = own.T if biased and not bias else own
            parts = {"down_proj": rows}
            if linear == "gate_up_proj":
                gate, up = (rows[0::2], rows[1::2]) if biased else rows.chunk(2)
                parts = {"gate_proj": gate, "up_proj": up}
            for called, part in parts.items():
                known[f"{stem}.{number}.{called}.{'bias' if bias else 'weight'}"] = part.contiguous()
    return known


def _activated(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def combined(gate: Tensor, up: Tensor) -> Tensor:
        product: Tensor = module.act_fn(gate) * up
        return product

    return combined


def _in_turn(module: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def combined(gate: Tensor, up: Tensor) -> Tensor:
        clamped: Tensor = module._apply_gate(torch.stack((gate, up), dim=-1).flatten(-2))
        return clamped

    return combined
