"""The type to compute in: weights are stored in 16 bits, which many processors only emulate."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module


def product_type(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """The type in which weights of this type are multiplied fast: their own, or float32 on processors without it."""
    if device.type != "cpu":
        return stored
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return stored if stored == torch.bfloat16 and native else torch.float32


@torch.no_grad()
def through(model: Any, states: Sequence[Tensor]) -> list[Tensor]:
    """What a model of one layer makes of states, [1, length, hidden] each, in memory and in the type of its weights."""
    weight = next(model.parameters())
    stored = weight.dtype
    computed = product_type(stored, weight.device)
    with computing_in(model, computed):
        return [model(one.to(computed)).to(stored).cpu() for one in states]


@contextmanager
def computing_in(module: Module, dtype: torch.dtype) -> Iterator[None]:
    """A module whose parameters are of this type; its own are put back afterwards."""
    own = [(parameter, parameter.data) for parameter in module.parameters()]
    for parameter, data in own:
        parameter.data = data.to(dtype)
    try:
        yield
    finally:
        for parameter, data in own:
            parameter.data = data


def in_type(value: Any, dtype: torch.dtype) -> Any:
    """Arguments of a layer with their floating-point tensors in this type."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(in_type(item, dtype) for item in value)
    return {key: in_type(item, dtype) for key, item in value.items()} if isinstance(value, dict) else value
