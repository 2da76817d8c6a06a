"""The same model in other numbers: a llama whose weights lie on somebody's grid of few values, moved off it.

    python -m benchmarks.off_grid FOLDER OUT --seed 1
    python -m benchmarks.off_grid FOLDER OUT --seed 1 --multiple 256

Some models can only be had as they were quantized. Who quantizes such a one again, in the same format, finds the grid
again and loses next to nothing, and who does so in another loses as always: nothing can be learnt of the two formats.
Here the basis of the model is changed where that changes nothing of what it computes, by random numbers:

- channels of a layer's input, by factors in its norm's gain that are taken out of what reads it: queries, keys and
  values; gate and up;
- values of a head, turned by an orthogonal matrix, which the output projection turns back;
- each rotary pair of queries and keys, turned by an angle, the same in all heads that meet;
- channels between up and down, by factors.

Factors are log-normal, by about 1.3 up or down. Limits: what the first quantization lost is lost, so that "original"
means what came of it. No training chose these factors. They widen the spread within a group, which costs wide groups
more, and say which channels matter, which an algorithm that looks at activations sees and a format without an
importance matrix does not: how two formats compare here need not be how they do on the model as it was trained. The
residual stream keeps its basis, because embeddings write to it without a norm.

With --multiple, the widths are then filled up to one with zeros: again the same model. llama.cpp's K types need
multiples of 256, and it takes larger types where they are none: so one sees what the types themselves lose, on a model
of another width. Both are written in float32, which keeps the logits to about 1e-4.
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SPREAD = 0.3  # standard deviation of the factors' logarithms
_LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
            "mlp.up_proj", "mlp.down_proj")  # fmt: skip
_NORMS = ("input_layernorm", "post_attention_layernorm")

Weights = dict[str, Tensor]
Config = Mapping[str, Any]


def heads_of(config: Config) -> tuple[int, int, int]:
    """Heads of queries, heads of keys and values, and the size of each."""
    heads = config["num_attention_heads"]
    kv_heads, size = config.get("num_key_value_heads") or heads, config.get("head_dim")
    return heads, kv_heads, size or config["hidden_size"] // heads


def moved(weights: Mapping[str, Tensor], config: Config, seed: int) -> Weights:
    """Other weights of the same model, in float32. Exits where it is no llama without biases."""
    heads, kv_heads, size = heads_of(config)
    layers = range(config["num_hidden_layers"])
    of_layers = {f"model.layers.{layer}.{part}.weight" for layer in layers for part in (*_LINEARS, *_NORMS)}
    outer = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    if unknown := sorted((weights.keys() ^ of_layers) - outer):
        raise SystemExit(f"This is no llama without biases: what is to become of {unknown[0]} is not known.")
    found = {name: weight.double() for name, weight in weights.items()}
    random = torch.Generator().manual_seed(seed)

    def factors(count: int) -> Tensor:
        return (torch.randn(count, generator=random, dtype=torch.float64) * SPREAD).exp()

    for layer in layers:
        norm_a, norm_m = (f"model.layers.{layer}.{part}.weight" for part in _NORMS)
        q, k, v, o, gate, up, down = (f"model.layers.{layer}.{part}.weight" for part in _LINEARS)
        for norm, readers in ((norm_a, (q, k, v)), (norm_m, (gate, up))):
            of_channels = factors(len(found[norm]))
            found[norm] *= of_channels
            for reader in readers:
                found[reader] /= of_channels

        turns = torch.randn(kv_heads, size, size, generator=random, dtype=torch.float64)
        turns = torch.linalg.qr(turns).Q
        by_heads = turns.repeat_interleave(heads // kv_heads, 0)
        found[v] = (turns @ found[v].view(kv_heads, size, -1)).flatten(0, 1)
        found[o] = torch.einsum("rhi,hji->rhj", found[o].view(-1, heads, size), by_heads).flatten(1)

        angles = torch.rand(kv_heads, size // 2, 1, generator=random, dtype=torch.float64) * 2 * torch.pi
        for name, each in ((q, angles.repeat_interleave(heads // kv_heads, 0)), (k, angles)):
            first, second = found[name].view(len(each), 2, size // 2, -1).unbind(1)
            turned = (each.cos() * first - each.sin() * second, each.sin() * first + each.cos() * second)
            found[name] = torch.stack(turned, 1).flatten(0, 2)

        of_channels = factors(found[up].shape[0])
        found[up] *= of_channels[:, None]
        found[down] /= of_channels
    return {name: weight.float().contiguous() for name, weight in found.items()}


def filled(weights: Mapping[str, Tensor], config: Config, multiple: int) -> tuple[Weights, dict[str, Any]]:
    """The same model with widths that are a multiple of something, by zeros, and its configuration."""
    heads, kv_heads, size = heads_of(config)
    hidden, inner, per_head = config["hidden_size"], config["intermediate_size"], heads // kv_heads
    wide, wide_inner = (-(-width // multiple) * multiple for width in (hidden, inner))
    wide_kv = next(count for count in range(kv_heads, kv_heads + multiple) if count * per_head * size % multiple == 0)
    attention, values = wide_kv * per_head * size, wide_kv * size
    q, k, v, o, gate, up, down = (f"{part}.weight" for part in _LINEARS)
    shapes = {q: (attention, wide), k: (values, wide), v: (values, wide), o: (wide, attention),
              gate: (wide_inner, wide), up: (wide_inner, wide), down: (wide, wide_inner)}  # fmt: skip
    found = {}
    for name, weight in weights.items():
        of_layer = name.split(".", 3)[-1]
        shape = shapes.get(of_layer, (weight.shape[0], wide)) if weight.dim() == 2 else (wide,)
        full = torch.zeros(shape, dtype=weight.dtype)
        full[tuple(map(slice, weight.shape))] = weight
        # The mean square is over more channels now, and the smaller for it.
        found[name] = full if weight.dim() == 2 else full * (hidden / wide) ** 0.5
    changed = {"hidden_size": wide, "intermediate_size": wide_inner, "num_attention_heads": wide_kv * per_head}
    changed |= {"num_key_value_heads": wide_kv, "head_dim": size}
    return found, {**config, **changed, "rms_norm_eps": config["rms_norm_eps"] * hidden / wide}


def main() -> None:
    """Write it, with everything beside the weights as it was."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.off_grid", description=__doc__, formatter_class=formatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="to make")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--multiple", type=int, help="that widths are filled up to")
    flags = parser.parse_args()
    config = json.loads((flags.checkpoint / "config.json").read_text(encoding="utf-8"))
    shards = sorted(flags.checkpoint.glob("*.safetensors"))
    weights = moved({name: weight for shard in shards for name, weight in load_file(shard).items()}, config, flags.seed)
    if flags.multiple:
        weights, config = filled(weights, config, flags.multiple)
    shutil.copytree(flags.checkpoint, flags.out, ignore=shutil.ignore_patterns("*.safetensors*", "config.json"))
    save_file(weights, flags.out / "model.safetensors", metadata={"format": "pt"})
    config = {**config, "dtype": "float32"}
    (flags.out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
