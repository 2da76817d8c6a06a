"""Experts one by one compute what transformers' do together, wherever tokens go."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from transformers.integrations.mxfp4 import convert_moe_packed_tensors
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from builder.checkpoint.checkpoint import read_folder
from builder.stages import mxfp4
from builder.stages.decoder import Decoder
from builder.stages.experts import apart, split
from builder.stages.moe import put_together
from tests.family_cases import CASES
from tests.family_chain import make_checkpoint

HIDDEN, INTERMEDIATE, EXPERTS = 32, 16, 5
CONFIG = {
    "hidden_size": HIDDEN, "moe_intermediate_size": INTERMEDIATE, "num_experts": EXPERTS, "num_experts_per_tok": 2,
    "norm_topk_prob": True,
}  # fmt: skip
CLAMPED = {
    "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_local_experts": EXPERTS, "num_experts_per_tok": 2,
    "swiglu_limit": 0.5,
}  # fmt: skip
KINDS = ("qwen3_moe", "gpt_oss")


def block(kind: str = "qwen3_moe") -> Any:
    """A layer that has a mixture of experts as its MLP, on the device of the moment."""
    layer: Any = torch.nn.Module()
    if kind == "gpt_oss":
        layer.mlp = GptOssMLP(AutoConfig.for_model("gpt_oss", **CLAMPED))
    else:
        layer.mlp = Qwen3MoeSparseMoeBlock(AutoConfig.for_model("qwen3_moe", **CONFIG))
    return layer


@pytest.fixture
def whole() -> Any:
    return random_block("qwen3_moe")


def random_block(kind: str) -> Any:
    torch.manual_seed(0)
    layer = block(kind)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("published", ["together", "one by one"])
def test_experts_apart_compute_what_they_do_together(kind: str, published: str) -> None:
    whole = random_block(kind)
    tensors = dict(whole.state_dict())
    if published == "one by one":
        tensors = split(tensors)
    with torch.device("meta"):
        layer = apart(block(kind))
    found = layer.load_state_dict(split(tensors), strict=False, assign=True)
    assert not found.missing_keys and not found.unexpected_keys
    assert isinstance(layer.mlp.experts[EXPERTS - 1].down_proj, torch.nn.Linear)
    states = torch.randn(1, 40, HIDDEN)
    made, expected = layer.mlp(states), whole.mlp(states)
    if kind == "gpt_oss":  # which returns the experts' weights too
        made, expected = made[0], expected[0]
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("name", ["w1", "w2", "w3"])
def test_linears_of_one_expert_that_are_numbered_get_their_names(name: str) -> None:
    called = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}[name]
    tensors = {f"feed_forward.experts.11.{name}.weight": torch.ones(1), f"feed_forward.{name}.weight": torch.zeros(1)}
    assert set(split(tensors)) == {f"feed_forward.experts.11.{called}.weight", f"feed_forward.{name}.weight"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mxfp4_stands_for_the_weights_that_transformers_makes_of_it(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    blocks = torch.randint(256, (3, 10, 2, 16), dtype=torch.uint8)
    blocks[0, 0, 0] = torch.arange(16) * 17  # every value, in both halves
    scales = torch.randint(110, 135, (3, 10, 2), dtype=torch.uint8)
    tensors = {"mlp.up_blocks": blocks, "mlp.up_scales": scales, "mlp.router.weight": torch.ones(1)}
    made = mxfp4.whole(tensors, dtype)
    assert set(made) == {"mlp.up", "mlp.router.weight"}
    expected = convert_moe_packed_tensors(blocks, scales, dtype=dtype)
    assert made["mlp.up"].dtype == dtype and torch.equal(made["mlp.up"], expected.reshape(3, 64, 10))


def test_gpt_oss_as_it_is_published_is_an_original_whose_experts_are_unpacked(tmp_path: Path) -> None:
    """Two tensors of a layer become MXFP4, as random bytes."""
    make_checkpoint(CASES["gpt_oss"], 0, tmp_path)
    torch.manual_seed(3)
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    tensors, stem = load_file(file), "model.layers.1.mlp.experts"
    expected = {}
    for name in ("gate_up_proj", "down_proj"):
        experts, inputs, outputs = tensors.pop(f"{stem}.{name}").shape
        blocks = torch.randint(256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(110, 127, blocks.shape[:3], dtype=torch.uint8)
        tensors |= {f"{stem}.{name}_blocks": blocks, f"{stem}.{name}_scales": scales}
        expected[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    save_file(tensors, file, {"format": "pt"})
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {"quant_method": "mxfp4"}}))

    checkpoint = read_folder(tmp_path)
    layer = Decoder(checkpoint, "float32").layer(1).model.layers[0]
    assert checkpoint.quantization is None
    packed = sum(tensor.numel() for name, tensor in tensors.items() if name.endswith("_blocks"))
    assert checkpoint.weights.parameters == sum(tensor.numel() for tensor in tensors.values()) + packed
    for number, expert in enumerate(layer.mlp.experts):
        assert torch.equal(expert.gate_proj.weight, expected["gate_up_proj"][number].T[0::2])
        assert torch.equal(expert.up_proj.weight, expected["gate_up_proj"][number].T[1::2])
        assert torch.equal(expert.down_proj.weight, expected["down_proj"][number].T)
        assert torch.equal(expert.up_proj.bias, tensors[f"{stem}.gate_up_proj_bias"][number, 1::2])


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
    tensors |= {f"experts.1.{name}.bias": torch.rand(24) for name in ("gate_proj", "up_proj")}
    tensors |= {f"experts.0.{name}.bias": torch.rand(24) for name in ("gate_proj", "up_proj")}
    tensors |= {f"experts.{expert}.down_proj.bias": torch.rand(48) for expert in range(2)}
    made = put_together(tensors, lambda weight, bias: torch.nn.ParameterDict({"weight": weight}), None)
    for expert in range(2):
        rows = made.experts.gate_up_bias[expert]
        assert torch.equal(rows[0::2], tensors[f"experts.{expert}.gate_proj.bias"])
        assert torch.equal(rows[1::2], tensors[f"experts.{expert}.up_proj.bias"])
        assert torch.equal(made.experts.down_bias[expert], tensors[f"experts.{expert}.down_proj.bias"])

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
