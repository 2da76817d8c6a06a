"""What is known of each model family, as data: how Quark and OGA's model builder must be told about it, and its limits.

The model builder knows fewer families than transformers, and reads less of a configuration. Where the layers of a
family are those of another, it is told the other's architecture; where it looks for a fact elsewhere, the fact is put
there. Each supported family is proved by tests/test_families.py: what is exported computes what Quark quantized.
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import UnsupportedModel
from builder.stages.layers import Layers

Config = dict[str, Any]


def _none(config: Mapping[str, Any]) -> Config:
    return {}


def _every_layer_has_rope(config: Mapping[str, Any]) -> Sequence[int]:
    return ()


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type` of a Hugging Face config.json.

    awq_template: the Quark template whose layer names fit.
    examples: models that a user may know it by.
    architecture: the model builder's own for such layers.
    limits: what of the family is not supported; empty for nothing known.
    facts: what the model builder must be told besides, or instead, computed from the configuration.
    tensor_names: parts of tensor names, and what the model builder calls them.
    intermediate: the configuration's name for the input size of down_proj.
    without_rope: layers that have no rotary embedding, where the family has such.
    embedding_scaled: the embeddings are multiplied by the square root of the hidden size.
    layers: what its layers are like, where the model builder has none of their kind.
    """

    awq_template: str
    examples: str
    architecture: str
    limits: str = ""
    facts: Callable[[Mapping[str, Any]], Config] = _none
    tensor_names: tuple[tuple[str, str], ...] = ()
    intermediate: str = "intermediate_size"
    without_rope: Callable[[Mapping[str, Any]], Sequence[int]] = _every_layer_has_rope
    embedding_scaled: bool = False
    layers: Layers | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a `model_type` is not supported, and the supported one to look at instead, if any is near."""

    reason: str
    nearest: str = ""


# Facts


def _phi3(config: Mapping[str, Any]) -> Config:
    rope = config["rope_parameters"]
    if rope["rope_type"] != "longrope":
        return {"original_max_position_embeddings": config["max_position_embeddings"]}
    original = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or config["max_position_embeddings"] / original
    scale = rope.get("attention_factor") or math.sqrt(1 + math.log(max(factor, 1)) / math.log(original))
    return {"rope_parameters": {**rope, "type": "longrope", "short_mscale": scale, "long_mscale": scale}}


def _gemma3(config: Mapping[str, Any]) -> Config:
    rope = config["rope_parameters"]
    return {
        "model_type": "gemma2",  # Gemma 3's own configuration class would take these facts apart again
        "rope_parameters": rope["full_attention"],
        "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
    }


def _olmo3(config: Mapping[str, Any]) -> Config:
    full, sliding = (config["rope_parameters"][kind] for kind in ("full_attention", "sliding_attention"))
    told = {"model_type": "ministral", "rope_parameters": full}  # OLMo 3's own class wants two kinds of rotation
    return told if full == sliding else {**told, "rope_local_base_freq": sliding["rope_theta"]}


def _nemotron(config: Mapping[str, Any]) -> Config:
    return {"rms_norm_eps": config["norm_eps"]}


def _granite4(config: Mapping[str, Any]) -> Config:
    return {
        "model_type": "granite",
        "intermediate_size": config["shared_intermediate_size"],
        "layer_types": ["full_attention"] * config["num_hidden_layers"],
    }


def _smollm3_without_rope(config: Mapping[str, Any]) -> Sequence[int]:
    return [layer for layer, rope in enumerate(config["no_rope_layers"]) if not rope]


def _exaone4_without_rope(config: Mapping[str, Any]) -> Sequence[int]:
    if config["sliding_window"] is None:
        return ()
    return [layer for layer, kind in enumerate(config["layer_types"]) if kind == "full_attention"]


def _granite4_without_rope(config: Mapping[str, Any]) -> Sequence[int]:
    return () if config["position_embedding_type"] == "rope" else range(config["num_hidden_layers"])


_LLAMA, _MISTRAL = "LlamaForCausalLM", "MistralForCausalLM"
_FLOAT16 = "the exporter warns against float16 providers"

FAMILIES: dict[str, Family] = {
    "llama": Family("llama", "Llama 2, 3, 3.1 and 3.2, SmolLM2, TinyLlama, Yi", _LLAMA),
    "mistral": Family("mistral", "Mistral 7B, Mistral Nemo, Zephyr", _MISTRAL),
    "ministral": Family("mistral", "Ministral 8B", _MISTRAL),
    "ministral3": Family(
        "mistral", "the text part of Ministral 3", _MISTRAL, "context up to original_max_position_embeddings"
    ),
    "qwen2": Family("qwen2", "Qwen 1.5, 2 and 2.5, DeepSeek-R1-Distill-Qwen", "Qwen2ForCausalLM"),
    "qwen3": Family("llama", "Qwen3 0.6B to 32B", "Qwen3ForCausalLM"),
    "phi3": Family(
        "phi3",
        "Phi-3, Phi-3.5 and Phi-4 mini, Phi-4",
        "Phi3ForCausalLM",
        "LongRoPE: context up to original_max_position_embeddings (4,096)",
        facts=_phi3,
    ),
    "gemma": Family("gemma2", "Gemma 1.1", "GemmaForCausalLM", embedding_scaled=True),
    "gemma2": Family("gemma2", "Gemma 2", "Gemma2ForCausalLM", _FLOAT16, embedding_scaled=True),
    "gemma3_text": Family(
        "gemma3_text", "Gemma 3 270M and 1B", "Gemma3ForCausalLM", _FLOAT16, facts=_gemma3, embedding_scaled=True
    ),
    "granite": Family("llama", "Granite 3", "GraniteForCausalLM"),
    "granitemoehybrid": Family(
        "llama",
        "Granite 4.0 Micro, 1B and 350M",
        "GraniteForCausalLM",
        "only without experts and Mamba layers",
        facts=_granite4,
        tensor_names=(("shared_mlp.input_linear", "mlp.gate_up_proj"), ("shared_mlp.output_linear", "mlp.down_proj")),
        intermediate="shared_intermediate_size",
        without_rope=_granite4_without_rope,
    ),
    "hunyuan_v1_dense": Family("hunyuan_v1_dense", "Hunyuan 0.5B to 7B, Hunyuan-MT", "HunYuanDenseV1ForCausalLM"),
    "smollm3": Family("llama", "SmolLM3", _LLAMA, without_rope=_smollm3_without_rope),
    "ernie4_5": Family("llama", "ERNIE 4.5 0.3B", "Ernie4_5ForCausalLM"),
    "nemotron": Family("llama", "Nemotron-Mini, Minitron", "NemotronForCausalLM", facts=_nemotron),
    "seed_oss": Family("llama", "Seed-OSS 36B", _LLAMA),
    "internlm3": Family("llama", "InternLM3 8B", _LLAMA),
    "helium": Family("llama", "Helium 1", "Ernie4_5ForCausalLM"),
    "glm": Family("llama", "GLM-4 9B Chat, GLM-Edge", "Ernie4_5ForCausalLM"),
    "cwm": Family("llama", "Code World Model", _LLAMA),
    "olmo2": Family("llama", "OLMo 2", _LLAMA, layers=Layers(norms_before=False, norms_of_q_k="all")),
    "olmo3": Family("llama", "OLMo 3", _LLAMA, facts=_olmo3, layers=Layers(norms_before=False, norms_of_q_k="all")),
    "exaone4": Family(
        "llama",
        "EXAONE 4.0",
        _LLAMA,
        without_rope=_exaone4_without_rope,
        layers=Layers(norms_before=False, norms_of_q_k="head"),
    ),
    "glm4": Family(
        "llama",
        "GLM-4 0414 9B and 32B",
        "Ernie4_5ForCausalLM",
        tensor_names=(
            ("post_attention_layernorm", "pre_feedforward_layernorm"),
            ("post_self_attn_layernorm", "post_attention_layernorm"),
            ("post_mlp_layernorm", "post_feedforward_layernorm"),
        ),
        layers=Layers(norms_before=True),
    ),
}

_EXPERTS = "mixtures of experts are not quantized by this recipe"
_MODALITIES = "models that also take images or sound are not supported"
_HYBRID = "layers that are not attention (convolution, state space, linear attention) are not supported"
_OTHER_CODE = "transformers has no code for it, and code from the checkpoint is never run"

REFUSED: dict[str, Refusal] = {
    "olmo": Refusal("OGA's model builder writes its layer norms without subtracting the mean", "llama"),
    "hyperclovax": Refusal("OGA's model builder has no layer with both its norms and its multipliers", "granite"),
    "phi": Refusal("OGA's model builder cannot read the names of its quantized layers", "phi3"),
    "starcoder2": Refusal("OGA's model builder has no layer with its layer norms and its MLP", "qwen2"),
    "stablelm": Refusal("OGA's model builder has no layer with its layer norms", "llama"),
    "arcee": Refusal("OGA's model builder has no layer with its MLP, which has no gate", "nemotron"),
    "apertus": Refusal("OGA's model builder has no xIELU activation", "llama"),
    "nanochat": Refusal("Quark's AWQ needs norms with weights, and this family's have none", "llama"),
    "cohere": Refusal("OGA's model builder has no layer that computes attention and MLP side by side", "llama"),
    "cohere2": Refusal("OGA's model builder has no layer that computes attention and MLP side by side", "llama"),
    "falcon": Refusal("OGA's model builder has no layer that computes attention and MLP side by side", "llama"),
    "granite_swa": Refusal("OGA's model builder writes Granite's attention without its sinks", "granite"),
    "gpt_neox": Refusal("OGA's model builder has no such layer", "llama"),
    "chatglm": Refusal(_OTHER_CODE, "glm"),
    "internlm2": Refusal(_OTHER_CODE, "internlm3"),
    "phi3small": Refusal(_OTHER_CODE, "phi3"),
    "lfm2": Refusal(_HYBRID, "llama"),
    "qwen3_next": Refusal(_HYBRID, "qwen3"),
    "qwen3_5": Refusal(_HYBRID, "qwen3"),
    "qwen3_5_text": Refusal(_HYBRID, "qwen3"),
    "falcon_h1": Refusal(_HYBRID, "llama"),
    "nemotron_h": Refusal(_HYBRID, "nemotron"),
    "mamba": Refusal(_HYBRID),
    "mamba2": Refusal(_HYBRID),
    "mixtral": Refusal(_EXPERTS, "mistral"),
    "qwen2_moe": Refusal(_EXPERTS, "qwen2"),
    "qwen3_moe": Refusal(_EXPERTS, "qwen3"),
    "phimoe": Refusal(_EXPERTS, "phi3"),
    "granitemoe": Refusal(_EXPERTS, "granite"),
    "olmoe": Refusal(_EXPERTS, "llama"),
    "gpt_oss": Refusal(_EXPERTS, "qwen3"),
    "deepseek_v2": Refusal(_EXPERTS, "qwen2"),
    "deepseek_v3": Refusal(_EXPERTS, "qwen2"),
    "ernie4_5_moe": Refusal(_EXPERTS, "ernie4_5"),
    "hunyuan_v1_moe": Refusal(_EXPERTS, "hunyuan_v1_dense"),
    "glm4_moe": Refusal(_EXPERTS, "glm"),
    "lfm2_moe": Refusal(_EXPERTS, "llama"),
    "llama4": Refusal(_MODALITIES, "llama"),
    "mllama": Refusal(_MODALITIES, "llama"),
    "gemma3": Refusal(_MODALITIES, "gemma3_text"),
    "gemma3n": Refusal(_MODALITIES, "gemma3_text"),
    "gemma4": Refusal(_MODALITIES, "gemma3_text"),
    "mistral3": Refusal(_MODALITIES, "mistral"),
    "qwen2_vl": Refusal(_MODALITIES, "qwen2"),
    "qwen2_5_vl": Refusal(_MODALITIES, "qwen2"),
    "qwen3_vl": Refusal(_MODALITIES, "qwen3"),
    "phi4mm": Refusal(_MODALITIES, "phi3"),
    "phi4_multimodal": Refusal(_MODALITIES, "phi3"),
    "lfm2_vl": Refusal(_MODALITIES, "llama"),
}


def family_of(model_type: str) -> Family:
    """The family's facts. Raises UnsupportedModel with the reason, the nearest supported family and all of them."""
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    close = difflib.get_close_matches(model_type, FAMILIES, n=1)
    unknown = Refusal("it has not been shown to work through Quark and OGA", close[0] if close else "")
    refusal = REFUSED.get(model_type, unknown)
    advice = ""
    if refusal.nearest:
        advice = f" The nearest that is supported is {refusal.nearest} ({FAMILIES[refusal.nearest].examples})."
    raise UnsupportedModel(
        f"the architecture {model_type!r} is not supported: {refusal.reason}.{advice} "
        f"Supported are {', '.join(sorted(FAMILIES))}."
    )


# Rotary embeddings

# What each of the model builder's classes computes; it passes over other kinds without a word, or stops.
_ROPE_TYPES: dict[str, tuple[str, ...]] = {
    _LLAMA: ("default", "llama3", "dynamic"),  # "dynamic" changes nothing within max_position_embeddings
    "NemotronForCausalLM": ("default",),
    "HunYuanDenseV1ForCausalLM": ("default", "dynamic"),
    "Phi3ForCausalLM": ("default", "longrope"),
    "Gemma3ForCausalLM": ("default",),
}
_OTHER_ROPE_TYPES = ("default", "linear", "yarn")


def rope_of(config: Mapping[str, Any]) -> Config:
    """The rotary embedding's parameters, with a rope_type, from any generation of config.json.

    Of families with several, the one of the layers with full attention. Raises UnsupportedModel for another shape.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if isinstance(rope, dict) and isinstance(rope.get("full_attention"), dict):
        rope = rope["full_attention"]
    if not isinstance(rope, dict):
        raise UnsupportedModel(f"config.json has {rope!r} for its rotary embedding, where an object is needed.")
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    return {**rope, "rope_type": "longrope" if kind == "su" else kind}


def told_architecture(config: Mapping[str, Any]) -> str:
    """The architecture that the model builder is told.

    Its classes for llama and mistral differ in nothing but the kinds of rotary scaling they know, so either stands in
    for the other. Raises UnsupportedModel where neither knows this model's.
    """
    own = family_of(str(config.get("model_type"))).architecture
    kind = rope_of(config)["rope_type"]
    for candidate in (own, {_LLAMA: _MISTRAL, _MISTRAL: _LLAMA}.get(own, own)):
        if kind in _ROPE_TYPES.get(candidate, _OTHER_ROPE_TYPES):
            return candidate
    raise UnsupportedModel(
        f"this model's rotary embedding is of the kind {kind!r}, and for {config['model_type']!r} OGA's model builder "
        f"exports only {', '.join(_ROPE_TYPES.get(own, _OTHER_ROPE_TYPES))}."
    )


def _yarn(config: Mapping[str, Any]) -> Config:
    """YaRN's parameters (arXiv:2309.00071), such that the model builder computes what transformers does.

    transformers rounds the range of dimensions it blends over to whole ones, and the model builder does not: it is
    given the numbers of rotations at which that range ends after rounding.
    """
    rope = rope_of(config)
    try:
        factor = float(rope["factor"])
        base = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000)
        original = int(rope.get("original_max_position_embeddings") or config["max_position_embeddings"])
        half = int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]) / 2
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"config.json has incomplete YaRN parameters ({error}): {rope}.") from error
    attention = rope.get("attention_factor")
    if attention is None:
        grown = 0.1 * math.log(factor) if factor > 1 else 0.0
        scale, scale_all = rope.get("mscale"), rope.get("mscale_all_dim")
        attention = (grown * scale + 1) / (grown * scale_all + 1) if scale and scale_all else grown + 1

    def dimension(rotations: float) -> float:
        return half * math.log(original / (rotations * 2 * math.pi)) / math.log(base)

    def rotations(dimension: float) -> float:
        return original / (2 * math.pi * math.exp(math.log(base) * dimension / half))

    low, high = dimension(rope.get("beta_fast") or 32), dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low = max(low, 1e-12)  # the model builder wants more than 0
    if not low < high < half - 1 or rope.get("partial_rotary_factor", 1) != 1:
        raise UnsupportedModel(f"OGA's model builder cannot export these YaRN parameters: {rope}.")
    told = {name: value for name, value in rope.items() if name not in ("mscale_all_dim", "attention_factor")}
    return {**told, "beta_fast": rotations(low), "beta_slow": rotations(high), "mscale": attention}


# Decisions


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse what cannot be exported, by its configuration alone. Raises UnsupportedModel."""
    told_architecture(config)
    if rope_of(config)["rope_type"] == "yarn":
        _yarn(config)
    if config["model_type"] == "granitemoehybrid":
        if config.get("num_local_experts"):
            raise UnsupportedModel(f"this model has {config['num_local_experts']} experts: {_EXPERTS}.")
        layers = config.get("layer_types")
        if not isinstance(layers, list) or set(map(str, layers)) - {"attention", "full_attention"}:
            raise UnsupportedModel(f"this model has Mamba layers (layer_types = {layers!r}): {_HYBRID}.")
    if config.get("use_bidirectional_attention"):
        raise UnsupportedModel("this model looks ahead (use_bidirectional_attention): it is not one to chat with.")


def builder_config(config: Mapping[str, Any]) -> Config:
    """The config.json that makes the model builder export this model, from the one that transformers wrote."""
    family = family_of(config["model_type"])
    told = {**config, **family.facts(config), "architectures": [told_architecture(config)]}
    if rope_of(config)["rope_type"] == "yarn":
        told["rope_parameters"] = _yarn(config)
    if told.get("sliding_window") and not told.get("layer_types"):
        # The model builder exports a window only for layers that are called so, one by one.
        told["layer_types"] = ["sliding_attention"] * told["num_hidden_layers"]
        if told["architectures"][0] in (_LLAMA, _MISTRAL):
            told["model_type"] = "ministral"  # Mistral's own configuration class refuses layer_types
    return told


def context_limit(config: Mapping[str, Any]) -> int | None:
    """Tokens up to which the export computes what the model does, where that is less than its own limit.

    Beyond its first training length, LongRoPE changes all rotary embeddings, also those of cached tokens; Ministral 3
    scales its queries there.
    """
    rope = rope_of(config)
    if rope["rope_type"] == "longrope" or rope.get("llama_4_scaling_beta"):
        return int(rope.get("original_max_position_embeddings") or config["original_max_position_embeddings"])
    return None
