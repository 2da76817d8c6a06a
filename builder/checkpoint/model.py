"""What config.json says of a language model, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from builder.checkpoint.families import Family, family_of
from builder.checkpoint.text_part import WHOLES, text_config, text_name
from builder.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder.

    rotated: values of each head that the rotary embedding turns. attention: weights that the linears of attention have
    for each value of a token, of the layer that has most. intermediate: of each expert, where there are some.
    experts, active: how many a layer has, and how many of them see a token; one, of a layer that has none.
    """

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    rotated: int
    tied: bool
    attention: int
    experts: int = 1
    active: int = 1

    @property
    def linears(self) -> int:
        """Weights of the linear layers of a decoder layer."""
        return self.hidden * (self.attention + 3 * self.intermediate * self.experts)

    @property
    def seen(self) -> int:
        """Of these, those that a token is multiplied with."""
        return self.hidden * (self.attention + 3 * self.intermediate * self.active)

    @property
    def embeddings(self) -> int:
        """Parameters of the table of tokens."""
        return self.vocabulary * self.hidden

    @property
    def tables(self) -> int:
        """Those, and the output layer's, unless it shares them."""
        return self.embeddings * (1 if self.tied else 2)


@dataclass(frozen=True, slots=True)
class Model:
    """A language model of a supported family.

    rope: the rotary embedding's parameters, with a rope_type; of families with several, of the layers with full
    attention.
    positions: tokens of its context window, where the configuration tells.
    trained_positions: tokens of its first training, where a scaled rotary embedding extends them.
    raw: config.json as it is, or what it says of the text part, for transformers and for OGA's model builder, which
    reads another one: see told.py, the only reader.
    part_of: the model_type of the whole model, where this is the text part of one that takes more than text.
    """

    model_type: str
    family: Family
    shape: Shape
    rope: Mapping[str, Any]
    positions: int | None
    trained_positions: int | None
    raw: Mapping[str, Any]
    part_of: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Model":
        """From the content of config.json. Raises UnsupportedModel, with the reason and what there is instead."""
        whole = str(config.get("model_type"))
        part_of = whole if whole in WHOLES else ""
        config = text_config(config) if part_of else config
        model_type = str(config.get("model_type"))
        family = family_of(model_type)
        if family.experts and family.experts.optional and not config.get(family.experts.number[0]):
            family = replace(family, experts=None)
        if reason := family.refused(config):
            raise UnsupportedModel(reason)
        if config.get("use_bidirectional_attention") not in (None, False, "vision"):
            raise UnsupportedModel("this model looks ahead (use_bidirectional_attention): it is not one to chat with.")
        rope = _rope(config)
        trained = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
        return cls(
            model_type=model_type,
            family=family,
            shape=_shape(config, family, rope),
            rope=rope,
            positions=_optional(config.get("max_position_embeddings")),
            trained_positions=_optional(trained),
            raw=config,
            part_of=part_of,
        )

    @property
    def note(self) -> str:
        """What is worth saying of it before it is built or served; empty for nothing."""
        if not self.part_of:
            return ""
        return f"{WHOLES[self.part_of].takes} are not supported: the text part of {self.part_of} is served."

    def tensor(self, name: str) -> str | None:
        """What this model calls a tensor of its checkpoint; None for one of another part."""
        return text_name(name) if self.part_of else name


def _shape(config: Mapping[str, Any], family: Family, rope: Mapping[str, Any]) -> Shape:
    layers, vocabulary, hidden = (_size(config, key) for key in ("num_hidden_layers", "vocab_size", "hidden_size"))
    heads = _size(config, "num_attention_heads")
    head_size = _size(config, "head_dim") if config.get("head_dim") else hidden // heads
    kv_heads = _size(config, "num_key_value_heads") if config.get("num_key_value_heads") else heads
    usual = 2 * head_size * (heads + kv_heads)
    return Shape(
        vocabulary=vocabulary,
        hidden=hidden,
        intermediate=_intermediate(config, family),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        rotated=int(head_size * _rotated_share(config, rope)),
        tied=bool(config.get("tie_word_embeddings")),
        attention=family.attention(config) if family.attention else usual,
        experts=_experts(config, family),
        active=_size(config, family.experts.active) if family.experts else 1,
    )


def _experts(config: Mapping[str, Any], family: Family) -> int:
    names = family.experts.number if family.experts else ()
    name = next((name for name in names if name in config), names[0]) if names else ""
    return _size(config, name) if name else 1


def _intermediate(config: Mapping[str, Any], family: Family) -> int:
    named = family.intermediate
    return (
        _size(config, named)
        if isinstance(named, str)
        else _size({"intermediate_size": named(config)}, "intermediate_size")
    )


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """From any generation of config.json."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if isinstance(rope, dict) and isinstance(rope.get("full_attention"), dict):
        rope = rope["full_attention"]
    if not isinstance(rope, dict):
        raise UnsupportedModel(f"config.json has {rope!r} for its rotary embedding, where an object is needed.")
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    return {**rope, "rope_type": "longrope" if kind == "su" else kind}


def _rotated_share(config: Mapping[str, Any], rope: Mapping[str, Any]) -> float:
    """Of each head, the part that rotary embeddings turn."""
    share = rope.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise UnsupportedModel(f"config.json has partial_rotary_factor = {share!r} where a share of 1 is needed.")
    return share


def _size(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise UnsupportedModel(
            f"config.json has {key} = {value!r} where a positive number is needed: this is not a causal language model."
        )
    return value


def _optional(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value >= 1 else None
