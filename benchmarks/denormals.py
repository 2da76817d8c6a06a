"""What it costs to compute with denormal numbers, as ONNX Runtime does unless it is told not to.

    python -m benchmarks.denormals FOLDER                      # random tokens
    python -m benchmarks.denormals FOLDER --text FILE --tokens 1500

Both runtimes, with and without, in turn: the prefill of so many tokens, then 24 tokens decoded after it. A ratio is the
median of the rounds'. The largest difference that it makes to a logit is told too.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np

from benchmarks.passes import prefill
from serving.engine.oga import OgaRuntime
from serving.engine.ort import OrtRuntime
from serving.engine.runtime import NO_DENORMALS, Logits, Runtime
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.text.prompt import Prompt
from serving.types import TokenIds

DECODED = 24


def spent(runtime: Runtime, prompt: TokenIds) -> tuple[float, float, Logits]:
    """Seconds of prefill and of decode, and the last logits [1, vocab]."""
    slot = runtime.slot(0)
    slot.reserve(prompt.size + DECODED)
    begun = time.perf_counter()
    prefill(runtime, slot, prompt)
    read = time.perf_counter()
    for token in prompt[:DECODED]:
        runtime.forward([(slot, np.array([token], np.int32))])
        last = slot.logits().copy()
    done = time.perf_counter()
    slot.drop()
    return read - begun, done - read, last


def main() -> None:
    """Print a line for each runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, help="what is read (default: random tokens)")
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    folder, threads = ModelFolder.open(flags.folder), usable_cores()
    tokens = np.random.default_rng(0).integers(folder.vocab_size // 4, folder.vocab_size // 2, flags.tokens)
    if flags.text:
        text = flags.text.read_text(encoding="utf-8")
        tokens = Prompt.load(folder.path).raw_ids(text, len(text))[: flags.tokens]
    prompt = tokens.astype(np.int32)
    for name, kind in (("oga", OgaRuntime), ("ort", OrtRuntime)):
        without = kind(folder, None, threads)
        with patch.dict(NO_DENORMALS, clear=True):
            usual = kind(folder, None, threads)
        rounds = [(spent(usual, prompt), spent(without, prompt)) for _ in range(flags.rounds)]
        change = max(np.abs(a[2] - b[2]).max() for a, b in rounds)
        speeds = []
        for which, (what, count) in enumerate((("prefill", prompt.size), ("decode", DECODED))):
            speed = count / median(ours[which] for _, ours in rounds)
            ratio = median(theirs[which] / ours[which] for theirs, ours in rounds)
            speeds.append(f"{what} {speed:.1f} tokens/s, x{ratio:.2f}")
        print(f"{name}, after {prompt.size} tokens: {', '.join(speeds)}; logits differ by {change:.2g}", flush=True)
        usual.close()
        without.close()


if __name__ == "__main__":
    main()
