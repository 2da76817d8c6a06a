"""Decode speed of exported folders over that of the first one, in turn.

    python -m benchmarks.decode_ratio FOLDER OTHER ...

OGA's own greedy loop on one thread, 100 tokens after a prompt of 64. Compared is the time that the processor spent, so
that what else runs on the machine counts little; the ratio is taken round by round, and its median is what counts.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median, quantiles

import onnxruntime_genai as og

PROMPT, TOKENS = 64, 100


def loaded(folder: Path) -> og.Model:
    """On one thread."""
    config = og.Config(str(folder))
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": 1}}}}))
    return og.Model(config)


def spent(model: og.Model) -> float:
    """Seconds of processor time for a token."""
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=PROMPT + TOKENS, min_length=PROMPT + TOKENS, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(list(range(10, 10 + PROMPT)))
    begun = time.process_time()
    for _ in range(TOKENS):
        generator.generate_next_token()
    return (time.process_time() - begun) / TOKENS


def main() -> None:
    """Print a line for each folder."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m benchmarks.decode_ratio", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=15)
    flags = parser.parse_args()
    models = [loaded(folder) for folder in flags.folders]
    rounds = [[spent(model) for model in models] for _ in range(flags.rounds + 1)][1:]
    for number, folder in enumerate(flags.folders):
        ratios = [each[0] / each[number] for each in rounds]
        low, _, high = quantiles(ratios) if len(ratios) > 1 else ratios * 3
        took = 1e3 * median(each[number] for each in rounds)
        print(f"{folder}: {took:.3f} ms a token, x{median(ratios):.3f} (middle half {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
