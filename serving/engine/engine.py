"""One model for any number of threads: messages in, chunks of the answer out.

The runtime runs the model and holds the KV caches; everything else is decided here: whose turn it is (scheduler), how
an answer comes about (answer), which conversation it continues and where its memory comes from (memory).
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from serving.engine.memory import KvMemory
from serving.engine.request import Request, Sink
from serving.engine.runtime import Runtime
from serving.engine.sampler import Sampler
from serving.engine.scheduler import Scheduler
from serving.errors import InvalidRequest
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.text.prompt import Prompt
from serving.types import (
    Cancelled,
    Chunk,
    EngineSettings,
    EngineStatus,
    Message,
    SamplingOptions,
    TemplateOptions,
    TokenIds,
    never,
)

if TYPE_CHECKING:
    from serving.text.grammar import GrammarCompiler


class Engine:
    """Serves one model folder to any number of threads.

    >>> engine = Engine.load(Path("models/demo"))
    >>> for chunk in engine.generate([Message("user", "hello")], SamplingOptions(temperature=0.0)):
    ...     print(chunk.text, end="", flush=True)
    """

    def __init__(self, runtime: Runtime, prompt: Prompt, settings: EngineSettings | None = None) -> None:
        settings = settings or EngineSettings()
        self.folder = runtime.folder
        self.prompt = prompt
        self._runtime = runtime
        self._overflow = settings.overflow
        self._memory = KvMemory(runtime, settings.kv_memory, settings.slots, settings.parallel)
        parallel = min(settings.parallel, len(self._memory.slots))
        guess = settings.guess and runtime.continues
        self._scheduler = Scheduler(runtime, self._memory, parallel, settings.queue, guess)

    @classmethod
    def load(cls, path: Path | str, settings: EngineSettings | None = None) -> "Engine":
        """Load a model folder and run one warm-up pass.

        Raises ModelFolderError for an incomplete folder, InvalidRequest for settings that the model does not allow.
        """
        settings = settings or EngineSettings()
        folder = ModelFolder.open(Path(path))
        prompt = Prompt.load(folder.path)
        return cls(load_runtime(folder, settings), prompt, settings)

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""
        return self._runtime.context_length

    @property
    def notes(self) -> tuple[str, ...]:
        """What the device does otherwise than asked for, or cannot do; a sentence each."""
        return self._runtime.notes

    @cached_property
    def _grammars(self) -> "GrammarCompiler":
        from serving.text.grammar import GrammarCompiler  # at the first grammar: it loads a native library

        return GrammarCompiler(self.prompt.tokenizer, self._runtime.vocab_size, self.prompt.end_ids)

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
        template: TemplateOptions | None = None,
        client: str = "",
    ) -> Iterator[Chunk]:
        """Stream the assistant's answer.

        The first chunks report prefill and carry no text; the last carries the finish reason. `cancelled` is asked
        before every forward pass; closing the iterator cancels too. Whatever was computed stays in the KV cache, and
        the next request that begins with the same tokens continues there.
        Raises InvalidRequest at once for messages the chat template refuses, ContextOverflow for a prompt that leaves
        no room for an answer, Busy where too many requests wait.
        """
        options = options or SamplingOptions()
        token_ids, dropped = self.prompt.tokens(
            messages, self.context_length, template or TemplateOptions(), self._overflow, options.max_tokens
        )
        return self._stream(token_ids, dropped, options, cancelled, client)

    def submit(
        self, token_ids: TokenIds, options: SamplingOptions, cancelled: Cancelled, sink: Sink, client: str = ""
    ) -> None:
        """Ask for the answer to an encoded prompt [n], n below the context length, without waiting for it.

        `sink` gets every chunk, in order and a few at a time; last comes one with a finish reason, or an exception.
        It is called on the engine's thread and must not block. client: who asks; slots are shared out among clients.
        Raises Busy, EngineStopped, and
        InvalidRequest for a grammar or a logit_bias that this model cannot follow.
        """
        matcher = self._grammars.matcher(options.grammar) if options.grammar else None
        sampler = Sampler(options, token_ids, self._runtime.vocab_size, matcher)
        self._scheduler.submit(Request(token_ids, self.prompt, options, cancelled, sink, sampler, client))

    def status(self) -> EngineStatus:
        """How busy it is."""
        return EngineStatus(*self._scheduler.counts(), self._memory.held, self._memory.limit)

    def close(self) -> None:
        """Stop the thread and free the model. Requests still waiting end with EngineStopped."""
        self._scheduler.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(
        self, token_ids: TokenIds, dropped: int, options: SamplingOptions, cancelled: Cancelled, client: str
    ) -> Iterator[Chunk]:
        batches: SimpleQueue[Sequence[Chunk] | Exception] = SimpleQueue()
        closed = threading.Event()
        self.submit(token_ids, options, lambda: closed.is_set() or cancelled(), batches.put, client)
        try:
            while True:
                batch = batches.get()
                if isinstance(batch, Exception):
                    raise batch
                for chunk in batch:
                    yield replace(chunk, dropped_messages=dropped) if dropped else chunk
                if batch[-1].finish_reason is not None:
                    return
        finally:
            closed.set()


def load_runtime(folder: ModelFolder, settings: EngineSettings) -> Runtime:
    """The runtime that the settings ask for. Imported here: each of them loads a native library.

    Raises InvalidRequest for a provider that cannot be used; ModelFolderError.
    """
    threads = usable_cores() if settings.threads is None else settings.threads
    length, deterministic = settings.context_length, settings.deterministic
    if settings.batch:
        if folder.provider != "cpu":
            raise InvalidRequest(f"--batch needs a model that was built for the CPU, not for {folder.provider}.")
        from serving.engine.ort import OrtRuntime

        return OrtRuntime(folder, length, threads, deterministic=deterministic)
    from serving.engine.oga import OgaRuntime

    return OgaRuntime(folder, length, threads, deterministic=deterministic, provider=settings.provider)
