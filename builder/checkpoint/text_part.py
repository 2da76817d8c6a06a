"""The text part of models that also take images or sound: which are known, its configuration, its tensors' names.

Only it is loaded, quantized and served. What it is told of positions in an image is left out: within a text, the three
positions that Qwen's models rotate by are one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Whole:
    """A `model_type` whose text part is of a supported family. takes: what else it takes, which is not supported."""

    examples: str
    takes: str = "images"


WHOLES: dict[str, Whole] = {
    "gemma3": Whole("Gemma 3 4B, 12B and 27B"),
    "gemma4": Whole("Gemma 4 31B"),
    "gemma4_unified": Whole("Gemma 4 12B", "images and sound"),
    "mistral3": Whole("Ministral 3 3B, 8B and 14B, Mistral Small 3.1 and 3.2"),
    "qwen2_vl": Whole("Qwen2-VL", "images and videos"),
    "qwen2_5_vl": Whole("Qwen2.5-VL", "images and videos"),
    "qwen3_vl": Whole("Qwen3-VL 2B, 4B, 8B and 32B", "images and videos"),
    "qwen3_5": Whole("Qwen3.5 0.8B, 2B, 4B, 9B and 27B", "images and videos"),
    "qwen3_5_moe": Whole("Qwen3.5 35B-A3B and 122B-A10B", "images and videos"),
    "internvl": Whole("InternVL 2.5, 3 and 3.5 (-HF)", "images and videos"),
    "llava": Whole("LLaVA 1.5, Pixtral 12B"),
    "llava_next": Whole("LLaVA 1.6"),
    "idefics3": Whole("Idefics 3, SmolVLM"),
    "smolvlm": Whole("SmolVLM 2", "images and videos"),
}

# What transformers calls text models that compute what another family does.
_SAME_AS = {
    "qwen2_vl": "qwen2", "qwen2_vl_text": "qwen2", "qwen2_5_vl": "qwen2", "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
}  # fmt: skip

# What transformers takes for granted: their makers leave it out.
_UNSAID: dict[str, Config] = {
    "gemma3_text": {
        "vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
    },
    "gemma4_text": {
        "vocab_size": 262_144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131_072,
    },
    "gemma4_unified_text": {
        "vocab_size": 262_144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 262_144,
    },
    "qwen3_5_text": {"head_dim": 256},
    "qwen3_5_moe_text": {"head_dim": 256},
    "llama": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048,
    },
    "mistral": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
    },
}  # fmt: skip

_OTHER_PARTS = ("text_config", "vision_config", "audio_config", "quantization_config")
_OF_IMAGES = ("mrope_section", "mrope_interleaved")
# Several generations of names, as transformers' own renames take them.
RENAMES = {
    r"^(?:model\.(?:language_model|text_model)|language_model\.model)\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
}
_OWN = re.compile(r"model\.(?:embed_tokens|layers|norm)\.|lm_head\.")


def text_config(config: Mapping[str, Any]) -> Config:
    """The configuration of the text part, as a text model by itself has it, from a whole model's config.json."""
    inner = config.get("text_config")
    own: Config = dict(inner if isinstance(inner, dict) else config)  # Qwen's first ones have all in one
    model_type = str(own.get("model_type"))
    model_type = _SAME_AS.get(model_type, model_type)
    told = _UNSAID.get(model_type, {}) | {name: value for name, value in own.items() if name not in _OTHER_PARTS}
    for name in ("rope_parameters", "rope_scaling"):
        if isinstance(told.get(name), dict):
            told[name] = _of_text(told[name])
    tied = config.get(
        "tie_word_embeddings", own.get("tie_word_embeddings", model_type.startswith(("gemma3", "gemma4")))
    )
    for name in ("eos_token_id", "bos_token_id", "pad_token_id"):
        if name in config:
            told.setdefault(name, config[name])
    return {**told, "model_type": model_type, "tie_word_embeddings": tied}


def text_name(name: str) -> str | None:
    """What a text model by itself calls a tensor of a whole model; None for one of another part.

    >>> text_name("language_model.model.norm.weight"), text_name("vision_tower.encoder.layers.0.norm1.weight")
    ('model.norm.weight', None)
    """
    for pattern, replacement in RENAMES.items():
        name = re.sub(pattern, replacement, name)
    return name if _OWN.match(name) else None


def _of_text(rope: Mapping[str, Any]) -> Config:
    told = {name: value for name, value in rope.items() if name not in _OF_IMAGES}
    return {name: "default" if value == "mrope" else value for name, value in told.items()}
