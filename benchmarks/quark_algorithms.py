"""The algorithms that Quark brings beside those of a build: KL divergence from the original, a line for each.

    python -m benchmarks.quark_algorithms                                             # the demo, groups of 128
    python -m benchmarks.quark_algorithms --ways gptaq autoround                      # slow
    python -m benchmarks.quark_algorithms --ways gptaq gptaq+s gptaq+i                # what is done after rounding
    python -m benchmarks.quark_algorithms --ways gptaq gptaq@0.01                     # with Quark's damping
    python -m benchmarks.quark_algorithms --model FOLDER --dataset offline --sequences 16 --group-size 64

Quark's own ways have the whole model in memory: gptq, qronos and autoround, each with Quark's settings, and none, which
rounds to nearest. gptaq is what a build does, a layer after another; ours is that without its search for scales and
without what makes up for drift, as Quark's gptq is. After a + come steps on each rounded weight: s, the best scales for
its integers, and i, the best integers for its scales. After an @ comes another damping than a build's.

All in float32: weights are rounded and kept as float32, and the output layer is left alone. Text and conversations are
the tokens that a build measures on; the third column is of a file, by default all of the demo's held-out conversations.
In brackets: over the KL divergence of the first way, with the error that the ratio has token by token. Seconds are the
process's own.
"""

import argparse
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.awq_searches import load
from builder import demo
from builder.checkpoint.checkpoint import Checkpoint, read_folder
from builder.comparison import Comparison
from builder.measure import text_blocks
from builder.measurement import Paired
from builder.quality import with_error
from builder.recipe import QuantRecipe
from builder.stages.calibration import make_blocks
from builder.stages.mixture import bits
from builder.stages.quark_settings import leave_out_unused_modules

WHOLE = ("none", "gptq", "qronos", "autoround")
OURS = {"gptaq": (True, 12), "ours": (False, 1)}  # whether drift is made up for, ranges tried
USUAL = ("gptaq", "gptq", "qronos")

Logits = Callable[[Tensor], Tensor]
Measured = Mapping[str, Comparison]


def first_layers(model: Any, layers: int) -> tuple[Any, list[Any]]:
    """A model without its other layers, and those."""
    found = list(model.model.layers)
    model.model.layers = torch.nn.ModuleList(found[:layers])
    return model, found[layers:]


def whole(
    checkpoint: Checkpoint, way: str, group: int, layers: int, calibration: list[Tensor], settings: Mapping[str, Any]
) -> Logits:
    """Quark's own way, by its public calls. layers: that are quantized. settings: of its algorithm, beside its own."""
    from quark.torch.algorithm.api import blockwise_tuning_algo
    from quark.torch.quantization.config.config import AutoRoundConfig, GPTQConfig, QronosConfig

    from builder.stages.quark import LLMTemplate, ModelQuantizer

    names = ["attn.[qkv]_proj", "attn.o_proj", "mlp.[gu]*_proj", "mlp.down_proj"]  # matched with the ends of names
    modules = {"inside_layer_modules": names, "model_decoder_layers": "model.layers", **settings}
    made = {"gptq": GPTQConfig, "qronos": QronosConfig}
    template = LLMTemplate.get(checkpoint.model.family.awq_template)
    config = template.get_config(scheme=f"uint4_wo_{group}", algorithm=None, exclude_layers=["lm_head"])
    config.algo_config = [made[way](**modules)] if way in made else None
    quantizer = ModelQuantizer(config)
    model, rest = first_layers(load(checkpoint.path), layers)
    model = quantizer.quantize_model(model, calibration)
    if way == "autoround":  # quantize_model knows no such algorithm
        linears = [name for name, part in model.model.layers[0].named_modules() if hasattr(part, "weight_quantizer")]
        tuned = AutoRoundConfig(**{**modules, "inside_layer_modules": linears})
        random.seed(0)
        original, _ = first_layers(load(checkpoint.path), layers)
        model = blockwise_tuning_algo(original, model, tuned, None, calibration)
    frozen = quantizer.freeze(model)
    frozen.model.layers.extend(rest)
    return lambda ids: frozen(ids).logits[0]


def layer_by_layer(checkpoint: Checkpoint, way: str, group: int, count: int, calibration: list[Tensor]) -> Logits:
    """As a build does it, with what comes after rounding."""
    from benchmarks.scale_refinement import refined
    from builder.stages import quark
    from builder.stages.decoder import Decoder
    from builder.stages.product_type import through

    named, _, damping = way.partition("@")
    base, _, steps = named.partition("+")
    knobs = {"quant_algo": "gptaq", "group_size": group, "exclude_layers": ["lm_head"]}
    config = quark.config_of(checkpoint.model.family, knobs)
    if damping:
        config.algo_config[0].damp_percent = float(damping)
    decoder = Decoder(checkpoint, "float32")
    ends = decoder.ends()
    states, originals, layers = [*map(ends.embed, calibration)], [*map(ends.embed, calibration)], []
    with refined(steps, *OURS[base]) as losses:
        for number in range(len(decoder)):
            layer = decoder.layer(number)
            if number < count:
                after = through(layer, originals)
                layer, states = quark.quantize(layer, config, states, originals=originals)
                originals = after
            layers.append(layer)
    ratios = sorted(after / before for before, after in losses)
    if steps:
        print(f"{way}: a linear loses x{ratios[len(ratios) // 2]:.3f} (median), {ratios[0]:.3f} to {ratios[-1]:.3f}")

    def logits(ids: Tensor) -> Tensor:
        states = ends.embed(ids)
        for layer in layers:
            states = layer(states)
        return ends.logits(states)[0]

    return logits


@torch.inference_mode()
def measured(original: Any, logits: Logits, blocks: Mapping[str, Any]) -> Measured:
    """By the kind of text."""
    found = {kind: Comparison() for kind in blocks}
    for kind, some in blocks.items():
        for block in some:
            ids = torch.from_numpy(block)[None]
            found[kind].add(original(ids).logits[0].numpy(), logits(ids).numpy(), block)
    return found


def cell(found: Comparison, first: Comparison) -> str:
    """KL divergence with its error, and over that of the first way."""
    loss, ratio = found.loss(), Paired.of(found, first).kl_ratio
    told = with_error(loss.kl_divergence, loss.kl_divergence_error, 4)
    return told if found is first else f"{told} (x{with_error(ratio.value, ratio.error or np.nan, 3)})"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=demo.CHECKPOINT)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=1000, help="that are quantized, from the first (default: all)")
    parser.add_argument("--text", type=Path, default=demo.TEXTS["heldout"], help="what else to measure on")
    parser.add_argument("--tokens", type=int, help="of that (default: all)")
    parser.add_argument("--ways", nargs="*", default=USUAL, help=f"{', '.join(WHOLE)}; {', '.join(OURS)}")
    parser.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="of Quark's settings, a number"
    )
    flags = parser.parse_args()
    for way in flags.ways:
        if way not in WHOLE and re.split("[+@]", way)[0] not in OURS:
            parser.error(f"--ways: {way!r} is none of {', '.join((*WHOLE, *OURS))}")
    settings = {name: float(value) if "." in value or "e" in value else int(value) for name, value in flags.set}
    os.environ.update(QUARK_DISABLE_COMPILE="1", QUARK_LOG_LEVEL="error")
    leave_out_unused_modules()
    checkpoint = read_folder(flags.model)
    recipe = QuantRecipe(dataset=flags.dataset, num_calib_data=flags.sequences, seq_len=flags.length)
    made = make_blocks(checkpoint, recipe)
    calibration = list(torch.from_numpy(made.calibration).split(1))
    more = text_blocks(checkpoint, flags.text, flags.tokens)["text"]
    blocks = {"text": made.heldout, "chats": made.chats, "file": more}
    original, first = load(checkpoint.path), None
    print("| | bits | text | conversations | file | same top token | seconds |\n|---|---|---|---|---|---|---|")
    for way in flags.ways:
        began = time.process_time()
        if way in WHOLE:
            logits = whole(checkpoint, way, flags.group_size, flags.layers, calibration, settings)
        else:
            logits = layer_by_layer(checkpoint, way, flags.group_size, flags.layers, calibration)
        seconds, found = time.process_time() - began, measured(original, logits, blocks)
        first = first or found
        cells = [cell(found[kind], first[kind]) for kind in blocks]
        told = f"{found['file'].top1_agreement:.1%}"
        print(f"| {way} | {bits(flags.group_size):.2f} | {' | '.join(cells)} | {told} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
