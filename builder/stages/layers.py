"""Decoder layers that OGA's model builder has no class for, made from the parts it has.

Its classes describe one layer per architecture, with a norm before attention and one before the MLP. Some families
normalise after both, or before and after. Only attributes of its base class are used, as of onnxruntime-genai 0.18.
"""

from typing import Any

from builder.checkpoint.families import Layers


def model_class(base: Any, layers: Layers, local_theta: float | None) -> Any:
    """A class of the model builder as `base`, with these layers.

    local_theta: the rotary base of layers with a window, where these are not scaled as the others are.
    """

    def make_attention_init(model: Any, config: Any) -> None:
        model.attention_attrs["q_norm"] = model.attention_attrs["k_norm"] = layers.norms_of_q_k != "none"
        base.make_attention_init(model, config)

    def make_qk_norm(model: Any, layer_id: int, attention: Any) -> None:
        if layers.norms_of_q_k == "head":
            base.make_qk_norm(model, layer_id, attention)
        else:
            _normalise_all_heads(model, layer_id, attention)

    def make_rotary_embedding_caches(model: Any, **names: Any) -> Any:
        if local_theta is None or model.window_size == -1:
            return base.make_rotary_embedding_caches(model, **names)
        scaled, model.rope_attrs = model.rope_attrs, dict(model.rope_attrs)
        model.rope_attrs |= {"theta": local_theta, "mscale": 1, "rescale_factors": 1}
        model.rope_attrs.pop("rescale_inv_freq", None)
        model.rope_attrs["create_caches"] = not getattr(model, "local_caches_made", False)
        model.local_caches_made = True
        made = base.make_rotary_embedding_caches(
            model, cos_cache_name="cos_cache_local", sin_cache_name="sin_cache_local"
        )
        model.rope_attrs = scaled
        return made

    def make_layer(model: Any, layer_id: int, layer: Any) -> None:
        attrs, name = model.layernorm_attrs, f"/model/layers.{layer_id}"
        residual = attrs["root_input"]
        value = _normalised(model, layer_id, layer, residual, "input") if layers.norms_before else residual
        model.make_attention(layer_id, layer.self_attn, root_input=value)
        value = _normalised(model, layer_id, layer, attrs["skip_input"], "post_attention")
        residual = _added(model, f"{name}/attn/residual/Add", residual, value)
        value = _normalised(model, layer_id, layer, residual, "pre_feedforward") if layers.norms_before else residual
        model.make_mlp(layer_id, layer.mlp, root_input=value)
        value = _normalised(model, layer_id, layer, attrs["skip_input"], "post_feedforward")
        # The final norm adds its two inputs itself.
        attrs["last_layernorm"] = last = layer_id == model.num_layers - 1
        attrs["root_input"] = residual if last else _added(model, f"{name}/mlp/residual/Add", residual, value)
        attrs["skip_input"] = value

    made: tuple[Any, ...] = (make_attention_init, make_qk_norm, make_rotary_embedding_caches)
    if layers.norms_after:
        made += (make_layer,)
    return type(base.__name__, (base,), {function.__name__: function for function in made})


def mean_subtracted(base: Any) -> Any:
    """The model builder's class for OLMo, whose norms subtract the mean."""

    def __init__(model: Any, *arguments: Any) -> None:
        base.__init__(model, *arguments)
        model.layernorm_attrs["simple"] = False

    return type(base.__name__, (base,), {"__init__": __init__})


def unscaled_windows(base: Any, local_theta: float | None) -> Any:
    """The model builder's class for Gemma 3, of which layers with a window are rotated without the others' scaling."""

    def make_rotary_embedding_caches_from_scratch(model: Any) -> Any:
        scaled = model.rope_attrs["rescale_factors"]
        if model.rope_attrs["theta"] == local_theta:
            model.rope_attrs["rescale_factors"] = 1
        made = base.make_rotary_embedding_caches_from_scratch(model)
        model.rope_attrs["rescale_factors"] = scaled
        return made

    function = make_rotary_embedding_caches_from_scratch
    return type(base.__name__, (base,), {function.__name__: function})


def _normalised(model: Any, layer_id: int, layer: Any, value: str, location: str) -> str:
    """The norm `location` of a value."""
    model.layernorm_attrs["root_input"] = value
    norm = getattr(layer, f"{location}_layernorm")
    model.make_layernorm(layer_id, norm, skip=False, simple=True, location=location)
    return str(model.layernorm_attrs["output_0"])


def _added(model: Any, name: str, residual: str, value: str) -> str:
    model.make_add(name, [residual, value], dtype=model.io_dtype, shape=model.make_hidden_state_shape())
    return f"{name}/output_0"


def _normalise_all_heads(model: Any, layer_id: int, attention: Any) -> None:
    """One norm for all heads of the queries, and one for those of the keys."""
    for kind, size in (("q", model.q_size), ("k", model.kv_size)):
        name = f"/model/layers.{layer_id}/attn/{kind}_norm/SimplifiedLayerNormalization"
        weight = f"model.layers.{layer_id}.attn.{kind}_norm.layernorm.weight"
        model.make_initializer(getattr(attention, f"{kind}_norm").weight, weight, to=model.io_dtype)
        model.make_node(
            "SimplifiedLayerNormalization",
            inputs=[model.attention_attrs[f"{kind}_path"], weight],
            outputs=[f"{name}/output_0"],
            name=name,
            epsilon=model.layernorm_attrs["epsilon"],
            axis=-1,
            stash_type=1,
        )
        model.make_value(f"{name}/output_0", model.io_dtype, shape=model.make_hidden_state_shape(last_dim=size))
        model.attention_attrs[f"{kind}_path"] = f"{name}/output_0"
