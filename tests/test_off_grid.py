"""A llama in other numbers, as benchmarks/off_grid.py makes it, is the same model."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.off_grid import filled, moved

CONFIG = LlamaConfig(
    vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
    num_key_value_heads=3, head_dim=8, tie_word_embeddings=False, rms_norm_eps=0.1,
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    made = LlamaForCausalLM(CONFIG).eval()
    for name, parameter in made.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)
    return made


def logits(model: LlamaForCausalLM) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits[0]  # type: ignore[no-any-return]


def of(weights: dict[str, torch.Tensor], config: dict[str, object]) -> LlamaForCausalLM:
    made = LlamaForCausalLM(LlamaConfig(**config)).eval()
    made.load_state_dict(weights)
    return made


def test_other_numbers_are_the_same_model(model: LlamaForCausalLM) -> None:
    weights, config = model.state_dict(), CONFIG.to_dict()
    found = moved(weights, config, seed=1)
    assert {name for name in found if torch.allclose(found[name], weights[name], rtol=0.01)} == {
        "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
    }  # fmt: skip
    torch.testing.assert_close(logits(of(found, config)), logits(model), atol=1e-4, rtol=0)


def test_zeros_that_fill_up_its_widths_change_nothing(model: LlamaForCausalLM) -> None:
    found, config = filled(model.state_dict(), CONFIG.to_dict(), 64)
    linears = [weight for name, weight in found.items() if "proj" in name]
    assert {width for weight in linears for width in weight.shape if width % 64} <= {config["num_key_value_heads"] * 8}
    torch.testing.assert_close(logits(of(found, config)), logits(model), atol=1e-4, rtol=0)


def test_a_model_with_biases_is_refused(model: LlamaForCausalLM) -> None:
    weights = {**model.state_dict(), "model.layers.0.self_attn.q_proj.bias": torch.zeros(48)}
    with pytest.raises(SystemExit, match=r"q_proj\.bias"):
        moved(weights, CONFIG.to_dict(), seed=1)
