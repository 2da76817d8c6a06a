"""What the engine does for follow-ups and copied text, and with how much memory. Speeds: `python app.py bench`.

    python -m benchmarks.engine_report                          # all, on a random llama of about 60 M parameters
    python -m benchmarks.engine_report FOLDER guesses           # some, on any exported model folder

follow-ups: time to the first token of every turn of a chat, up to 8,000 tokens. growing: the same with little memory.
guesses: speed with n-gram guesses over without, where much is copied and where nothing is. deterministic: what an even
number of rows in every pass costs. memory: of a short chat on a window of 131,072 tokens.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from statistics import median

import numpy as np

from benchmarks.engine_speed import random_llama
from serving.engine.engine import Engine
from serving.folder import ModelFolder
from serving.hardware import peak_memory
from serving.types import Chunk, Completion, EngineSettings, Message, SamplingOptions, TokenIds, complete, never

BACKENDS = {"taking turns": EngineSettings(parallel=8, guess=False)}
BACKENDS["in one batch"] = replace(BACKENDS["taking turns"], runtime="ort")
TEXT = (
    "Every morning at seven o'clock Mrs. Hudson opens the small bakery on Baker Street and sells 42 loaves of rye "
    "bread, 17 apple cakes and 9 lemon tarts. Her neighbours say that nobody in the whole town bakes better. On "
    "Sundays she closes early and walks along the canal with her two dogs, Rufus and Daisy."
)
COPY = [Message("user", f"Repeat the following text exactly, word for word:\n\n{TEXT}")]
PLAIN = [Message("user", "Tell me a long story about a fox.")]


def engine(stack: ExitStack, folder: Path, settings: EngineSettings, endless: bool = True) -> Engine:
    """endless: no token ends an answer, so that all have the same length."""
    made = stack.enter_context(Engine.load(folder, settings))
    if endless:
        made.prompt = replace(made.prompt, fixed_end_ids=frozenset())
    return made


def answer(engine: Engine, messages: list[Message], tokens: int, temperature: float = 0.0, seed: int = 0) -> Completion:
    options = SamplingOptions(temperature=temperature, max_tokens=tokens, seed=seed)
    return complete(engine.generate(messages, options))


def follow_ups(folder: Path, rounds: int) -> None:
    """Milliseconds to the first token of every turn, up to 8,000 tokens or the window, and what stands out of them."""
    curves(folder, rounds, BACKENDS)


def growing(folder: Path, rounds: int) -> None:
    """The same with memory for two conversations of 8,192 tokens, so that KV caches begin small and have to grow.

    Somebody reads for a second before each turn.
    """
    per_token = ModelFolder.open(folder).kv_bytes_per_token
    narrow = EngineSettings(slots=2, kv_memory=2 * 8192 * per_token, guess=False)
    curves(folder, rounds, {"growing": narrow}, reading=1.0)


def curves(folder: Path, rounds: int, backends: Mapping[str, EngineSettings], reading: float = 0.0) -> None:
    """reading: seconds before each turn."""
    with ExitStack() as stack:
        engines = {name: engine(stack, folder, settings) for name, settings in backends.items()}
        fresh = engine(stack, folder, EngineSettings(slots=1))
        last = min(8000, fresh.context_length - 200)
        turns: dict[str, list[list[Turn]]] = {name: [] for name in engines}
        for round in range(rounds + 1):
            for name, one in engines.items():
                turns[name].append(conversation(one, round, last, reading))
        at = [turn.tokens for turn in next(iter(turns.values()))[1]]
        shown = [min(range(len(at)), key=lambda i: abs(at[i] - size)) for size in range(500, last + 1, 500)]
        anew = {turn: f"{1000 * fresh_start(fresh, at[turn]):.0f}" for turn in shown[1::4]}
    print("| prompt tokens | " + " | ".join(engines) + " | computed anew |")
    print("|---|" + "---|" * (len(engines) + 1))
    for turn in shown:
        cells = [f"{1000 * median(made[turn].first for made in turns[name][1:]):.0f}" for name in engines]
        print(f"| {at[turn]:,} | " + " | ".join([*cells, anew.get(turn, "")]) + " |")
    for name in engines:
        typical = [median(made[turn].first for made in turns[name][1:]) for turn in range(len(at))]
        out = [(first / median(typical[max(1, i - 3) : i + 4]), at[i]) for i, first in enumerate(typical)][2:]
        gaps = [(median(made[turn].gap for made in turns[name][1:]), at[turn]) for turn in range(1, len(at))]
        again = max(made[turn].computed for made in turns[name][1:] for turn in range(1, len(at)))
        print(
            f"{name}: first token over its neighbours' at most x{max(out)[0]:.2f}, at {max(out)[1]:,} tokens; gap "
            f"between tokens over the turn's median at most x{max(gaps)[0]:.2f}, at {max(gaps)[1]:,}; of no prompt "
            f"more than {again} tokens computed"
        )


@dataclass(frozen=True)
class Turn:
    """tokens: of the prompt, of which so many were computed. first: seconds to the first token. gap: see follow_ups."""

    tokens: int
    computed: int
    first: float
    gap: float


def conversation(one: Engine, round: int, last: int, reading: float) -> list[Turn]:
    """Turns of 76 random tokens and an answer of 24 each, until the prompt has `last` tokens.

    Tokens and not texts: what a random model says does not come back as the same tokens.
    """
    rng = np.random.default_rng(round)
    prompt = np.empty(0, np.int32)
    turns: list[Turn] = []
    while prompt.size < last:
        prompt = np.concatenate([prompt, rng.integers(300, one._memory.runtime.vocab_size, 76).astype(np.int32)])
        time.sleep(reading if turns else 0.0)
        chunks = said(one, prompt, 24)
        times = [chunk.decode_seconds for chunk in chunks if chunk.completion_tokens]
        gaps, end = [after - before for before, after in pairwise(times)], chunks[-1]
        computed = end.prompt_tokens - end.cached_tokens
        turns.append(Turn(prompt.size, computed, end.prefill_seconds, max(gaps) / median(gaps)))
        answer_ids = [chunk.token_id for chunk in chunks if chunk.token_id is not None]
        prompt = np.concatenate([prompt, np.asarray(answer_ids, np.int32)])
    return turns


def fresh_start(one: Engine, tokens: int) -> float:
    """Seconds to the first token of a prompt of so many, nothing of which is cached."""
    prompt = np.random.default_rng(tokens).integers(300, one._memory.runtime.vocab_size, tokens).astype(np.int32)
    return said(one, prompt, 1)[-1].prefill_seconds


def said(one: Engine, prompt: TokenIds, tokens: int) -> list[Chunk]:
    """The greedy answer to a prompt [n]."""
    batches: SimpleQueue[Sequence[Chunk] | Exception] = SimpleQueue()
    one.submit(prompt, SamplingOptions(temperature=0.0, max_tokens=tokens), never, batches.put)
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].finish_reason is None:
        batch = batches.get()
        assert not isinstance(batch, Exception), batch
        chunks += batch
    return chunks


def guesses(folder: Path, rounds: int) -> None:
    """Decode speed with guesses over without, pair by pair; and how often the greedy tokens are the same."""
    print("| task | temperature | tokens/s without | with | ratio | same tokens |")
    print("|---|---|---|---|---|---|")
    with ExitStack() as stack:
        plain, guessing = (engine(stack, folder, EngineSettings(guess=g), endless=False) for g in (False, True))
        for task, messages in (("copy", COPY), ("nothing to copy", PLAIN)):
            for temperature in (0.0, 0.8):
                pairs = []
                for seed in range(rounds + 1):
                    one, other = (answer(e, messages, 150, temperature, seed) for e in (plain, guessing))
                    speeds = [len(made.token_ids) / made.last.decode_seconds for made in (one, other)]
                    pairs.append((*speeds, one.token_ids == other.token_ids))
                pairs = pairs[1:]
                print(
                    f"| {task} | {temperature} | {median(a for a, _, _ in pairs):.1f} "
                    f"| {median(b for _, b, _ in pairs):.1f} | {median(b / a for a, b, _ in pairs):.2f} "
                    f"| {sum(same for _, _, same in pairs)} of {len(pairs)} |", flush=True,
                )  # fmt: skip


def deterministic(folder: Path, rounds: int) -> None:
    """Decode and prefill speed with `--deterministic` over without, pair by pair."""
    long = [Message("user", "word " * 400)]
    with ExitStack() as stack:
        loose, strict = (engine(stack, folder, EngineSettings(guess=False, deterministic=d)) for d in (False, True))
        decode, prefill = [], []
        for round in range(rounds + 1):
            one, other = (answer(e, [*PLAIN, Message("assistant", f"{round}")], 100).last for e in (loose, strict))
            decode.append(one.decode_seconds / other.decode_seconds)
            prompt = [Message("system", f"{round}"), *long]
            one, other = (answer(e, prompt, 1).last for e in (loose, strict))
            prefill.append(one.prefill_seconds / other.prefill_seconds)
    print(f"deterministic: decode {median(decode[1:]):.2f}, prefill {median(prefill[1:]):.2f} of the speed without")


def memory(_: Path, rounds: int) -> None:
    """Memory above what the imports take, of a 200-token chat on a random llama with a window of 131,072 tokens."""
    with tempfile.TemporaryDirectory() as name:
        folder = random_llama(Path(name), hidden=1024, layers=20, window=131_072)
        size = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
        for batch in (False, True):
            command = [sys.executable, "-m", "benchmarks.engine_report", str(folder), "--chat-memory"]
            command += ["--batch"] if batch else []
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            step, allowed = said["step"], 1.2 * size + said["step"]
            print(
                f"{'in one batch' if batch else 'taking turns'}: peak {said['peak'] >> 20} MiB for a model of "
                f"{size >> 20} MiB and a KV cache step of {step >> 20} MiB; allowed {int(allowed) >> 20} MiB; the "
                f"whole window would be {said['whole'] >> 20:,} MiB"
            )


def chat_memory(folder: Path, batch: bool) -> None:
    """In a process of its own: the peak above what the imports take, in bytes, as JSON."""
    import psutil

    import serving.engine.oga
    import serving.engine.ort

    before = psutil.Process().memory_info().rss
    with ExitStack() as stack:
        one = engine(stack, folder, EngineSettings(runtime="ort" if batch else "oga", guess=False))
        answer(one, PLAIN, 200)
        runtime = one._memory.runtime
    peak = (peak_memory(os.getpid()) or 0) - before
    step = (serving.engine.ort.KV_STEP if batch else runtime.first_tokens or 0) * runtime.kv_bytes_per_token
    print(json.dumps({"peak": peak, "step": step, "whole": runtime.context_length * runtime.kv_bytes_per_token}))


MEASUREMENTS = {
    "follow-ups": follow_ups,
    "growing": growing,
    "guesses": guesses,
    "deterministic": deterministic,
    "memory": memory,
}


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="an exported model folder")
    parser.add_argument("what", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; all without a name")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--chat-memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--batch", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.chat_memory:
        chat_memory(flags.folder, flags.batch)
        return
    with ExitStack() as stack:
        folder = flags.folder or random_llama(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        for name in flags.what or MEASUREMENTS:
            print(f"\n{name}, {folder.name}, medians of {flags.rounds} rounds", flush=True)
            MEASUREMENTS[name](folder, flags.rounds)


if __name__ == "__main__":
    main()
