"""What is known of each model family, as data: how Quark and OGA's model builder must be told about it, and its limits.

The model builder knows fewer families than transformers, and reads less of a configuration. Where the layers of a
family are those of another, it is told the other's architecture; where it looks for a fact elsewhere, the fact is put
there. Each supported family is proved by tests/family_chain.py: what is exported computes what Quark quantized.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from builder.checkpoint import family_facts as facts
from builder.checkpoint.family_facts import Config
from builder.checkpoint.refused import REFUSED, Refusal
from builder.checkpoint.text_part import WHOLES
from builder.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Layers:
    """A decoder layer that the model builder has no class for.

    norms_before: there are norms before attention and before the MLP. norms_after: there are such after both, before
    the sum.
    norms_of_q_k: of each head of queries and keys, of all their heads together, or none.
    """

    norms_before: bool
    norms_of_q_k: Literal["head", "all", "none"] = "none"
    norms_after: bool = True


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in each layer, of which a router chooses some for each token.

    number: the configuration's names for how many there are, of any generation; active: for how many are chosen.
    normalised: whether the chosen ones' weights are made to sum to 1.
    names: parts of tensor names in a checkpoint, and what transformers calls them.
    optional: some models of the family have none.
    """

    number: tuple[str, ...] = ("num_experts", "num_local_experts")
    active: str = "num_experts_per_tok"
    normalised: Callable[[Mapping[str, Any]], bool] = facts.normalised_experts
    names: tuple[tuple[str, str], ...] = ()
    optional: bool = False


def _none(config: Mapping[str, Any]) -> Config:
    return {}


def _every_layer_has_rope(config: Mapping[str, Any]) -> Sequence[int]:
    return ()


def _nothing(config: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type` of a Hugging Face config.json.

    awq_template: the Quark template whose layer names fit, and which scales nothing that does not pass a scale on: the
    "olmo" of Quark scales no norms. unscaled: what of the template does not do so in this family.
    examples: models that a user may know it by.
    architecture: the model builder's own for such layers.
    limits: what of the family is not supported; empty for nothing known.
    refused: why a model with this configuration is not supported; empty for nothing.
    facts: what the model builder must be told besides, or instead, computed from the configuration.
    tensor_names: parts of tensor names, and what the model builder calls them.
    intermediate: the configuration's name for the input size of down_proj, or what it is.
    without_rope: layers that have no rotary embedding, where the family has such.
    embedding_scaled: the embeddings are multiplied by the square root of the hidden size.
    unquantized: linears that stay as they are, by patterns of their names.
    settings: of the exported model, which the model builder leaves out or sets to what does harm.
    attention: what its linears of attention have for each value of a token, where these are not q, k, v and o; and
    others that see every token beside experts.
    layers: what its layers are like, where the model builder has none of their kind.
    experts: of a mixture of experts, which takes the MLP's place.
    """

    awq_template: str
    examples: str
    architecture: str
    limits: str = ""
    refused: Callable[[Mapping[str, Any]], str] = _nothing
    facts: Callable[[Mapping[str, Any]], Config] = _none
    tensor_names: tuple[tuple[str, str], ...] = ()
    intermediate: str | Callable[[Mapping[str, Any]], int] = "intermediate_size"
    without_rope: Callable[[Mapping[str, Any]], Sequence[int]] = _every_layer_has_rope
    embedding_scaled: bool = False
    attention: Callable[[Mapping[str, Any]], int] | None = None
    layers: Layers | None = None
    experts: Experts | None = None
    unscaled: tuple[str, ...] = ()
    unquantized: tuple[str, ...] = ()
    settings: Mapping[str, int] = field(default_factory=dict)


LLAMA, MISTRAL = "LlamaForCausalLM", "MistralForCausalLM"
_FLOAT16, _CPU = "the exporter warns against float16 providers", "exported for the CPU only"

_GRANITE_EXPERTS = (("block_sparse_moe.router.", "mlp.gate."), ("block_sparse_moe.", "mlp."))
_GRANITE_FUSED = (
    ("block_sparse_moe.input_linear.weight", "block_sparse_moe.experts.gate_up_proj"),
    ("block_sparse_moe.output_linear.weight", "block_sparse_moe.experts.down_proj"),
    ("router.layer.weight", "router.weight"),
)
_LFM2_NAMES = (
    ("feed_forward.w1", "mlp.gate_proj"),
    ("feed_forward.w3", "mlp.up_proj"),
    ("feed_forward.w2", "mlp.down_proj"),
    ("self_attn.out_proj", "self_attn.o_proj"),
    ("q_layernorm", "q_norm"),
    ("k_layernorm", "k_norm"),
    ("operator_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("embedding_norm", "norm"),
)

_GEMMA4 = Family(
    "gemma4_unified",
    "Gemma 4 12B (text)",
    "Gemma4UnifiedForConditionalGeneration",
    _FLOAT16,
    facts=facts.gemma4,
    refused=facts.gemma4_refused,
    attention=facts.gemma4_attention,
    embedding_scaled=True,
)

FAMILIES: dict[str, Family] = {
    "llama": Family("llama", "Llama 2, 3, 3.1 and 3.2, SmolLM2, TinyLlama, Yi", LLAMA),
    "mistral": Family("mistral", "Mistral 7B, Mistral Nemo, Zephyr", MISTRAL),
    "ministral": Family("mistral", "Ministral 8B", MISTRAL),
    "ministral3": Family("mistral", "Ministral 3 (text)", MISTRAL, "context up to original_max_position_embeddings"),
    "qwen2": Family("qwen2", "Qwen 1.5, 2 and 2.5, DeepSeek-R1-Distill-Qwen", "Qwen2ForCausalLM"),
    "qwen3": Family("llama", "Qwen3 0.6B to 32B", "Qwen3ForCausalLM"),
    "qwen3_moe": Family(
        "llama",
        "Qwen3 30B-A3B and 235B-A22B, Qwen3-Coder 30B-A3B",
        "Qwen3ForCausalLM",
        _CPU,
        intermediate="moe_intermediate_size",
        experts=Experts(),
        refused=facts.dense_layers_refused,
    ),
    "mixtral": Family(
        "mistral",
        "Mixtral 8x7B and 8x22B",
        MISTRAL,
        _CPU,
        experts=Experts(
            number=("num_local_experts",),
            normalised=facts.always,
            names=(("block_sparse_moe.", "mlp."),),
        ),
    ),
    "granitemoe": Family(
        "llama",
        "Granite 3 1B-A400M and 3B-A800M",
        "GraniteForCausalLM",
        _CPU,
        tensor_names=_GRANITE_EXPERTS,
        experts=Experts(number=("num_local_experts",), normalised=facts.always, names=_GRANITE_FUSED),
    ),
    "olmoe": Family(
        "llama",
        "OLMoE 1B-7B",
        "Qwen3ForCausalLM",
        _CPU,
        layers=Layers(norms_before=True, norms_of_q_k="all", norms_after=False),
        experts=Experts(number=("num_experts",)),
        refused=facts.clipped_refused,
    ),
    "gpt_oss": Family(
        "gpt_oss",
        "gpt-oss 20B and 120B",
        "GptOssForCausalLM",
        _CPU,
        experts=Experts(number=("num_local_experts",), normalised=facts.always),
        unscaled=("up_proj",),  # 1 is added to its outputs
        refused=facts.gpt_oss_refused,
    ),
    "phi3": Family(
        "phi3",
        "Phi-3, Phi-3.5 and Phi-4 mini, Phi-4",
        "Phi3ForCausalLM",
        facts=facts.phi3,
    ),
    "gemma": Family("gemma2", "Gemma 1.1", "GemmaForCausalLM", embedding_scaled=True),
    "gemma2": Family("gemma2", "Gemma 2", "Gemma2ForCausalLM", _FLOAT16, embedding_scaled=True),
    "gemma3_text": Family(
        "gemma3_text", "Gemma 3 270M and 1B", "Gemma3ForCausalLM", _FLOAT16, facts=facts.gemma3, embedding_scaled=True
    ),
    "gemma4_unified_text": _GEMMA4,
    "gemma4_text": replace(_GEMMA4, examples="Gemma 4 31B (text)"),
    "qwen3_5_text": Family(
        "qwen3_5",
        "Qwen3.5 0.8B to 27B (text)",
        "Qwen3_5ForConditionalGeneration",
        facts=facts.qwen3_5,
        attention=facts.qwen3_5_attention,
        unquantized=facts.QWEN3_5_GATES,
        settings=facts.QWEN3_5_SETTINGS,
        refused=facts.qwen3_5_refused,
    ),
    "lfm2": Family(
        "lfm2",
        "LFM2 and LFM2.5 350M to 2.6B",
        "Lfm2ForCausalLM",
        intermediate=facts.lfm2_intermediate,
        attention=facts.lfm2_attention,
        tensor_names=_LFM2_NAMES,
    ),
    "qwen3_5_moe_text": Family(
        "qwen3_5_moe",
        "Qwen3.5 35B-A3B and 122B-A10B (text)",
        "Qwen3_5MoeForConditionalGeneration",
        _CPU,
        intermediate="moe_intermediate_size",
        facts=facts.qwen3_5,
        attention=facts.qwen3_5_moe_attention,
        experts=Experts(number=("num_experts",), normalised=facts.always),
        unquantized=(*facts.QWEN3_5_GATES, "*.mlp.shared_expert_gate"),
        settings=facts.QWEN3_5_SETTINGS,
        refused=facts.qwen3_5_refused,
    ),
    "lfm2_moe": Family(
        "lfm2",
        "LFM2 and LFM2.5 8B-A1B, LFM2 24B-A2B",
        "Lfm2MoeForCausalLM",
        _CPU,
        intermediate="moe_intermediate_size",
        attention=facts.lfm2_attention,
        tensor_names=(*_LFM2_NAMES, ("feed_forward.", "mlp.")),
        experts=Experts(number=("num_experts",)),
        refused=facts.lfm2_moe_refused,
    ),
    "granite": Family("llama", "Granite 3", "GraniteForCausalLM"),
    "granitemoehybrid": Family(
        "llama",
        "Granite 4.0: Micro, 1B, 350M, and H with Mamba 2: Micro, Tiny, Small",
        "GraniteForCausalLM",
        "with experts exported for the CPU only",
        facts=facts.granite4,
        tensor_names=(
            ("shared_mlp.input_linear", "mlp.gate_up_proj"),
            ("shared_mlp.output_linear", "mlp.down_proj"),
            *_GRANITE_EXPERTS,
        ),
        intermediate=facts.granite4_intermediate,
        attention=facts.granite4_attention,
        without_rope=facts.granite4_without_rope,
        experts=Experts(("num_local_experts",), normalised=facts.always, names=_GRANITE_FUSED, optional=True),
        refused=facts.granite4_refused,
    ),
    "hunyuan_v1_dense": Family("hunyuan_v1_dense", "Hunyuan 0.5B to 7B, Hunyuan-MT", "HunYuanDenseV1ForCausalLM"),
    "smollm3": Family("llama", "SmolLM3", LLAMA, without_rope=facts.smollm3_without_rope),
    "ernie4_5": Family("llama", "ERNIE 4.5 0.3B", "Ernie4_5ForCausalLM"),
    "nemotron": Family(
        "olmo",
        "Nemotron-Mini, Minitron",
        "NemotronForCausalLM",
        facts=facts.nemotron,
        unscaled=("mlp.up_proj",),  # its outputs are squared
    ),
    "seed_oss": Family("llama", "Seed-OSS 36B", LLAMA),
    "internlm3": Family("llama", "InternLM3 8B", LLAMA),
    "helium": Family("llama", "Helium 1", "Ernie4_5ForCausalLM"),
    "glm": Family("llama", "GLM-4 9B Chat, GLM-Edge", "Ernie4_5ForCausalLM"),
    "cwm": Family("llama", "Code World Model", LLAMA),
    "olmo": Family("olmo", "OLMo 1", "OlmoForCausalLM", facts=facts.olmo, refused=facts.clipped_refused),
    "olmo2": Family("olmo", "OLMo 2", LLAMA, layers=Layers(norms_before=False, norms_of_q_k="all")),
    "olmo3": Family("olmo", "OLMo 3", LLAMA, facts=facts.olmo3, layers=Layers(norms_before=False, norms_of_q_k="all")),
    "exaone4": Family(
        "olmo",
        "EXAONE 4.0",
        LLAMA,
        without_rope=facts.exaone4_without_rope,
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
        f"Supported are {', '.join(sorted(FAMILIES))}, and the text part of {', '.join(sorted(WHOLES))}."
    )
