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


def granite4(config: Mapping[str, Any]) -> Config:
    return {
        "model_type": "granite",
        "intermediate_size": config["shared_intermediate_size"],
        "layer_types": ["full_attention"] * config["num_hidden_layers"],
    }


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


def granite4_refused(config: Mapping[str, Any]) -> str:
    if config.get("num_local_experts"):
        return f"this model has {config['num_local_experts']} experts: {EXPERTS}."
    layers = config.get("layer_types")
    if not isinstance(layers, list) or set(map(str, layers)) - {"attention", "full_attention"}:
        return f"this model has Mamba layers (layer_types = {layers!r}): {HYBRID}."
    return ""
