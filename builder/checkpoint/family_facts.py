"""What must be known of a family beyond its table, computed from the config.json that transformers writes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from builder.checkpoint.refused import EXPERTS, HYBRID

Config = dict[str, Any]

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


def olmo3(config: Mapping[str, Any]) -> Config:
    full, sliding = (config["rope_parameters"][kind] for kind in ("full_attention", "sliding_attention"))
    told = {"model_type": "ministral", "rope_parameters": full}  # OLMo 3's own class wants two kinds of rotation
    return told if full == sliding else {**told, "rope_local_base_freq": sliding["rope_theta"]}


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


def qwen3_5_refused(config: Mapping[str, Any]) -> str:
    for name in _QWEN3_5_SIZES:
        size = config.get(name, 1)
        if not isinstance(size, int) or size < 1:
            return f"config.json has {name} = {size!r} where a positive number is needed."
    return ""


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


def granite4(config: Mapping[str, Any]) -> Config:
    return {
        "model_type": "granite",
        "intermediate_size": config["shared_intermediate_size"],
        "layer_types": ["full_attention"] * config["num_hidden_layers"],
    }


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


def dense_layers_refused(config: Mapping[str, Any]) -> str:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        return "some of this model's layers have experts and some have none, which the export has no layers for."
    if config.get("hidden_act", "silu") != "silu":
        return f"this model's experts have {config['hidden_act']} where ONNX Runtime's have SiLU."
    return ""


def granite4_refused(config: Mapping[str, Any]) -> str:
    if config.get("num_local_experts"):
        return f"this model has {config['num_local_experts']} experts: {EXPERTS}."
    layers = config.get("layer_types")
    if not isinstance(layers, list) or set(map(str, layers)) - {"attention", "full_attention"}:
        return f"this model has Mamba layers (layer_types = {layers!r}): {HYBRID}."
    return ""
