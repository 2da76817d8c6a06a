"""Many conversations at once, as people have them: turns, edits, regenerated answers, stops, common system prompts.

python -m tests.traffic FOLDER --requests 20000      # a soak: no error, and memory as it was after the warm-up
"""

import argparse
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import psutil

from serving.engine.engine import Engine
from serving.types import Chunk, EngineSettings, Message, SamplingOptions

SYSTEMS = ("", "You are a helpful assistant.", "Answer in capitals.", "You are a pirate. " * 12)
QUESTIONS = (
    "hi", "what is 17+25?", "tell me a story about a fox", "My name is Anna.", "what is my name?", "capital of france",
    "what is a KV cache?", "spell banana", "write a poem about rain", "sort 9 3 7", "who are you?", "what is AWQ?",
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A request and what came of it. stopped: it was cancelled after as many tokens as there are."""

    messages: list[Message]
    options: SamplingOptions
    chunks: list[Chunk]
    stopped: bool

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(chunk.token_id for chunk in self.chunks if chunk.token_id is not None)

    def differs_from(self, chunks: Sequence[Chunk], tolerance: float = 1e-3) -> str:
        """In what another engine's answer differs: tokens, or a logprob by more than `tolerance`; empty if nothing."""
        mine, others = ([chunk for chunk in made if chunk.token_id is not None] for made in (self.chunks, chunks))
        others = others[: len(mine)] if self.stopped else others
        if [chunk.token_id for chunk in mine] != [chunk.token_id for chunk in others]:
            return f"tokens {self.tokens} and {tuple(chunk.token_id for chunk in others)}"
        worst = max((abs((a.logprob or 0) - (b.logprob or 0)) for a, b in zip(mine, others, strict=True)), default=0.0)
        return f"logprobs by {worst}" if worst > tolerance else ""


def converse(engine: Engine, seed: int, conversations: int, requests: Iterator[int], longest: int = 16) -> list[Asked]:
    """Take requests until there are none left, in conversations of one person's own."""
    rng = np.random.default_rng(seed)
    asked: list[Asked] = []
    histories = [begin(rng) for _ in range(conversations)]
    which = 0
    for number in requests:
        if rng.random() < 0.5:  # people mostly stay with what they talk about
            which = int(rng.integers(conversations))
        history, kind = histories[which], rng.random()
        if kind < 0.15 and len(history) > 3:  # edit an earlier question
            at = int(rng.choice([i for i, message in enumerate(history) if message.role == "user"]))
            history = [*history[:at], Message("user", f"{rng.choice(QUESTIONS)} ({number})")]
        elif kind < 0.2 or len(history) > 12:
            history = begin(rng)
        options = SamplingOptions(temperature=0.0, max_tokens=int(rng.integers(1, longest)), logprobs=0)
        if rng.random() < 0.25:
            options = replace(options, temperature=0.9, top_p=0.95, seed=number)
        stop_after = int(rng.integers(1, 6)) if rng.random() < 0.15 else None
        chunks: list[Chunk] = []
        with closing(engine.generate(history, options)) as stream:  # type: ignore[type-var]
            for chunk in stream:
                chunks.append(chunk)
                if stop_after is not None and len(chunks) >= stop_after:
                    break
        stopped = chunks[-1].finish_reason is None
        asked.append(Asked(history, options, chunks, stopped))
        if not stopped and rng.random() > 0.2:  # otherwise the next request asks for the same answer again
            said = "".join(chunk.text for chunk in chunks)
            history = [*history, Message("assistant", said), Message("user", str(rng.choice(QUESTIONS)))]
        histories[which] = history
    return asked


def begin(rng: np.random.Generator) -> list[Message]:
    """A system prompt that others have too, and a first question."""
    system, question = str(rng.choice(SYSTEMS)), Message("user", str(rng.choice(QUESTIONS)))
    return [Message("system", system), question] if system else [question]


def crowd(engine: Engine, people: int, conversations: int, requests: int, seed: int = 0) -> list[Asked]:
    """So many people at once, with so many conversations each; raises what any of them met."""
    numbers, lock = iter(range(requests)), threading.Lock()
    results: list[list[Asked] | BaseException] = []

    def taken() -> Iterator[int]:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            yield number

    def person(which: int) -> None:
        try:
            results.append(converse(engine, 1000 * seed + which, conversations, taken()))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=person, args=(which,)) for which in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [asked for result in results if isinstance(result, list) for asked in result]


def main() -> None:
    """The soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--warm-up", type=int, default=2_000)
    parser.add_argument("--batch", action="store_true")
    flags = parser.parse_args()
    process, began = psutil.Process(), time.perf_counter()
    with Engine.load(flags.folder, EngineSettings(runtime="ort" if flags.batch else "oga")) as engine:
        crowd(engine, 5, 4, flags.warm_up)
        warm = process.memory_info().rss
        print(f"after {flags.warm_up:,} requests: {warm / 2**20:.1f} MiB", flush=True)
        for part in count(1):
            if (done := (part - 1) * 1000) >= flags.requests:
                break
            size = min(1000, flags.requests - done)
            tokens = sum(len(asked.tokens) for asked in crowd(engine, 5, 4, size, seed=part))
            now = process.memory_info().rss
            print(
                f"{done + size:>7,} requests, {tokens:,} tokens in the last {size:,}, {now / 2**20:.1f} MiB "
                f"({now / warm - 1:+.1%}), {time.perf_counter() - began:.0f} s", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
