"""Mamba 2 (arXiv:2405.21060) in the exported graph, for a class of OGA's model builder that has attention only.

Its state is that of linear attention with a gate: each step forgets a part of it, and adds the outer product of B and
the input. So it is written with the model builder's own operators for those. As of onnxruntime-genai 0.18.
"""

from collections.abc import Sequence
from typing import Any


def mamba_class(base: Any) -> Any:
    """A class of the model builder as `base`, whose layers of linear attention are Mamba's."""

    def make_layer(model: Any, layer_id: int, layer: Any) -> None:
        model.state_space = getattr(layer, "mamba", None)
        base.make_layer(model, layer_id, layer)

    def make_attention(model: Any, layer_id: int, attention: Any, root_input: str, **named: Any) -> None:
        if model.state_space is None:
            base.make_attention(model, layer_id, attention, root_input, **named)
        else:
            _make_mamba(model, layer_id, model.state_space, root_input)

    return type(base.__name__, (base,), {"make_layer": make_layer, "make_attention": make_attention})


def _make_mamba(model: Any, layer_id: int, mixer: Any, root_input: str) -> None:
    """One layer. In the builder's words, its C, B and inputs are queries, keys and values."""
    name, own = f"/model/layers.{layer_id}/mamba", f"model.layers.{layer_id}.mamba"
    values, keys, heads = model.linear_value_dim, model.linear_key_dim, model.linear_num_value_heads
    channels, size = model.linear_conv_dim, model.linear_value_head_dim
    by_head = [heads, size]

    def weight(tensor: Any, called: str) -> str:
        model.make_initializer(tensor, f"{own}.{called}", to=model.io_dtype)
        return f"{own}.{called}"

    def made(kind: str, called: str, inputs: Sequence[str], last: Sequence[int], **attributes: Any) -> str:
        output = f"{name}/{called}/{kind}/output_0"
        model.make_node(kind, inputs=inputs, outputs=[output], name=f"{name}/{called}/{kind}", **attributes)
        model.make_value(output, model.io_dtype, shape=["batch_size", "sequence_length", *last])
        return output

    def shaped(called: str, value: str, last: Sequence[int]) -> str:
        return made("Reshape", called, [value, f"/model/constants/INT64/{[0, 0, *last]}"], last)

    def split(called: str, value: str, sizes: Sequence[int]) -> list[str]:
        outputs = [f"{name}/{called}/Split/output_{number}" for number in range(len(sizes))]
        shapes = [["batch_size", "sequence_length", size] for size in sizes]
        inputs = [value, f"/model/constants/INT64/{[*sizes]}"]
        model.make_split(f"{name}/{called}/Split", inputs, outputs, [model.io_dtype] * len(sizes), shapes, axis=-1)
        return outputs

    # 1. What is mixed with the tokens before it, the gate, and how long each head's step is.
    projected = model.make_matmul(mixer.in_proj, f"{name}/in_proj/MatMul", root_input)
    gate, mixed, step = split("projected", f"{projected}/output_0", [values, channels, heads])
    turned, convolved, back = (f"{name}/{kind}" for kind in ("Transpose_1", "CausalConvWithState", "Transpose_2"))
    model.make_transpose(turned, mixed, model.io_dtype, ["batch_size", channels, "sequence_length"], [0, 2, 1])
    bias = mixer.conv1d.bias if mixer.conv1d.bias is not None else mixer.conv1d.weight.new_zeros(channels)
    model.make_causal_conv_with_state(
        convolved,
        root_input=f"{turned}/output_0",
        weight=weight(mixer.conv1d.weight, "conv1d.weight"),
        bias=weight(bias, "conv1d.bias"),
        past_conv_state=model.input_names["past.conv"][layer_id],
        present_conv_state=model.output_names["present.conv"][layer_id],
        channels=channels,
    )
    shape = ["batch_size", "sequence_length", channels]
    model.make_transpose(back, f"{convolved}/output_0", model.io_dtype, shape, [0, 2, 1])
    x, b, c = split("mixed", f"{back}/output_0", [values, keys, keys])

    # 2. What is forgotten in a step, and what is added.
    step = made("Add", "step", [step, weight(mixer.dt_bias, "dt_bias")], [heads])
    step = made("Softplus", "step", [step], [heads])
    decay = made("Mul", "decay", [step, weight(-mixer.A_log.float().exp(), "A")], [heads])
    x = shaped("x", x, by_head)
    added = made("Mul", "added", [x, shaped("steps", step, [heads, 1])], by_head)
    model.make_linear_attention(
        f"{name}/LinearAttention",
        q_path=c,
        k_path=b,
        v_path=shaped("added", added, [values]),
        past_recurrent_state=model.input_names["past.recurrent"][layer_id],
        present_recurrent_state=model.output_names["present.recurrent"][layer_id],
        decay=decay,
        beta="",
        q_num_heads=model.linear_num_key_heads,
        kv_num_heads=heads,
        update_rule="gated",
        scale=1.0,
    )

    # 3. The input itself, the gate, a norm, and the way out.
    skipped = made("Mul", "skipped", [x, weight(mixer.D[:, None], "D")], by_head)
    value = made("Add", "value", [f"{name}/LinearAttention/output_0", shaped("skipped", skipped, [values])], [values])
    opened = made("Mul", "gate", [gate, made("Sigmoid", "gate", [gate], [values])], [values])
    value = made("Mul", "gated", [value, opened], [values])
    epsilon = model.layernorm_attrs["epsilon"]
    inputs = [value, weight(mixer.norm.weight, "norm.weight")]
    value = made("SimplifiedLayerNormalization", "norm", inputs, [values], epsilon=epsilon, axis=-1, stash_type=1)
    output = model.make_matmul(mixer.out_proj, f"{name}/out_proj/MatMul", value)
    model.layernorm_attrs["skip_input"] = f"{output}/output_0"
