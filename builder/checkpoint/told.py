"""What OGA's model builder is told of a model, which is not always what its config.json says."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from builder.checkpoint.families import LLAMA, MISTRAL
from builder.checkpoint.family_facts import Config
from builder.checkpoint.model import Model
from builder.errors import UnsupportedModel

# What each of the model builder's classes computes; it passes over other kinds without a word, or stops.
_ROPE_TYPES: dict[str, tuple[str, ...]] = {
    LLAMA: ("default", "llama3", "dynamic"),  # "dynamic" changes nothing within max_position_embeddings
    "NemotronForCausalLM": ("default",),
    "HunYuanDenseV1ForCausalLM": ("default", "dynamic"),
    "Phi3ForCausalLM": ("default", "longrope"),
    "Gemma3ForCausalLM": ("default", "linear"),
    "Gemma4UnifiedForConditionalGeneration": ("proportional",),
    "GptOssForCausalLM": ("yarn",),
    "OlmoForCausalLM": ("default",),
}
_OTHER_ROPE_TYPES = ("default", "linear", "yarn")


def check(model: Model) -> None:
    """Refuse what the model builder cannot export. Raises UnsupportedModel."""
    architecture(model)
    if model.rope["rope_type"] == "yarn":
        _yarn(model)


def architecture(model: Model) -> str:
    """The architecture that the model builder is told.

    Its classes for llama and mistral differ in nothing but the kinds of rotary scaling they know, so either stands in
    for the other. Raises UnsupportedModel where neither knows this model's.
    """
    own, kind = model.family.architecture, model.rope["rope_type"]
    for candidate in (own, {LLAMA: MISTRAL, MISTRAL: LLAMA}.get(own, own)):
        if kind in _ROPE_TYPES.get(candidate, _OTHER_ROPE_TYPES):
            return candidate
    raise UnsupportedModel(
        f"this model's rotary embedding is of the kind {kind!r}, and for {model.model_type!r} OGA's model builder "
        f"exports only {', '.join(_ROPE_TYPES.get(own, _OTHER_ROPE_TYPES))}."
    )


def own_config(model: Model) -> Config:
    """The configuration of the text part of a larger model, for transformers."""
    return dict(model.raw)


def with_head(model: Model, own: bool) -> Model:
    """The same with an output layer of its own, or one that shares the embeddings' weights.

    Of larger models the configurations disagree, and the weights tell.
    """
    return replace(model, shape=replace(model.shape, tied=not own), raw={**model.raw, "tie_word_embeddings": not own})


def builder_config(model: Model) -> Config:
    """The config.json that makes the model builder export this model, from the one that transformers wrote."""
    told = {**model.raw, **model.family.facts(model.raw), "architectures": [architecture(model)]}
    if model.rope["rope_type"] == "yarn":
        told["rope_parameters"] = _yarn(model)
    if told.get("sliding_window") and not told.get("layer_types"):
        # The model builder exports a window only for layers that are called so, one by one.
        told["layer_types"] = ["sliding_attention"] * told["num_hidden_layers"]
        if told["architectures"][0] in (LLAMA, MISTRAL):
            told["model_type"] = "ministral"  # Mistral's own configuration class refuses layer_types
    return told


def without_rope(model: Model) -> Sequence[int]:
    """Layers whose queries and keys are not rotated, from the config.json that transformers wrote."""
    return model.family.without_rope(model.raw)


def normalised_experts(model: Model) -> bool:
    """Whether the weights of the experts that see a token are made to sum to 1."""
    return model.family.experts is not None and model.family.experts.normalised(model.raw)


def embedding_scale(model: Model) -> float | None:
    """What embeddings are multiplied by, where they are."""
    return math.sqrt(model.shape.hidden) if model.family.embedding_scaled else None


def kv_layers(model: Model) -> int:
    """Layers that keep keys and values; the others keep a state, whose size no token changes."""
    kinds = model.raw.get("layer_types") or ()
    return model.shape.layers - sum(kind in ("linear_attention", "conv", "mamba") for kind in kinds)


def has_mamba(model: Model) -> bool:
    """Whether some of its layers are Mamba's, which the model builder has none of."""
    return model.model_type == "granitemoehybrid" and kv_layers(model) < model.shape.layers


def context_limit(model: Model) -> int | None:
    """Tokens up to which the export computes what the model does, where that is less than its own limit.

    Beyond its first training length, Ministral 3 scales its queries. Raises UnsupportedModel where the configuration
    does not tell that length.
    """
    return _trained(model) if model.rope.get("llama_4_scaling_beta") else None


def turn(model: Model) -> int | None:
    """Tokens beyond which all of a conversation is computed otherwise, where there is such a length.

    Beyond its first training length, LongRoPE (arXiv:2402.13753) rotates every token otherwise, also those that are in
    a KV cache. Raises UnsupportedModel where the configuration does not tell that length.
    """
    return _trained(model) if model.rope["rope_type"] == "longrope" else None


def _trained(model: Model) -> int:
    if model.trained_positions is None:
        raise UnsupportedModel("config.json has no original_max_position_embeddings, beyond which this model changes.")
    return model.trained_positions


def _yarn(model: Model) -> Config:
    """YaRN's parameters (arXiv:2309.00071), such that the model builder computes what transformers does.

    transformers rounds the range of dimensions it blends over to whole ones, and the model builder does not: it is
    given the numbers of rotations at which that range ends after rounding.
    """
    rope = model.rope
    try:
        factor = float(rope["factor"])
        base = float(rope.get("rope_theta") or model.raw.get("rope_theta") or 10_000)
        original = int(cast(int, rope.get("original_max_position_embeddings") or model.positions))
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"config.json has incomplete YaRN parameters ({error}): {rope}.") from error
    half = model.shape.head_size / 2
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
