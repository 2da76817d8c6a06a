"""One answer by the engine, as a JSON line with prefill and decode tokens/s: to hold against another program.

    python -m benchmarks.engine_once FOLDER [--batch]

The prompt has 256 random tokens and the answer 64, on the usable cores; the second of two is what counts.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from serving.engine.engine import Engine
from serving.types import Chunk, EngineSettings, SamplingOptions, never

PROMPT, ANSWER = 256, 64


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", action="store_true")
    flags = parser.parse_args()
    token_ids = np.random.default_rng(0).integers(300, 2000, PROMPT).astype(np.int32)
    with Engine.load(flags.folder, EngineSettings(batch=flags.batch, guess=False)) as engine:
        engine.prompt = replace(engine.prompt, fixed_end_ids=frozenset())
        for first in (token_ids[0], token_ids[0] + 1):  # nothing of the second prompt is cached
            token_ids[0] = first
            chunks: SimpleQueue[object] = SimpleQueue()
            engine.submit(token_ids, SamplingOptions(temperature=0.0, max_tokens=ANSWER), never, chunks.put)
            while True:
                batch = chunks.get()
                assert isinstance(batch, list), batch
                last: Chunk = batch[-1]
                if last.finish_reason is not None:
                    break
    print(json.dumps({"prefill": PROMPT / last.prefill_seconds, "decode": (ANSWER - 1) / last.decode_seconds}))


if __name__ == "__main__":
    main()
