"""One decoder layer by AWQ, with our searches and with Quark's own: seconds by part, and memory.

    python -m benchmarks.awq_layer                                   # 1.1 B shapes, 4 x 512 tokens
    python -m benchmarks.awq_layer --shapes 7B --data-type bfloat16 --sequences 128 --ways fast

Random weights and tokens; the layer is a llama's. Each way in a process of its own, in turn; `own` is Quark with
nothing replaced. Where others use the machine too, --processor-time counts what the process itself got.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

from builder.stages.stage import _peak_memory, environment

# Hidden size, intermediate size, heads, heads of keys and values.
SHAPES = {"135M": (576, 1536, 9, 3), "1.1B": (2048, 5632, 32, 4), "7B": (4096, 11008, 32, 32)}
PARTS = {"_get_input_feat": "inputs", "_search_best_scale": "scales", "_search_best_clip": "clips"}
VOCABULARY = 1024


def measure(way: str, flags: argparse.Namespace) -> dict[str, float]:
    """Seconds of each part and in all, and the bytes that the run added to the peak of what was loaded before it."""
    from builder.stages.quark_settings import leave_out_unused_modules

    leave_out_unused_modules()
    import torch
    from quark.torch import LLMTemplate, ModelQuantizer
    from quark.torch.algorithm.awq.awq import AwqProcessor
    from transformers import LlamaConfig, LlamaForCausalLM

    from builder.stages.awq_search import searches

    hidden, intermediate, heads, shared = SHAPES[flags.shapes]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=1,
        num_attention_heads=heads, num_key_value_heads=shared, dtype=flags.data_type,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(getattr(torch, flags.data_type)).eval()
    samples = torch.split(torch.randint(VOCABULARY, (flags.sequences, flags.length)), 1)
    quark = LLMTemplate.get("llama").get_config(
        scheme=f"uint4_wo_{flags.group_size}", algorithm="awq", exclude_layers=["lm_head"]
    )
    seconds = dict.fromkeys(PARTS.values(), 0.0)
    clock = time.process_time if flags.processor_time else time.perf_counter

    def timed(part: str, method: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            began = clock()
            result = method(*arguments, **more)
            seconds[part] += clock() - began
            return result

        return call

    before = _peak_memory()
    with nullcontext() if way == "own" else searches("fast"):
        for name, part in PARTS.items():
            setattr(AwqProcessor, name, timed(part, getattr(AwqProcessor, name)))
        began = clock()
        ModelQuantizer(quark).quantize_model(model, list(samples))
        whole = clock() - began
    return {**seconds, "in all": whole, "MiB before": before >> 20, "MiB at the peak": _peak_memory() >> 20}


def main() -> None:
    """Print a line for each run, then the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=list(SHAPES), default="1.1B")
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--data-type", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--ways", nargs="*", choices=["own", "fast"], default=["fast", "own"])
    parser.add_argument("--processor-time", action="store_true", help="of all threads together")
    parser.add_argument("--child", choices=["own", "fast"], help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        print("\n" + json.dumps(measure(flags.child, flags)))
        return
    print(f"{flags.shapes}, {flags.sequences} x {flags.length} tokens, {flags.data_type}, groups of {flags.group_size}")
    took = {}
    for way in flags.ways:
        command = [sys.executable, "-m", "benchmarks.awq_layer", *sys.argv[1:], "--child", way]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment())
        if done.returncode:
            sys.exit(f"{way} failed")
        figures = json.loads(done.stdout.splitlines()[-1])
        took[way] = figures["in all"]
        print(f"  {way:5}", *(f"{name} {value:.1f}" for name, value in figures.items()), sep="  ", flush=True)
    if len(took) == 2:
        print(f"  ratio  {took['own'] / took['fast']:.1f}")


if __name__ == "__main__":
    main()
