"""What the model builder is told of each family, as its configuration and our tables say; which others are refused."""

import json
import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.checkpoint import told
from builder.checkpoint.families import FAMILIES, family_of
from builder.checkpoint.model import Model
from builder.checkpoint.refused import REFUSED
from builder.errors import UnsupportedModel
from tests.family_table import PART, figures_in, table

# What the model builder is told


def builder_config(config: dict[str, Any]) -> dict[str, Any]:
    return told.builder_config(Model.of(config))


def context_limit(config: dict[str, Any]) -> int | None:
    return told.context_limit(Model.of(config))


CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "shared_intermediate_size": 11_008,
    "num_attention_heads": 32,
    "num_hidden_layers": 2,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
HYBRID = {"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"]}
GEMMA4 = {"model_type": "gemma4_text", "num_key_value_heads": 4, "head_dim": 256, "hidden_size_per_layer_input": 0}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32_768}


@pytest.mark.parametrize(
    ("model_type", "rope_type", "architecture"),
    [
        ("llama", "default", "LlamaForCausalLM"),
        ("llama", "llama3", "LlamaForCausalLM"),
        ("llama", "linear", "MistralForCausalLM"),
        ("mistral", "linear", "MistralForCausalLM"),
        ("mistral", "llama3", "LlamaForCausalLM"),
        ("qwen3", "linear", "Qwen3ForCausalLM"),
        ("helium", "default", "Ernie4_5ForCausalLM"),
    ],
)
def test_the_architecture_told_is_one_that_knows_the_rotation(
    model_type: str, rope_type: str, architecture: str
) -> None:
    rope = {**CONFIG["rope_parameters"], "rope_type": rope_type}
    config = builder_config({**CONFIG, "model_type": model_type, "rope_parameters": rope})
    assert config["architectures"] == [architecture]


FACTORS = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64}


@pytest.mark.parametrize(
    "published",
    [
        {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"model_type": "qwen2", "rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"model_type": "phi3", "rope_scaling": {"type": "su", **FACTORS}, "original_max_position_embeddings": 4096},
        {"model_type": "gemma3_text", "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None},
        {"model_type": "hunyuan_v1_dense", "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}},
        {"model_type": "internlm3", "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}},
        {"model_type": "granitemoehybrid", "num_local_experts": 0, "layer_types": ["attention"] * 2},
        {"model_type": "olmo3", "rope_theta": 5e5, "rope_scaling": {**YARN, "original_max_position_embeddings": 8192}},
    ],
)
def test_the_generation_of_config_json_that_most_models_are_published_with_passes(published: dict[str, Any]) -> None:
    told.check(Model.of({**CONFIG, "rope_parameters": None, **published}))


@pytest.mark.parametrize("model_type", ["mistral", "phi3", "ministral3"])
def test_a_window_without_layer_types_is_that_of_every_layer(model_type: str) -> None:
    config = {**CONFIG, "model_type": model_type}
    assert builder_config({**config, "sliding_window": 4096})["layer_types"] == ["sliding_attention"] * 2
    for unwindowed in ({}, {"sliding_window": None}):
        assert "layer_types" not in builder_config({**config, **unwindowed})


def test_layer_types_stay_as_they_are() -> None:
    layers = ["sliding_attention", "full_attention"]
    config = {**CONFIG, "model_type": "qwen2", "sliding_window": 4096, "layer_types": layers}
    assert builder_config(config)["layer_types"] == layers


def test_yarn_is_told_so_that_its_range_comes_out_rounded() -> None:
    rope = builder_config({**CONFIG, "rope_parameters": YARN})["rope_parameters"]
    assert rope["mscale"] == pytest.approx(0.1 * np.log(4) + 1)
    dimensions = [64 * np.log(32_768 / (rope[beta] * 2 * np.pi)) / np.log(1e6) for beta in ("beta_fast", "beta_slow")]
    assert dimensions == pytest.approx([23, 40])


def test_a_configuration_is_not_changed_in_place() -> None:
    config = {**CONFIG, "rope_parameters": dict(YARN), "sliding_window": 4096}
    before = json.dumps(config)
    builder_config(config)
    assert json.dumps(config) == before


def test_only_scalings_that_change_beyond_a_length_limit_the_context() -> None:
    assert context_limit(CONFIG) is None
    assert context_limit({**CONFIG, "rope_parameters": YARN}) is None
    assert context_limit({**CONFIG, "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.1}}) == 32_768


def test_beyond_its_first_training_length_longrope_computes_all_tokens_otherwise() -> None:
    old = {**CONFIG, "original_max_position_embeddings": 4096, "rope_scaling": {"type": "su"}, "rope_parameters": None}
    assert told.turn(Model.of(old)) == 4096
    assert context_limit(old) is None
    assert told.turn(Model.of({**CONFIG, "rope_parameters": YARN})) is None


# What is refused


def refusal(**changes: Any) -> str:
    """The words in which a configuration is refused."""
    with pytest.raises(UnsupportedModel) as refused:
        told.check(Model.of({**CONFIG, **changes}))
    return str(refused.value)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_supported_family_is_found_and_is_not_refused(model_type: str) -> None:
    assert family_of(model_type) is FAMILIES[model_type]
    assert model_type not in REFUSED


@pytest.mark.parametrize("model_type", sorted(REFUSED))
def test_a_refused_family_is_named_with_its_reason_and_the_nearest_that_works(model_type: str) -> None:
    known = REFUSED[model_type]
    message = refusal(model_type=model_type)
    assert message.startswith(f"the architecture {model_type!r} is not supported: {known.reason}. ")
    if known.nearest:
        assert f"The nearest that is supported is {known.nearest} ({FAMILIES[known.nearest].examples})." in message


def test_an_unknown_family_is_refused_with_those_that_work() -> None:
    message = refusal(model_type="transformer9")
    assert "'transformer9' is not supported: it has not been shown to work through Quark and OGA. Supp" in message
    assert all(model_type in message for model_type in FAMILIES)


def test_the_nearest_to_an_unknown_family_is_the_one_with_the_most_similar_name() -> None:
    assert "nearest that is supported is granite " in refusal(model_type="granite5")
    assert "nearest that is supported is hunyuan_v1_dense " in refusal(model_type="hunyuan_v2_dense")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope', and for 'llama' .* exports only default, llama3"),
        ({"model_type": "qwen2", "rope_parameters": {"rope_type": "llama3"}}, "exports only default, linear, yarn"),
        ({"model_type": "gemma3_text", "rope_parameters": None, "rope_scaling": {"type": "yarn"}}, "default, linear"),
        ({"model_type": "internvl", "text_config": {**CONFIG, "model_type": "qwen2_moe"}}, "sees all tokens"),
        ({"rope_parameters": ["yarn"]}, r"\['yarn'\] for its rotary embedding"),
        ({"rope_parameters": {"rope_type": "yarn"}}, r"incomplete YaRN parameters \('factor'\)"),
        ({"rope_parameters": {**YARN, "rope_theta": 2.0}}, "cannot export these YaRN"),
        ({"rope_parameters": {**YARN, "partial_rotary_factor": 0.5}}, "cannot export these YaRN"),
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba"] * 2}, "attention and Mamba, are needed"),
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba", "rnn"]}, "attention and Mamba, are needed"),
        ({"model_type": "granitemoehybrid"}, "attention and Mamba, are needed"),
        ({**HYBRID, "mamba_n_groups": 2}, "several groups"),
        ({**HYBRID, "mamba_d_head": "32"}, "mamba_d_head = '32' where a positive number"),
        ({**GEMMA4, "head_dim": None}, "head_dim = None where a positive number"),
        ({**HYBRID, "mamba_proj_bias": True}, "several groups, biases"),
        ({**HYBRID, "time_step_limit": [0.0, 0.1]}, "a limited step"),
        ({"model_type": "gpt_oss", "swiglu_alpha": 1.0}, r"swiglu_alpha = 1\.0"),
        ({"model_type": "gpt_oss", "layer_types": ["full_attention"] * 2}, "a window for every second layer"),
        ({"model_type": "olmo", "clip_qkv": 8.0}, r"clip_qkv = 8\.0"),
        ({"model_type": "lfm2_moe", "norm_topk_prob": False}, "do not sum to 1"),
        ({**GEMMA4, "hidden_size_per_layer_input": 256}, r"a small one: .*\(per-layer inputs"),
        ({**GEMMA4, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 4}, "shared keys and values"),
        ({**GEMMA4, "enable_moe_block": True}, "Unsupported MoE activation"),
        ({**GEMMA4, "use_bidirectional_attention": "all"}, "looks ahead"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "looks ahead"),
        ({"model_type": ["llama"]}, "is not supported"),
        ({"model_type": None}, "'None' is not supported"),
    ],
)
def test_a_model_whose_configuration_cannot_be_exported_is_refused(changes: dict[str, Any], words: str) -> None:
    assert re.search(words, refusal(**changes))


# Agreement with the libraries and the README


@pytest.mark.parametrize("template", sorted({family.awq_template for family in FAMILIES.values()}))
def test_quark_has_the_awq_template_of_every_family(template: str) -> None:
    # Read as text: importing Quark takes longer than all other tests of this file's kind together.
    source = _source("amd-quark", "quark/torch/quantization/config/template.py")
    assert re.search(rf'^    "{template}": \{{$', source, re.MULTILINE)


@pytest.mark.parametrize("architecture", sorted({family.architecture for family in FAMILIES.values()}))
def test_the_model_builder_knows_every_architecture_that_it_is_told(architecture: str) -> None:
    source = _source("onnxruntime-genai", "onnxruntime_genai/models/builder.py")
    assert f'config.architectures[0] == "{architecture}"' in source


def _source(package: str, file: str) -> str:
    return Path(str(distribution(package).locate_file(file))).read_text(encoding="utf-8")


def test_the_table_is_the_one_written_from_the_families() -> None:
    written = PART.read()
    assert written == table(figures_in(written)), f"run {PART.command}"
