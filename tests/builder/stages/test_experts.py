"""Experts one by one compute what transformers' do together, wherever tokens go."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from builder.stages.experts import apart, split
from builder.stages.moe import put_together

HIDDEN, INTERMEDIATE, EXPERTS = 32, 16, 5
CONFIG = {
    "hidden_size": HIDDEN, "moe_intermediate_size": INTERMEDIATE, "num_experts": EXPERTS, "num_experts_per_tok": 2,
    "norm_topk_prob": True,
}  # fmt: skip


def block() -> Any:
    """A layer that has a mixture of experts as its MLP, on the device of the moment."""
    layer: Any = torch.nn.Module()
    layer.mlp = Qwen3MoeSparseMoeBlock(AutoConfig.for_model("qwen3_moe", **CONFIG))
    return layer


@pytest.fixture
def whole() -> Any:
    torch.manual_seed(0)
    layer = block()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


@pytest.mark.parametrize("published", ["together", "one by one"])
def test_experts_apart_compute_what_they_do_together(whole: Any, published: str) -> None:
    tensors = dict(whole.state_dict())
    if published == "one by one":
        tensors = split(tensors)
    with torch.device("meta"):
        layer = apart(block())
    found = layer.load_state_dict(split(tensors), strict=False, assign=True)
    assert not found.missing_keys and not found.unexpected_keys
    assert isinstance(layer.mlp.experts[EXPERTS - 1].down_proj, torch.nn.Linear)
    states = torch.randn(1, 40, HIDDEN)
    torch.testing.assert_close(layer.mlp(states), whole.mlp(states))


def test_experts_that_no_token_comes_to_are_passed_over(whole: Any) -> None:
    with torch.device("meta"):
        layer = apart(block())
    layer.load_state_dict(split(whole.state_dict()), assign=True)
    chosen = torch.full((7, 1), 3)
    for number in {*range(EXPERTS)} - {3}:
        layer.mlp.experts[number].gate_proj.weight.data.fill_(torch.nan)
    made = layer.mlp.experts(torch.randn(7, HIDDEN), chosen, torch.ones(7, 1))
    assert made.isfinite().all()


def test_what_quark_packed_is_packed_for_the_operator_row_by_row() -> None:
    torch.manual_seed(1)
    groups, order = 3, (0, 2, 4, 6, 1, 3, 5, 7)

    def packed(values: torch.Tensor) -> torch.Tensor:
        """Integers [n, columns] as Quark packs them: eight of a row to an int32, in its order."""
        places = values.view(len(values), -1, 8)[..., list(order)].long() << (4 * torch.arange(8))
        return places.sum(dim=-1).to(torch.int32)

    numbers: dict[str, dict[str, torch.Tensor]] = {}
    tensors = {"gate.weight": torch.randn(2, 48)}
    for name, (inputs, outputs) in {"gate_proj": (48, 24), "up_proj": (48, 24), "down_proj": (24, 48)}.items():
        for expert in range(2):
            weight, zeros = torch.randint(16, (inputs, outputs)), torch.randint(16, (groups, outputs))
            scales = torch.rand(groups, outputs)
            numbers[f"{expert}.{name}"] = {"weight": weight, "zeros": zeros, "scales": scales}
            stem = f"experts.{expert}.{name}"
            tensors |= {f"{stem}.weight": packed(weight), f"{stem}.weight_zero_point": packed(zeros)}
            tensors[f"{stem}.weight_scale"] = scales
    made = put_together(tensors, lambda weight, bias: torch.nn.ParameterDict({"weight": weight}))

    def halves(values: torch.Tensor, count: int) -> torch.Tensor:
        """The two numbers of each byte, one behind the other."""
        return torch.stack([values & 15, values >> 4], dim=-1).flatten(-2)[..., :count].long()

    for expert in range(2):
        for row, name in ((0, "gate_proj"), (1, "up_proj")):  # in turn
            own, first = numbers[f"{expert}.{name}"], made.first
            assert torch.equal(halves(first.weight[expert, row::2], 48), own["weight"].T)
            assert torch.equal(halves(first.zeros[expert, row::2], groups), own["zeros"].T)
            assert torch.equal(first.scales[expert, row::2], own["scales"].T)
        own = numbers[f"{expert}.down_proj"]
        assert torch.equal(halves(made.second.weight[expert], 24), own["weight"].T)
        assert torch.equal(halves(made.second.zeros[expert], groups), own["zeros"].T)
