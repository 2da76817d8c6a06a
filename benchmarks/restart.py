"""Time to the first token behind a long system prompt: computed, cached, and kept over a restart.

    python -m benchmarks.restart                  # a random llama of about 60 M parameters, made on the spot
    python -m benchmarks.restart FOLDER           # any exported model folder

The questions differ, so the system prompt is all that can be cached. "at once" is asked as soon as the model is loaded,
"later" once everything that is kept has been read again.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.engine_speed import random_llama
from serving.bench.runners import Answer, EngineRunner
from serving.types import EngineSettings, TokenIds

QUESTION = 20  # tokens
ANSWER = 8
REST_SECONDS = 3.0  # what is kept has been written, or read, by then


def main() -> None:
    """Print a table of times and cached tokens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="an exported model folder")
    parser.add_argument("--tokens", type=int, default=4000, help="of the system prompt (default: 4000)")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    rng = np.random.default_rng(0)
    answers: dict[str, list[Answer]] = {}
    with ExitStack() as stack:
        folder = flags.folder or random_llama(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for _ in range(flags.rounds):
            keep = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "conversations"
            settings = EngineSettings(runtime="ort", keep=str(keep), guess=False)
            first = EngineRunner("first", folder, settings)
            system = rng.integers(10, first.vocab_size, flags.tokens).astype(np.int32)

            def asked(runner: EngineRunner, what: str, system: TokenIds = system) -> None:
                question = rng.integers(10, runner.vocab_size, QUESTION).astype(np.int32)
                answers.setdefault(what, []).extend(runner.answers([np.concatenate([system, question])], ANSWER))

            with closing(first):
                asked(first, "computed")
                time.sleep(REST_SECONDS)
                asked(first, "cached")
            with closing(EngineRunner("second", folder, settings)) as second:
                asked(second, "restarted, at once")
            with closing(EngineRunner("third", folder, settings)) as third:
                time.sleep(REST_SECONDS)
                asked(third, "restarted, later")
            size = sum(file.stat().st_size for file in keep.glob("*.kv"))
    print(
        f"first token, median of {flags.rounds} rounds, {flags.tokens:,} tokens of system prompt, {size >> 20} MiB kept"
    )
    for what, given in answers.items():
        cached = sorted({answer.cached_tokens for answer in given})
        print(f"  {what:20s} {1000 * median(answer.first for answer in given):8.0f} ms   cached tokens: {cached}")


if __name__ == "__main__":
    main()
