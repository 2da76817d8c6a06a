"""What guessing with a smaller model would have to get right to pay: speculative decoding (arXiv:2211.17192) on paper.

    python -m benchmarks.draft_model TARGET DRAFT [--context 512]

Measured are the forward passes that it is made of, on this machine: one token of the draft, and 1 to 9 tokens of the
target at once, each after --context tokens of a KV cache, in turn; medians. With k guesses of which each is right with
probability a, a pass over k + 1 tokens gives (1 - a^(k+1)) / (1 - a) tokens, and takes k passes of the draft besides.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.passes import prefill
from serving.engine.ort import OrtRuntime
from serving.engine.runtime import Slot
from serving.folder import ModelFolder

GUESSES = (1, 2, 3, 4, 6, 8)
RIGHT = (0.5, 0.6, 0.7, 0.8, 0.9)


def gain(right: float, guesses: int, draft: float, target: dict[int, float]) -> float:
    """Tokens a second over those without a draft. draft: seconds of its pass; target: by the tokens of a pass."""
    tokens = (1 - right ** (guesses + 1)) / (1 - right)
    return tokens * target[1] / (guesses * draft + target[guesses + 1])


def even(guesses: int, draft: float, target: dict[int, float]) -> float:
    """How often a guess has to be right for that to be 1; 1.0 where it never is."""
    tried = np.linspace(0.0, 0.999, 1000)
    return float(next((right for right in tried if gain(right, guesses, draft, target) >= 1), 1.0))


def filled(folder: Path, context: int) -> tuple[OrtRuntime, Slot]:
    """A model with a KV cache of so many tokens."""
    runtime = OrtRuntime(ModelFolder.open(folder), context + 64, os.cpu_count() or 1)
    slot = runtime.slot(0)
    tokens = np.random.default_rng(0).integers(10, 1000, context).astype(np.int32)
    slot.reserve(context + 32)
    prefill(runtime, slot, tokens)
    return runtime, slot


def seconds(runtime: OrtRuntime, slot: Slot, tokens: int) -> float:
    """Of one pass, which is taken back."""
    kept = len(slot.tokens)
    begun = time.perf_counter()
    runtime.forward([(slot, np.arange(10, 10 + tokens, dtype=np.int32))])
    took = time.perf_counter() - begun
    slot.rewind(kept)
    return took


def main() -> None:
    """Print the passes, then a table."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.draft_model", description=__doc__, formatter_class=formatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("draft", type=Path)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    flags = parser.parse_args()
    target, draft = filled(flags.target, flags.context), filled(flags.draft, flags.context)
    sizes = sorted({1, *(each + 1 for each in GUESSES)})
    rounds = []
    for _ in range(flags.rounds):
        seconds(*target, 1)  # it finds the draft's threads at work, as the draft does the target's
        each = {size: seconds(*target, size) for size in sizes}
        seconds(*draft, 1)
        rounds.append((each, seconds(*draft, 1)))
    passes = {size: median(each[size] for each, _ in rounds) for size in sizes}
    guess = median(each for _, each in rounds)
    sys.stdout.write(f"draft: {guess * 1e3:.1f} ms a token\n")
    sys.stdout.write("target: " + ", ".join(f"{size}: {took * 1e3:.1f} ms" for size, took in passes.items()) + "\n\n")
    sys.stdout.write("| guesses | even at | " + " | ".join(f"{right:.0%} right" for right in RIGHT) + " |\n")
    sys.stdout.write("|---|---|" + "---|" * len(RIGHT) + "\n")
    for guesses in GUESSES:
        gains = " | ".join(f"x{gain(right, guesses, guess, passes):.2f}" for right in RIGHT)
        sys.stdout.write(f"| {guesses} | {even(guesses, guess, passes):.0%} | {gains} |\n")


if __name__ == "__main__":
    main()
