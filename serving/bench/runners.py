"""Who is measured: our engine's process, or anything else that answers prompts; and what one answer took."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

import psutil

from serving.engine.process import EngineProcess
from serving.engine.wire import Batch, is_last
from serving.errors import ServingError
from serving.hardware import peak_memory, usable_cores
from serving.types import EngineSettings, SamplingOptions, TokenIds


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as its asker saw it. first, whole: seconds from the question to the first and the last token.

    prefill, decode: seconds that computing the prompt took, and the tokens after the first.
    """

    prompt_tokens: int
    cached_tokens: int
    token_ids: tuple[int, ...]
    first: float
    whole: float
    prefill: float
    decode: float

    @property
    def prefill_speed(self) -> float:
        """Tokens/s of what was not cached."""
        return (self.prompt_tokens - self.cached_tokens) / self.prefill

    @property
    def decode_speed(self) -> float:
        """Tokens/s after the first token."""
        return (len(self.token_ids) - 1) / self.decode

    @property
    def per_token(self) -> float:
        """Seconds for each token after the first, as its asker saw them."""
        return (self.whole - self.first) / max(1, len(self.token_ids) - 1)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a process holds, and the most that it has held; None where the system does not say."""

    rss: int
    peak: int | None


class Runner(Protocol):
    """What is measured. most_users: that it answers at once. size: bytes of its weights' files."""

    name: str
    threads: int
    size: int
    vocab_size: int
    most_users: int

    def answers(self, prompts: Sequence[TokenIds], count: int) -> list[Answer]:
        """`count` greedy tokens to each prompt [n], asked for at once, each by another user. Raises ServingError."""

    def memory(self) -> Memory:
        """Of the process that computes."""

    def close(self) -> None:
        """End it."""


class EngineRunner:
    """Our engine in its own process, as the server has it, without HTTP and without guesses."""

    def __init__(self, name: str, folder: Path, settings: EngineSettings) -> None:
        """Raises what EngineProcess.load raises."""
        self.name = name
        self.threads = settings.threads or usable_cores()
        self.most_users = settings.parallel
        self._engine = EngineProcess.load(folder, settings)
        try:
            self._engine.warm_up()  # what starts beside it would compute at the same time
        except BaseException:
            self._engine.close()
            raise
        self.size = weights_size(folder)
        self.vocab_size = self._engine.folder.vocab_size

    @property
    def pid(self) -> int | None:
        """Of the process that computes."""
        return self._engine.pid

    def answers(self, prompts: Sequence[TokenIds], count: int) -> list[Answer]:
        """See Runner."""
        options = SamplingOptions(temperature=0.0, max_tokens=count, ignore_eos=True)
        came: SimpleQueue[tuple[int, float, Batch]] = SimpleQueue()
        begun = []
        for user, prompt in enumerate(prompts):

            def sink(_: int, batch: Batch, user: int = user) -> None:
                came.put((user, time.perf_counter(), batch))

            begun.append(time.perf_counter())
            self._engine.start([(prompt, options)], sink, f"user {user}")
        made: list[list[int]] = [[] for _ in prompts]
        first: dict[int, float] = {}
        done: dict[int, Answer] = {}
        while len(done) < len(prompts):
            user, now, batch = came.get()
            if isinstance(batch, ServingError):
                raise batch
            made[user] += [chunk.token_id for chunk in batch if chunk.token_id is not None]
            if made[user]:
                first.setdefault(user, now - begun[user])
            if is_last(batch):
                last = batch[-1]
                done[user] = Answer(
                    last.prompt_tokens, last.cached_tokens, tuple(made[user]), first[user], now - begun[user],
                    last.prefill_seconds, last.decode_seconds,
                )  # fmt: skip
        return [done[user] for user in range(len(prompts))]

    def memory(self) -> Memory:
        """See Runner."""
        return memory_of(self.pid)

    def close(self) -> None:
        """See Runner."""
        self._engine.close()


def memory_of(pid: int | None) -> Memory:
    """Of another process; nothing of one that has gone."""
    with suppress(psutil.Error):
        if pid is not None:
            return Memory(int(psutil.Process(pid).memory_info().rss), peak_memory(pid))
    return Memory(0, None)


def weights_size(folder: Path) -> int:
    """Bytes of a model folder's graph and weights."""
    return sum(file.stat().st_size for file in folder.glob("*.onnx*"))
