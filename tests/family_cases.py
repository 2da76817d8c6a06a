"""Tiny configurations of every family, for tests/family_chain.py; and of models that also see."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WINDOW = 48
VOCABULARY = 512

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_ROPE = {"rope_theta": 10_000.0}
_LLAMA3 = {
    **_ROPE, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
_YARN = {**_ROPE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
_GRANITE = {
    "embedding_multiplier": 3.0, "logits_scaling": 0.5, "residual_multiplier": 0.6, "attention_multiplier": 0.1,
}  # fmt: skip
_GRANITE4 = {
    **_GRANITE, "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 256,
    "layer_types": ["attention", "attention"],
}  # fmt: skip
_MAMBA = {
    "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16,
}  # fmt: skip
_ALTERNATING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_GATED_DELTA = {
    "head_dim": 64, "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 32,
    "linear_value_head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
}  # fmt: skip
_TIED = {"tie_word_embeddings": True}
_GEMMA4 = {
    **_TIED, **_ALTERNATING, "head_dim": 32, "global_head_dim": 64, "num_global_key_value_heads": 1,
    "attention_k_eq_v": True, "final_logit_softcapping": 8.0,
    "rope_parameters": {
        "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    },
}  # fmt: skip
_LONG_ROPE = {
    **_TIED, "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 262_144,
    "rope_parameters": {
        **_ROPE, "rope_type": "longrope", "partial_rotary_factor": 0.75,
        "short_factor": [1 + i / 10 for i in range(24)], "long_factor": [2 + i for i in range(24)],
    },
}  # fmt: skip
_EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}


@dataclass(frozen=True)
class Case:
    """A configuration of a family. windowed: attention that does not see further back than WINDOW."""

    model_type: str
    settings: Mapping[str, Any]
    windowed: bool = False


CASES: dict[str, Case] = {
    "llama": Case("llama", {"rope_parameters": _LLAMA3}),
    "llama, tied, biases": Case("llama", {**_TIED, "attention_bias": True, "mlp_bias": True, "head_dim": 64}),
    "llama, linear RoPE": Case("llama", {"rope_parameters": {**_ROPE, "rope_type": "linear", "factor": 4.0}}),
    "llama, dynamic RoPE": Case("llama", {"rope_parameters": {**_ROPE, "rope_type": "dynamic", "factor": 4.0}}),
    "llama, YaRN": Case("llama", {"rope_parameters": _YARN}),
    "mistral": Case("mistral", {"sliding_window": None}),
    "mistral, window": Case("mistral", {"sliding_window": WINDOW}, windowed=True),
    "ministral": Case("ministral", {**_ALTERNATING, "head_dim": 32}, windowed=True),
    "ministral3": Case(
        "ministral3",
        {
            "head_dim": 32,
            "rope_parameters": {
                **_YARN, "original_max_position_embeddings": 256, "mscale": 0.5, "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
    "qwen2": Case("qwen2", {**_TIED, "rope_parameters": {**_YARN, "factor": 2.0}}),
    "qwen2, window": Case(
        "qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}, windowed=True
    ),
    "qwen3": Case("qwen3", {**_TIED, "head_dim": 64}),
    "qwen3_moe": Case("qwen3_moe", {**_EXPERTS, "head_dim": 64, "norm_topk_prob": True}),
    "qwen3_moe, weights as they are": Case("qwen3_moe", {**_TIED, **_EXPERTS, "head_dim": 64, "num_experts": 48}),
    "mixtral": Case("mixtral", {"num_local_experts": 4, "sliding_window": None}),
    "granitemoe": Case("granitemoe", {**_GRANITE, **_TIED, "num_local_experts": 8, "num_experts_per_tok": 3}),
    "olmoe": Case("olmoe", {**_EXPERTS, "intermediate_size": 96}),
    "gpt_oss": Case(
        "gpt_oss",
        {
            **_ALTERNATING, "head_dim": 32, "num_local_experts": 4, "num_experts_per_tok": 2, "swiglu_limit": 1.5,
            "rope_parameters": {**_YARN, "rope_theta": 150_000.0, "truncate": False},
        },
        windowed=True,
    ),
    "phi3": Case("phi3", {"sliding_window": WINDOW}, windowed=True),
    "phi3, LongRoPE": Case("phi3", {**_LONG_ROPE, "original_max_position_embeddings": 256}),
    "phi3, LongRoPE, beyond": Case(
        "phi3", {**_LONG_ROPE, "original_max_position_embeddings": 128}
    ),
    "gemma": Case("gemma", {**_TIED, "head_dim": 64, "num_key_value_heads": 1}),
    "gemma2": Case(
        "gemma2",
        {
            **_TIED, "head_dim": 64, "query_pre_attn_scalar": 48, "sliding_window": WINDOW,
            "attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0,
        },
        windowed=True,
    ),
    "gemma3_text": Case(
        "gemma3_text", {**_TIED, **_ALTERNATING, "head_dim": 64, "query_pre_attn_scalar": 48}, windowed=True
    ),
    "gemma4_unified_text": Case("gemma4_unified_text", _GEMMA4, windowed=True),
    "gemma4_text": Case(
        "gemma4_text",
        {**_GEMMA4, "hidden_size_per_layer_input": 0, "attention_k_eq_v": False, "num_global_key_value_heads": None},
        windowed=True,
    ),
    "qwen3_5_text": Case("qwen3_5_text", {**_TIED, **_GATED_DELTA}),
    "qwen3_5_moe_text": Case(
        "qwen3_5_moe_text", {**_GATED_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 64}
    ),
    "lfm2_moe": Case(
        "lfm2_moe",
        {
            **_TIED, **_EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1,
            "routed_scaling_factor": 1.5,
        },
    ),
    "lfm2": Case("lfm2", {**_TIED, "layer_types": ["conv", "full_attention"], "block_multiple_of": 64}),
    "granite": Case("granite", _GRANITE),
    "granitemoehybrid": Case("granitemoehybrid", {**_GRANITE4, **_TIED, "position_embedding_type": "rope"}),
    "granitemoehybrid, no RoPE": Case("granitemoehybrid", _GRANITE4),
    "granitemoehybrid, Mamba": Case(
        "granitemoehybrid",
        {**_GRANITE4, **_MAMBA, "num_local_experts": 8, "num_experts_per_tok": 3, "intermediate_size": 96},
    ),
    "hunyuan_v1_dense": Case(
        "hunyuan_v1_dense",
        {**_TIED, "head_dim": 64, "rope_parameters": {**_ROPE, "rope_type": "dynamic", "alpha": 1000.0, "factor": 1.0}},
    ),
    "smollm3": Case("smollm3", {**_TIED, "no_rope_layers": [1, 0]}),
    "ernie4_5": Case("ernie4_5", {**_TIED, "head_dim": 64}),
    "nemotron": Case("nemotron", {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}),
    "seed_oss": Case("seed_oss", {"head_dim": 64}),
    "internlm3": Case("internlm3", {"qkv_bias": True, "bias": True, "head_dim": 32}),
    "helium": Case("helium", {"head_dim": 32}),
    "glm": Case("glm", {"head_dim": 64, "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}),
    "olmo": Case("olmo", {}),
    "olmo2": Case("olmo2", {}),
    "olmo3": Case(
        "olmo3",
        {
            **_ALTERNATING,
            "rope_parameters": {
                "full_attention": {**_YARN, "rope_theta": 500_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500_000.0},
            },
        },
        windowed=True,
    ),
    "olmo3, no YaRN": Case("olmo3", _ALTERNATING, windowed=True),
    "exaone4": Case(
        "exaone4", {**_TIED, "sliding_window": None, "layer_types": ["full_attention"] * 2, "rope_parameters": _LLAMA3}
    ),
    "exaone4, hybrid": Case("exaone4", _ALTERNATING, windowed=True),
    "glm4": Case("glm4", {"head_dim": 64, "attention_bias": True}),
    "cwm": Case("cwm", {**_ALTERNATING, "head_dim": 32, "rope_parameters": _LLAMA3}, windowed=True),
}  # fmt: skip

_EYES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_QWEN_EYES = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 128}
_MROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}
_IMAGE_TOKENS = {"image_token_id": 500, "video_token_id": 501, "vision_start_token_id": 502, "vision_end_token_id": 503}

# Models that also see. settings: of the text part, and by itself what else the whole configuration has.
WHOLE_MODELS: dict[str, tuple[Case, Mapping[str, Any]]] = {
    "gemma3": (
        Case(
            "gemma3_text",
            {
                **_TIED, **_ALTERNATING, "head_dim": 64, "query_pre_attn_scalar": 48,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
                },
            },
        ),
        {
            "tie_word_embeddings": True, "image_token_index": 500, "boi_token_index": 501, "eoi_token_index": 502,
            "mm_tokens_per_image": 4, "vision_config": {**_EYES, "image_size": 28, "patch_size": 14},
        },
    ),
    "gemma4": (
        Case("gemma4_text", {**_GEMMA4, "hidden_size_per_layer_input": 0}),
        {
            **_TIED, "image_token_id": 600, "video_token_id": 603, "audio_config": None, "boi_token_id": 601,
            "eoi_token_id": 602, "vision_config": {**_EYES, "num_key_value_heads": 2, "head_dim": 16},
        },
    ),
    "gemma4_unified": (
        Case("gemma4_unified_text", _GEMMA4),
        {
            **_TIED, "image_token_id": 600, "boi_token_id": 601, "eoi_token_id": 602, "audio_config": None,
            "vision_config": {"mm_embed_dim": 32, "mm_posemb_size": 8, "patch_size": 2, "output_proj_dims": 128},
        },
    ),
    "mistral3": (
        Case(
            "ministral3",
            {
                "head_dim": 32,
                "rope_parameters": {**_YARN, "original_max_position_embeddings": 256, "llama_4_scaling_beta": 0.1},
            },
        ),
        {"tie_word_embeddings": False, "image_token_index": 500, "vision_config": {**_EYES, "model_type": "pixtral"}},
    ),
    "qwen2_vl": (
        Case("qwen2_vl_text", {"rope_parameters": _MROPE}),
        {**_IMAGE_TOKENS, "vision_config": {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 128}},
    ),
    "qwen2_5_vl": (
        Case("qwen2_5_vl_text", {**_TIED, "rope_parameters": _MROPE}),
        {**_TIED, **_IMAGE_TOKENS, "vision_config": _QWEN_EYES},
    ),
    "qwen3_vl": (
        Case("qwen3_vl_text", {**_TIED, "head_dim": 32, "rope_parameters": {**_MROPE, "mrope_interleaved": True}}),
        {**_TIED, **_IMAGE_TOKENS, "vision_config": {**_QWEN_EYES, "deepstack_visual_indexes": [0]}},
    ),
    "qwen3_5": (
        Case(
            "qwen3_5_text",
            {
                **_TIED, **_GATED_DELTA, "layer_types": ["full_attention", "linear_attention"],
                "mtp_num_hidden_layers": 1,
            },
        ),
        {**_TIED, **_IMAGE_TOKENS, "vision_config": _QWEN_EYES},
    ),
    "qwen3_5_moe": (
        Case(
            "qwen3_5_moe_text",
            {
                **_GATED_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 64, "mtp_num_hidden_layers": 1,
                "layer_types": ["full_attention", "linear_attention"],
            },
        ),
        {"tie_word_embeddings": False, **_IMAGE_TOKENS, "vision_config": _QWEN_EYES},
    ),
    "internvl": (
        Case("qwen3", {"head_dim": 32}),
        {"tie_word_embeddings": False, "image_token_id": 500, "vision_config": {**_EYES, "image_size": 28}},
    ),
    "llava": (Case("llama", {}), {"image_token_index": 500, "vision_config": {**_EYES, "projection_dim": 32}}),
    "llava_next": (Case("mistral", {"sliding_window": None}), {"image_token_index": 500, "vision_config": _EYES}),
    "idefics3": (Case("llama", {}), {"image_token_id": 500, "vision_config": {**_EYES, "image_size": 28}}),
    "smolvlm": (Case("llama", _TIED), {**_TIED, "image_token_id": 500, "vision_config": _EYES}),
}  # fmt: skip


def config_of(case: Case) -> Any:
    """What transformers makes such a model of."""
    from transformers import AutoConfig

    return AutoConfig.for_model(case.model_type, **{**SHAPE, **case.settings})
