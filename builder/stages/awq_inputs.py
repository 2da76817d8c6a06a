"""What AWQ's searches need to know of the inputs of a layer's linears, gathered as the layer runs: not the inputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

_SKETCH = 4096  # rows


class Inputs:
    """Of the inputs x [tokens, in] of all tokens to one linear, or to several that share them, in float32:

    total: the sums of their magnitudes, [in]; grams: of each group of inputs, [groups, size, size]; tokens: how many;
    sketch: where it is asked for, rows [at most 4096, in] that stand for all tokens: each token is added to a random
    row, with a random sign (count sketch, doi:10.1007/3-540-45465-9_59). The Gram matrix of the rows is, in
    expectation, that of the tokens, and so is what a linear loses on them. Tokens that are few enough have a row each.
    """

    def __init__(self, width: int, group_size: int, sketched: bool, tokens: int) -> None:
        self.total = torch.zeros(width)
        self.grams = torch.zeros(width // group_size, group_size, group_size)
        self.tokens = 0
        self.sketch = torch.zeros(min(tokens, _SKETCH) if sketched else 0, width)
        self._exact = tokens <= _SKETCH
        self._random = torch.Generator().manual_seed(0)

    def add(self, x: Tensor) -> None:
        """Take in x [tokens, in]."""
        x = x.float()
        self.total += x.abs().sum(dim=0)
        groups = x.view(len(x), len(self.grams), -1).transpose(0, 1)
        self.grams.baddbmm_(groups.transpose(1, 2), groups)
        if len(self.sketch) and self._exact:
            self.sketch[self.tokens : self.tokens + len(x)] = x
        elif len(self.sketch):
            rows = torch.randint(len(self.sketch), (len(x),), generator=self._random)
            signs = torch.randint(2, (len(x), 1), generator=self._random) * 2 - 1
            self.sketch.index_add_(0, rows, x * signs)
        self.tokens += len(x)


@dataclass(slots=True)
class Features:
    """Stands where Quark holds all inputs of a linear, [tokens, in]; of them it only asks to be divided by scales.

    batches: what the scales of these inputs are searched on, in the order to look at it: inputs of the decoder layer,
    of the module to inspect, or of the linear [n, tokens, width].
    """

    inputs: Inputs
    batches: list[Tensor]
    scales: Tensor
    device = torch.device("cpu")

    def div_(self, scales: Tensor) -> None:
        """The inputs are divided by scales [1, in] from now on."""
        self.scales = self.scales * scales.float().view(-1)

    def mean(self) -> Tensor:
        """Magnitudes, averaged over tokens, [in]."""
        return self.inputs.total / self.inputs.tokens / self.scales

    def grams(self) -> Tensor:
        """X^T X of each group over the number of tokens, [groups, size, size]."""
        scales = self.scales.view(len(self.inputs.grams), -1)
        return self.inputs.grams / scales[:, :, None] / scales[:, None, :] / self.inputs.tokens


def product_type(stored: torch.dtype) -> torch.dtype:
    """The type that products of weights of this type are fast in, on this processor: it may only emulate 16 bits."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return stored if stored == torch.bfloat16 and native else torch.float32


@contextmanager
def computing_in(module: Module, dtype: torch.dtype) -> Iterator[None]:
    """A module whose parameters are of this type; the own ones are put back afterwards."""
    own = [(parameter, parameter.data) for parameter in module.parameters()]
    for parameter, data in own:
        parameter.data = data.to(dtype)
    try:
        yield
    finally:
        for parameter, data in own:
            parameter.data = data


def in_type(value: Any, dtype: torch.dtype) -> Any:
    """Keyword arguments of a layer with their floating-point tensors in this type."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(in_type(item, dtype) for item in value)
    return {key: in_type(item, dtype) for key, item in value.items()} if isinstance(value, dict) else value
