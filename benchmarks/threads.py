"""Prefill and decode speed by number of threads, against OGA's own default; interleaved, on any model folder.

    python -m benchmarks.threads FOLDER
    taskset -c 0 python -m benchmarks.threads FOLDER            # fewer processors
    python -m benchmarks.threads FOLDER --counts 1 2 --rounds 9

OGA's default is half of the processors that it sees, 16 at most. Every measurement loads the model anew, warms it up,
appends a prompt and generates greedily. Ratios are taken round by round; their medians are what counts. To measure
under a container's quota, start it inside one: cpu.max (cgroup v2), or cpu.cfs_quota_us (v1).
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime_genai as og

from serving.folder import ModelFolder
from serving.hardware import allowed_processors, cpu_quota, usable_cores

Speeds = tuple[float, float]


def main() -> None:
    """Print a table: tokens per second, and how many times the default's that is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an exported model folder")
    parser.add_argument("--counts", type=int, nargs="+", help="threads to try (default: 1, 2, 4, … and what we take)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompt", type=int, default=256, help="tokens")
    parser.add_argument("--answer", type=int, default=64, help="tokens")
    flags = parser.parse_args()
    processors, ours = len(allowed_processors()), usable_cores()
    doubling = {2**n for n in range(processors.bit_length()) if 2**n <= processors}
    counts: list[int | None] = [None, *sorted(set(flags.counts or ()) or doubling | {ours})]
    folder = ModelFolder.open(flags.folder)
    speeds: dict[int | None, list[Speeds]] = {count: [] for count in counts}
    for _ in range(flags.rounds):
        for count in counts:
            speeds[count].append(measure(folder, count, flags.prompt, flags.answer))
    quota = cpu_quota()
    print(
        f"{processors} processors allowed, quota {f'{quota:.2f} of one' if quota else 'none'}: we take {ours} threads; "
        f"{flags.prompt}-token prompt, {flags.answer} tokens, medians of {flags.rounds} rounds"
    )
    print(f"{'threads':>14}{'prefill tok/s':>15}{'ratio':>8}{'decode tok/s':>15}{'ratio':>8}")
    for count in counts:
        prefill, decode = zip(*speeds[count], strict=True)
        default_prefill, default_decode = zip(*speeds[None], strict=True)
        name = "OGA's default" if count is None else f"{count}{' (ours)' if count == ours else ''}"
        print(
            f"{name:>14}{median(prefill):15.1f}{median(map(ratio, prefill, default_prefill)):8.2f}"
            f"{median(decode):15.1f}{median(map(ratio, decode, default_decode)):8.2f}"
        )


def ratio(ours: float, theirs: float) -> float:
    """How many times as fast."""
    return ours / theirs


def measure(folder: ModelFolder, threads: int | None, prompt: int, answer: int) -> Speeds:
    """Tokens per second of prefill and of decoding, in a model that is loaded for it; None is OGA's default."""
    config = og.Config(str(folder.path))
    if threads is not None:
        session = {"intra_op_num_threads": threads}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    model = og.Model(config)
    token_ids = np.arange(prompt, dtype=np.int32) % folder.vocab_size
    generate(model, token_ids[: min(prompt, 64)], 2)
    return generate(model, token_ids, answer)


def generate(model: og.Model, token_ids: np.ndarray, answer: int) -> Speeds:
    """The same speeds, of one Generator."""
    length = token_ids.size + answer + 1
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=length, min_length=length, do_sample=False)
    generator = og.Generator(model, params)
    begun = time.perf_counter()
    generator.append_tokens(token_ids)
    prefilled = time.perf_counter()
    for _ in range(answer):
        generator.generate_next_token()
    return token_ids.size / (prefilled - begun), answer / (time.perf_counter() - prefilled)


if __name__ == "__main__":
    main()
