"""What AWQ's searches need to know of the inputs of a layer's linears, gathered while it runs: not the inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from builder.recipe import AWQ_EXPERT_SKETCH, AWQ_SKETCH

Inspected = Literal["layer", "module", "linear", "expert"]

_SKETCHES = {"linear": AWQ_SKETCH, "expert": AWQ_EXPERT_SKETCH}
_CPU = torch.device("cpu")


class Inputs:
    """Of the inputs x [tokens, in] of all tokens to one linear, or to several that share them, in float32:

    total: the sums of their magnitudes, [in]; grams: x^T x of each group of inputs, [groups, size, size]; sketch: where
    it is asked for, rows [at most sketched, in] that stand for all tokens, each of which is added to a random row, with
    a random sign (count sketch, doi:10.1007/3-540-45465-9_59). The Gram matrix of the rows is, in expectation, that of
    the tokens, and so is what a linear loses on them. Tokens that are few enough have a row each.
    """

    def __init__(self, width: int, group_size: int, sketched: int, tokens: int, device: torch.device = _CPU) -> None:
        self.total = torch.zeros(width, device=device)
        self.grams = torch.zeros(width // group_size, group_size, group_size, device=device)
        self.tokens = 0
        self.sketch = torch.zeros(min(tokens, sketched), width, device=device)
        self._random = torch.Generator().manual_seed(0) if tokens > sketched else None

    def add(self, x: Tensor) -> None:
        """Take in x [tokens, in]."""
        x = x.float()
        self.total += x.abs().sum(dim=0)
        groups = x.view(len(x), len(self.grams), -1).transpose(0, 1)
        self.grams.baddbmm_(groups.transpose(1, 2), groups)
        if len(self.sketch) and self._random:
            rows = torch.randint(len(self.sketch), (len(x),), generator=self._random)
            signs = torch.randint(2, (len(x), 1), generator=self._random) * 2 - 1
            self.sketch.index_add_(0, rows.to(x.device), x * signs.to(x.device))
        elif len(self.sketch):
            self.sketch[self.tokens : self.tokens + len(x)] = x
        self.tokens += len(x)


@dataclass(slots=True)
class Features:
    """Stands where Quark holds all inputs of a linear, [tokens, in], and asks of them to be divided by scales.

    sample: what the scales of these inputs are searched on, in the order to look at it, [n, tokens, width] each: inputs
    of the decoder layer, or of the module that is inspected. For a linear by itself its sketch stands for them.
    """

    inputs: Inputs
    scales: Tensor
    sample: list[Tensor] = field(default_factory=list)

    @property
    def device(self) -> torch.device:
        """Where the scales are to be."""
        return self.scales.device

    def div_(self, scales: Tensor) -> None:
        """The inputs are divided by scales [1, in] from now on."""
        self.scales = self.scales * scales.float().view(-1)

    def mean(self) -> Tensor:
        """Magnitudes, averaged over tokens, [in]."""
        return self.inputs.total / self.inputs.tokens / self.scales

    def grams(self) -> Tensor:
        """x^T x of each group, averaged over tokens, [groups, size, size]."""
        scales = self.scales.view(len(self.inputs.grams), -1)
        return self.inputs.grams / scales[:, :, None] / scales[:, None, :] / self.inputs.tokens


class Gathering:
    """Features by linear; `take` is called with what comes to each while a layer runs, `begin` before each batch.

    inspected: for the linears whose inputs are scaled, what the scales are searched on. tokens: of all batches.
    """

    def __init__(self, inspected: Mapping[str, Inspected], tokens: int) -> None:
        self.features: dict[str, Features] = {}
        self._inspected, self._tokens = inspected, tokens
        self._batch: Tensor | None = None
        self._last: tuple[Tensor, Inputs] | None = None

    def begin(self, batch: Tensor, sampled: bool) -> None:
        """A batch [n, tokens, hidden] is about to go through the layer; whether the searches are to look at it."""
        self._batch = batch if sampled else None
        self._last = None

    def take(self, name: str, group_size: int, x: Tensor) -> None:
        """x [n, tokens, in] comes to this linear. Linears that share it are called one after another."""
        inspected = self._inspected.get(name)
        shared = self._last[1] if self._last and self._last[0] is x else None
        if name not in self.features:
            rows = _SKETCHES.get(inspected or "", 0)
            inputs = shared or Inputs(x.shape[-1], group_size, rows, self._tokens, x.device)
            self.features[name] = Features(inputs, torch.ones(x.shape[-1], device=x.device))
        features = self.features[name]
        if not shared:
            features.inputs.add(x.flatten(0, -2))
        if self._batch is not None and inspected in ("layer", "module"):
            features.sample.append(self._batch if inspected == "layer" else x.to(self._batch.dtype))
        self._last = x, features.inputs
