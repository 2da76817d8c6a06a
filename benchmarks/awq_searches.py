"""What each of our replacements in Quark's AWQ costs or wins: KL divergence from the original, one line for each.

    python -m benchmarks.awq_searches                                                # the demo
    python -m benchmarks.awq_searches --model FOLDER --dataset offline --group-size 64 --layers 6 --blocks 3

quark: nothing replaced. clips: clippings by Gram matrices, on the tokens that Quark takes. inputs: that, and the scales
of q, k and v searched on the layer's inputs. fast: what a build does. Weights are rounded and kept as float32, and the
output layer is left alone. Seconds are the process's own.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from builder import demo
from builder.checkpoint.checkpoint import read_folder
from builder.recipe import QuantRecipe
from builder.stages import calibration
from builder.stages.awq_clip import best_clips
from builder.stages.awq_inputs import Features, Inputs
from builder.stages.awq_search import searches
from builder.stages.quark_settings import leave_out_unused_modules, scaling_what_it_can

WAYS = ("quark", "clips", "inputs", "fast")


@contextmanager
def replaced(way: str) -> Iterator[None]:
    """Quark with this much of it replaced."""
    from quark.torch.algorithm.awq.awq import AwqProcessor

    from builder.stages import quark

    gather, clip_all = AwqProcessor._get_input_feat, AwqProcessor._search_best_clip

    def clip(_processor: Any, linear: Any, x: Tensor) -> Tensor:
        x = x.flatten(0, -2)
        x = x[:: len(x) // min(quark.CLIP_TOKENS, len(x))]
        inputs = Inputs(x.shape[1], linear._weight_quantizer.group_size, False, len(x))
        inputs.add(x)
        return best_clips(linear.weight.data, Features(inputs, torch.ones(x.shape[1])).grams())

    def keep_inputs(processor: Any, *arguments: Any) -> Any:
        inputs = processor.inps
        features = gather(processor, *arguments)
        processor.outputs, processor.inps = processor.inps, inputs
        return features

    def then_outputs(processor: Any, *arguments: Any) -> Any:
        processor.inps = processor.outputs
        return clip_all(processor, *arguments)

    with searches("fast" if way == "fast" else "quark"):
        if way in ("clips", "inputs"):
            AwqProcessor._compute_best_clip = clip
        if way == "inputs":
            AwqProcessor._get_input_feat, AwqProcessor._search_best_clip = keep_inputs, then_outputs
        try:
            yield
        finally:
            AwqProcessor._search_best_clip = clip_all


def load(checkpoint: Path) -> Any:
    """The whole model, in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype="float32").eval()


def divergence(original: Any, model: Any, blocks: Any) -> str:
    """Mean over all tokens, with the standard error over blocks, and how often the most likely token is the same."""
    means, same = [], []
    with torch.inference_mode():
        for block in torch.from_numpy(blocks):
            one, other = (m(block[None]).logits[0].log_softmax(dim=-1) for m in (original, model))
            means.append(float((one.exp() * (one - other)).sum(dim=-1).mean()))
            same.append(float((one.argmax(dim=-1) == other.argmax(dim=-1)).float().mean()))
    error = float(torch.tensor(means).std()) / len(means) ** 0.5
    return f"{sum(means) / len(means):.4f} +- {error:.4f} | {sum(same) / len(same):.1%}"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=demo.CHECKPOINT)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--sequences", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=1000, help="that are quantized, from the first (default: all)")
    parser.add_argument("--blocks", type=int, default=12, help="of 512 tokens to measure on, of text and of chats")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    flags = parser.parse_args()
    leave_out_unused_modules()
    from builder.stages.quark import LLMTemplate, ModelQuantizer, _adapted

    checkpoint = read_folder(flags.model)
    calibration.HELDOUT = calibration.CHATS = (flags.blocks, 512)  # more than a build measures on
    recipe = QuantRecipe(dataset=flags.dataset, num_calib_data=flags.sequences, seq_len=flags.length)
    blocks = calibration.make_blocks(checkpoint, recipe)
    original, family = load(checkpoint.path), checkpoint.model.family
    left_alone = [f"*.layers.{number}.*" for number in range(flags.layers, original.config.num_hidden_layers)]
    print("| | seconds | text: KL | top-1 | chats: KL | top-1 |\n|---|---|---|---|---|---|")
    for way in flags.ways:
        config = LLMTemplate.get(family.awq_template).get_config(
            scheme=f"uint4_wo_{flags.group_size}", algorithm="awq", exclude_layers=["lm_head", *left_alone]
        )
        config.algo_config = scaling_what_it_can(config.algo_config, family.unscaled)
        quantizer, began = ModelQuantizer(config), time.process_time()
        with _adapted(), replaced(way):
            samples = list(torch.split(torch.from_numpy(blocks.calibration), 1))
            model = quantizer.quantize_model(load(checkpoint.path), samples)
        seconds = time.process_time() - began
        model = quantizer.freeze(model)
        measured = [divergence(original, model, some) for some in (blocks.heldout, blocks.chats)]
        print(f"| {way} | {seconds:.0f} | {measured[0]} | {measured[1]} |", flush=True)


if __name__ == "__main__":
    main()
