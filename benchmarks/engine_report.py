"""What the engine does for follow-ups, for several users, for copied text, and with how much memory.

    python -m benchmarks.engine_report                          # all, on a random llama of about 60 M parameters
    python -m benchmarks.engine_report FOLDER users guesses     # some, on any exported model folder

users: tokens/s of all answers together. follow-ups: time to the first token of every turn of a chat, from the KV cache
and without. guesses: speed with n-gram guesses over without, where much is copied and where nothing is. deterministic:
what an even number of rows in every pass costs. memory: of a short chat on a window of 131,072 tokens.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.engine_speed import random_llama
from serving.engine.engine import Engine
from serving.types import Completion, EngineSettings, Message, SamplingOptions, complete

BACKENDS = {"taking turns": EngineSettings(parallel=8, guess=False)}
BACKENDS["in one batch"] = replace(BACKENDS["taking turns"], batch=True)
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


def users(folder: Path, rounds: int) -> None:
    """Tokens/s of so many answers of 100 tokens at once, the prompts' prefill included."""

    def rate(engine: Engine, people: int, round: int) -> float:
        def ask(who: int) -> None:
            answer(engine, [Message("user", f"Tell me story {round}.{who} about a fox.")], 100)

        threads = [threading.Thread(target=ask, args=(who,)) for who in range(people)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return 100 * people / (time.perf_counter() - begun)

    print("| users | " + " | ".join(f"{name} | against one" for name in BACKENDS) + " |")
    print("|---|" + "---|---|" * len(BACKENDS))
    with ExitStack() as stack:
        engines = [engine(stack, folder, settings) for settings in BACKENDS.values()]
        found: dict[tuple[int, int], list[float]] = {}
        for round in range(rounds + 1):
            for people in (1, 2, 4, 8):
                for which, one in enumerate(engines):
                    found.setdefault((which, people), []).append(rate(one, people, round))
        for people in (1, 2, 4, 8):
            cells = []
            for which in range(len(engines)):
                ours, alone = found[which, people][1:], found[which, 1][1:]
                ratio = median(a / b for a, b in zip(ours, alone, strict=True))
                cells.append(f"{median(ours):.1f} | x{ratio:.2f}")
            print(f"| {people} | " + " | ".join(cells) + " |", flush=True)


def follow_ups(folder: Path, rounds: int) -> None:
    """Milliseconds to the first token, turn by turn; every turn adds the same number of tokens."""
    first: dict[tuple[str, int], list[float]] = {}
    sizes: dict[int, int] = {}
    with ExitStack() as stack:
        engines = {name: engine(stack, folder, settings) for name, settings in BACKENDS.items()}
        empty = stack.enter_context(Engine.load(folder, EngineSettings(slots=1)))
        for round in range(rounds + 1):
            for name, one in engines.items():
                history: list[Message] = []
                for turn in range(1, 21):
                    history.append(Message("user", f"Round {round}, question {turn:02}: what does the fox do then?"))
                    made = answer(one, history, 24)
                    first.setdefault((name, turn), []).append(made.last.prefill_seconds)
                    if name == "taking turns" and turn in (2, 5, 10, 15, 20):
                        sizes[turn] = made.last.prompt_tokens
                        answer(empty, [Message("user", "something else")], 1)  # takes the only slot
                        fresh = answer(empty, history, 1).last
                        first.setdefault(("computed anew", turn), []).append(fresh.prefill_seconds)
                    history.append(Message("assistant", "It runs over the hill and looks for the river, and then on."))
    names = (*BACKENDS, "computed anew")
    print("| turn | prompt tokens | " + " | ".join(names) + " |")
    print("|---|---|" + "---|" * len(names))
    for turn, size in sizes.items():
        cells = [f"{1000 * median(first[name, turn][1:]):.1f} ms" for name in names]
        print(f"| {turn} | {size:,} | " + " | ".join(cells) + " |")
    for name in names:
        ratio = median(b / a for a, b in zip(first[name, 2][1:], first[name, 20][1:], strict=True))
        print(f"turn 20 over turn 2, {name}: {ratio:.2f}")


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
        one = engine(stack, folder, EngineSettings(batch=batch, guess=False))
        answer(one, PLAIN, 200)
        runtime = one._runtime
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be the parent's, if that had more
    peak = (int(status.partition("VmHWM:")[2].split()[0]) << 10) - before
    step = (serving.engine.ort.KV_STEP if batch else serving.engine.oga.CAPACITY_STEP) * runtime.kv_bytes_per_token
    print(json.dumps({"peak": peak, "step": step, "whole": runtime.context_length * runtime.kv_bytes_per_token}))


MEASUREMENTS = {
    "users": users,
    "follow-ups": follow_ups,
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
