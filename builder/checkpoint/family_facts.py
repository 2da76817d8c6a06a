"""What must be known of a family beyond its table, computed from the config.json that transformers writes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from builder.checkpoint.refused import GEGLU, PER_LAYER

Config = dict[str, Any]
HYBRID_KINDS = {"mamba", "linear_attention"}
_ANY = (None, [0.0, math.inf], [0.0, {"__float__": "Infinity"}])  # steps; the last as transformers writes it

# What the model builder must be told besides, or instead


def phi3(config: Mapping[str, Any]) -> Config:
    rope = config["rope_parameters"]
    if rope["rope_type"] != "longrope":
        return {"original_max_position_embeddings": config["max_position_embeddings"]}
    original = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or config["max_position_embeddings"] / original
    scale = rope.get("attention_factor") or math.sqrt(1 + math.log(max(factor, 1)) / math.log(original))
    return {"rope_parameters": {**rope, "type": "longrope", "short_mscale": scale, "long_mscale": scale}}


def gemma3(config: Mapping[str, Any]) -> Config:
    rope = config["rope_parameters"]
    return {
        "model_type": "gemma2",  # Gemma 3's own configuration class would take these facts apart again
        "rope_parameters": rope["full_attention"],
        "rope_local_base_freq": rope["sliding_attention"]["rope_theta"],
    }


def gemma4(config: Mapping[str, Any]) -> Config:
    """What layers without a window have otherwise than the others, where the model builder looks for it."""
    head_size, kv_heads = _gemma4_full(config)
    return {
        "use_bidirectional_attention": None,  # of images
        "per_layer_config": None,
        "model_type": "gemma3_text",  # Gemma 4's own configuration class would take these facts apart
        "global_head_dim": head_size,
        "num_global_key_value_heads": kv_heads,
        "attention_k_eq_v": bool(config.get("attention_k_eq_v")),
    }


def gemma4_attention(config: Mapping[str, Any]) -> int:
    """Of whichever of its two kinds has more."""
    heads, (head_size, kv_heads) = config["num_attention_heads"], _gemma4_full(config)
    usual = 2 * config["head_dim"] * (heads + config["num_key_value_heads"])
    return int(max(usual, 2 * head_size * (heads + kv_heads)))


def _gemma4_full(config: Mapping[str, Any]) -> tuple[int, int]:
    """Head size, and heads of keys and values, of layers without a window: from either generation of config.json."""
    kv_heads = config["num_key_value_heads"]
    for own in (config.get("per_layer_config") or {}).values():
        return own.get("head_dim", config["head_dim"]), own.get("num_key_value_heads", kv_heads)
    named = config.get("num_global_key_value_heads") if config.get("attention_k_eq_v") else None
    return config.get("global_head_dim") or 512, named or kv_heads


def olmo3(config: Mapping[str, Any]) -> Config:
    full, sliding = (config["rope_parameters"][kind] for kind in ("full_attention", "sliding_attention"))
    told = {"model_type": "ministral", "rope_parameters": full}  # OLMo 3's own class wants two kinds of rotation
    return told if full == sliding else {**told, "rope_local_base_freq": sliding["rope_theta"]}


def olmo(config: Mapping[str, Any]) -> Config:
    return {"rms_norm_eps": 1e-5}


def nemotron(config: Mapping[str, Any]) -> Config:
    return {"rms_norm_eps": config["norm_eps"]}


# What decides how much a state forgets: few weights, and the model builder wants them whole.
QWEN3_5_GATES = ("*.linear_attn.in_proj_a", "*.linear_attn.in_proj_b")

# OGA reads a prompt of this family as one that may be padded and have images: it masks every token that has the id of
# padding, and looks for images where two tokens have ids that a text model's settings lack, 0 for each.
QWEN3_5_SETTINGS = dict.fromkeys(("pad_token_id", "image_token_id", "video_token_id", "vision_start_token_id"), -1)

# What transformers takes for granted.
_QWEN3_5_SIZES = {
    "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "linear_key_head_dim": 128,
    "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
}  # fmt: skip


def qwen3_5(config: Mapping[str, Any]) -> Config:
    """The three positions of a token in a text are one, so it does not matter which of them turns which dimension.

    The layer that guesses tokens (multi-token prediction) is left out.
    """
    rope = config["rope_parameters"]
    pairs = int(config["head_dim"] * rope.get("partial_rotary_factor", 1)) // 2
    third = pairs // 3
    section = [pairs - 2 * third, third, third]
    return {
        "rope_parameters": {**rope, "mrope_section": section, "mrope_interleaved": True},
        "mtp_num_hidden_layers": 0,
    }


def qwen3_5_attention(config: Mapping[str, Any]) -> int:
    """Of whichever of its two kinds has more."""
    sizes = _QWEN3_5_SIZES | {name: config[name] for name in _QWEN3_5_SIZES if name in config}
    keys = sizes["linear_num_key_heads"] * sizes["linear_key_head_dim"]
    values = sizes["linear_num_value_heads"] * sizes["linear_value_head_dim"]
    full = sizes["head_dim"] * (3 * sizes["num_attention_heads"] + 2 * sizes["num_key_value_heads"])
    return int(max(full, 2 * keys + 3 * values))


def qwen3_5_moe_attention(config: Mapping[str, Any]) -> int:
    """With the expert that sees every token."""
    return qwen3_5_attention(config) + 3 * int(config.get("shared_expert_intermediate_size") or 512)


def qwen3_5_refused(config: Mapping[str, Any]) -> str:
    return _sizes_refused(config, *_QWEN3_5_SIZES, "shared_expert_intermediate_size")


def lfm2_intermediate(config: Mapping[str, Any]) -> int:
    """As transformers computes it: two thirds, multiplied, and up to a whole number of blocks."""
    size = config.get("block_ff_dim") or config.get("intermediate_size", 12_288)
    if not config.get("block_auto_adjust_ff_dim", True):
        return int(size)
    blocks = config.get("block_multiple_of", 256)
    adjusted = int((config.get("block_ffn_dim_multiplier") or 1) * int(2 * size / 3))
    return int(-(-adjusted // blocks) * blocks)


def lfm2_attention(config: Mapping[str, Any]) -> int:
    """Of a layer with a convolution, which has more: three times the hidden size in, and once out."""
    return 4 * int(config["hidden_size"])


_GRANITE4_KINDS = {"attention": "full_attention", "mamba": "linear_attention"}

# What transformers takes for granted.
_MAMBA = {
    "mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_head": "auto", "mamba_d_conv": 4,
    "mamba_expand": 2,
}  # fmt: skip


def granite4(config: Mapping[str, Any]) -> Config:
    """Mamba's layers are told as linear attention: C, B and inputs are its queries, keys and values."""
    kinds = [_GRANITE4_KINDS.get(kind, kind) for kind in config["layer_types"]]
    usual = {"model_type": "granite", "intermediate_size": config["shared_intermediate_size"], "layer_types": kinds}
    mamba = _mamba(config)
    return {
        **usual,
        "linear_key_head_dim": mamba["mamba_d_state"],
        "linear_value_head_dim": mamba["mamba_d_head"],
        "linear_num_key_heads": mamba["mamba_n_groups"],
        "linear_num_value_heads": mamba["mamba_n_heads"],
        "linear_conv_kernel_dim": mamba["mamba_d_conv"],
    }


def granite4_intermediate(config: Mapping[str, Any]) -> int:
    """Of each expert, where there are some."""
    return int(config["intermediate_size" if config.get("num_local_experts") else "shared_intermediate_size"])


def granite4_attention(config: Mapping[str, Any]) -> int:
    """Of whichever of its two kinds has more; with the MLP that sees every token beside experts."""
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads") or config["num_attention_heads"]
    found: int = 2 * int(config["hidden_size"]) // heads * (heads + kv_heads)
    if HYBRID_KINDS & set(config["layer_types"]):
        mamba = _mamba(config)
        inner = mamba["mamba_n_heads"] * mamba["mamba_d_head"]
        keys = mamba["mamba_n_groups"] * mamba["mamba_d_state"]
        found = max(found, int(3 * inner + 2 * keys + mamba["mamba_n_heads"]))
    return found + (3 * int(config["shared_intermediate_size"]) if config.get("num_local_experts") else 0)


def _mamba(config: Mapping[str, Any]) -> dict[str, Any]:
    sizes = _MAMBA | {name: config[name] for name in _MAMBA if config.get(name) is not None}
    if sizes["mamba_d_head"] == "auto":
        sizes["mamba_d_head"] = sizes["mamba_expand"] * config["hidden_size"] // sizes["mamba_n_heads"]
    return sizes


# Mixtures of experts


def always(config: Mapping[str, Any]) -> bool:
    return True


def normalised_experts(config: Mapping[str, Any]) -> bool:
    return bool(config.get("norm_topk_prob"))


# Layers that have no rotary embedding


def smollm3_without_rope(config: Mapping[str, Any]) -> Sequence[int]:
    return [layer for layer, rope in enumerate(config["no_rope_layers"]) if not rope]


def exaone4_without_rope(config: Mapping[str, Any]) -> Sequence[int]:
    if config["sliding_window"] is None:
        return ()
    return [layer for layer, kind in enumerate(config["layer_types"]) if kind == "full_attention"]


def granite4_without_rope(config: Mapping[str, Any]) -> Sequence[int]:
    return () if config["position_embedding_type"] == "rope" else range(config["num_hidden_layers"])


# Why a model of a supported family is not supported itself: "" for nothing


def gemma4_refused(config: Mapping[str, Any]) -> str:
    if wrong := _sizes_refused(config, "num_key_value_heads", "head_dim", needed=True):
        return wrong
    if config.get("enable_moe_block"):
        return f"this model has experts: {GEGLU}."
    inputs = 256 if config["model_type"] == "gemma4_text" else 0  # where it is not said
    if config.get("hidden_size_per_layer_input", inputs) or config.get("num_kv_shared_layers"):
        return f"this model is a small one: {PER_LAYER}."
    return ""


def _sizes_refused(config: Mapping[str, Any], *names: str, needed: bool = False) -> str:
    """Why these sizes cannot be: a reason, or "". needed: they must be there."""
    for name in names:
        size = config.get(name, None if needed else 1)
        if not isinstance(size, int) or size < 1:
            return f"config.json has {name} = {size!r} where a positive number is needed."
    return ""


def dense_layers_refused(config: Mapping[str, Any]) -> str:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        return "some of this model's layers have experts and some have none, which the export has no layers for."
    if config.get("hidden_act", "silu") != "silu":
        return f"this model's experts have {config['hidden_act']} where ONNX Runtime's have SiLU."
    return ""


def clipped_refused(config: Mapping[str, Any]) -> str:
    if config.get("clip_qkv"):
        return f"this model clips queries, keys and values (clip_qkv = {config['clip_qkv']}), and the export does not."
    return ""


def gpt_oss_refused(config: Mapping[str, Any]) -> str:
    if config.get("swiglu_alpha", 1.702) != 1.702:
        return f"this model has swiglu_alpha = {config['swiglu_alpha']}, where OGA's model builder always writes 1.702."
    layers = int(config.get("num_hidden_layers") or 0)
    usual = (["sliding_attention", "full_attention"] * layers)[:layers]
    if (config.get("layer_types") or usual) != usual:
        return "OGA's model builder writes a window for every second layer, and this model has others (layer_types)."
    return ""


def lfm2_moe_refused(config: Mapping[str, Any]) -> str:
    if not config.get("norm_topk_prob", True):
        return "this model's experts have weights that do not sum to 1, which OGA's model builder has no layer for."
    return ""


def granite4_refused(config: Mapping[str, Any]) -> str:
    if wrong := _sizes_refused(config, "shared_intermediate_size", needed=True):
        return wrong
    kinds = config.get("layer_types")
    known = {"attention", "full_attention", *HYBRID_KINDS}
    if not isinstance(kinds, list) or set(map(str, kinds)) - known or not set(map(str, kinds)) - HYBRID_KINDS:
        return (
            f"this model has layer_types = {kinds!r}, where some of attention, or of attention and Mamba, are needed."
        )
    if not set(map(str, kinds)) & HYBRID_KINDS:
        return ""
    if wrong := _sizes_refused(config, *(name for name in _MAMBA if config.get(name) not in (None, "auto"))):
        return wrong
    limited = config.get("time_step_limit") not in _ANY
    if config.get("mamba_n_groups", 1) != 1 or config.get("mamba_proj_bias") or limited:
        return "this model's Mamba layers have several groups, biases or a limited step, which the export has none of."
    return ""
