"""Mixtures of experts, whose linears are modules: transformers has those of a layer in two tensors, which Quark passes
over. Only the stage that quantizes imports this.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_FUSED = ("gate_up_proj", "down_proj")


class Expert(nn.Module):
    """One expert: its linears are named as those of an MLP."""

    def __init__(self, hidden: int, intermediate: int, activation: Any) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)
        self.activation = activation

    def forward(self, states: Tensor) -> Tensor:
        """[n, hidden] -> [n, hidden]."""
        made: Tensor = self.down_proj(self.activation(self.gate_proj(states)) * self.up_proj(states))
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
            number, both, hidden = fused.shape
            with torch.device("meta"):
                experts = Experts(Expert(hidden, both // 2, module.act_fn) for _ in range(number))
            layer.set_submodule(name, experts)
    return layer


def split(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A layer's tensors by their names in `apart`, whether a checkpoint has its experts one by one or together.

    Together, they are [experts, 2 x intermediate, hidden] and [experts, hidden, intermediate].
    """
    known: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, linear = name.rpartition(".")
        if linear not in _FUSED:
            known[name] = tensor
            continue
        for number, weight in enumerate(tensor):
            parts = zip(("gate_proj", "up_proj"), weight.chunk(2), strict=True)
            for own, part in parts if linear == "gate_up_proj" else (("down_proj", weight),):
                known[f"{stem}.{number}.{own}.weight"] = part
    return known
