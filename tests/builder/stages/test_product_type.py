"""What layers compute in: the type of their weights, or float32 where a processor only emulates it."""

import pytest
import torch
from torch import Tensor, nn

from builder.stages.product_type import through


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(64, 64).to(torch.bfloat16)
        self.seen: list[torch.dtype] = []

    def forward(self, states: Tensor) -> Tensor:
        self.seen.append(states.dtype)
        given: Tensor = self.linear(states)
        return given


@pytest.fixture
def states() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(1, length, 64).to(torch.bfloat16) for length in (3, 5)]


def on_a_processor(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: native)


def test_without_the_type_a_layer_computes_in_float32_and_is_what_it_was(
    states: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_processor(monkeypatch, native=False)
    layer = Layer()
    weight, bias = layer.linear.weight.detach().clone(), layer.linear.bias.detach().clone()
    given = through(layer, states)
    exact = [(one.float() @ weight.float().T + bias.float()).to(torch.bfloat16) for one in states]
    assert layer.seen == [torch.float32] * 2
    assert [one.dtype for one in given] == [torch.bfloat16] * 2
    assert all(map(torch.equal, given, exact))
    assert layer.linear.weight.dtype == torch.bfloat16 and torch.equal(layer.linear.weight, weight)


def test_with_the_type_it_computes_in_it(states: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_processor(monkeypatch, native=True)
    layer = Layer()
    assert [one.shape for one in through(layer, states)] == [one.shape for one in states]
    assert layer.seen == [torch.bfloat16] * 2
