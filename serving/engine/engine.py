"""One model for any number of threads: messages in, chunks of the answer out.

The runtime runs the model and holds the KV caches; everything else is decided here: whose turn it is (scheduler), how
an answer comes about (answer), which conversation it continues and where its memory comes from (memory).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from serving.engine.choosing import load_runtime, successor
from serving.engine.following import Grammars
from serving.engine.kept import Kept
from serving.engine.memory import KvMemory
from serving.engine.request import Request, Sink
from serving.engine.runtime import Runtime
from serving.engine.sampler import Sampler
from serving.engine.scheduler import Scheduler
from serving.errors import InvalidRequest
from serving.folder import ModelFolder
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

ONLY_TEXT = (
    "this runtime's KV caches cannot be kept: of a conversation its tokens are, and those last used are computed again "
    "after a start, while nobody asks; --runtime ort keeps all of it."
)


class Engine:
    """Serves one model folder to any number of threads.

    context_length: the served window, in tokens. notes: what the device does otherwise than asked for, or cannot do; a
    sentence each.

    >>> engine = Engine.load(Path("models/demo"))
    >>> for chunk in engine.generate([Message("user", "hello")], SamplingOptions(temperature=0.0)):
    ...     print(chunk.text, end="", flush=True)
    """

    def __init__(
        self,
        runtime: Runtime,
        prompt: Prompt,
        settings: EngineSettings | None = None,
        successor: Callable[[], Runtime] | None = None,
    ) -> None:
        """successor: loads the runtime that takes over once two answers are wanted at a time.

        Raises InvalidRequest where conversations cannot be kept where the settings say.
        """
        settings = settings or EngineSettings()
        kept = Kept(Path(settings.keep), settings.keep_bytes) if settings.keep else None
        self.folder = runtime.folder
        self.prompt = prompt
        self.context_length, self.notes, self._vocab_size = runtime.context_length, runtime.notes, runtime.vocab_size
        if kept and not runtime.kv_layout:
            self.notes += (ONLY_TEXT,)
        self._whole = runtime.whole
        self._overflow = settings.overflow
        self._memory = KvMemory(runtime, settings.kv_memory, settings.slots, settings.parallel, kept)
        parallel = min(settings.parallel, len(self._memory.slots))
        self._grammars = Grammars(lambda: self._compiler)
        self._scheduler = Scheduler(self._memory, parallel, settings.queue, settings.guess, successor)

    @classmethod
    def load(cls, path: Path | str, settings: EngineSettings | None = None) -> "Engine":
        """Load a model folder and run one warm-up pass.

        Raises ModelFolderError for an incomplete folder, InvalidRequest for settings that the model does not allow.
        """
        settings = settings or EngineSettings()
        folder = ModelFolder.open(Path(path))
        prompt = Prompt.load(folder.path)
        runtime = load_runtime(folder, settings)
        return cls(runtime, prompt, settings, successor(folder, settings, runtime))

    @cached_property
    def _compiler(self) -> "GrammarCompiler":
        from serving.text.grammar import GrammarCompiler  # at the first grammar: it loads a native library

        return GrammarCompiler(self.prompt.tokenizer, self._vocab_size, self.prompt.end_ids)

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
        options, template = options or SamplingOptions(), template or TemplateOptions()
        token_ids, dropped = self.prompt.tokens(
            messages, self.context_length, template, template.overflow or self._overflow, options.max_tokens
        )
        return self._stream(token_ids, dropped, options, cancelled, client)

    def submit(
        self, token_ids: TokenIds, options: SamplingOptions, cancelled: Cancelled, sink: Sink, client: str = ""
    ) -> None:
        """Ask for the answer to an encoded prompt [n], n below the context length, without waiting for it.

        `sink` gets every chunk, in order and a few at a time; last comes one with a finish reason, or an exception.
        It is called on the engine's thread and must not block. client: who asks; slots are shared out among clients.
        Raises Busy, EngineStopped, and InvalidRequest for tokens in the options that this model does not have; it
        becomes the last of the chunks for a grammar that it cannot follow.
        """
        if options.prompt_logprobs is not None and not self._whole:
            raise InvalidRequest("this model gives logits of the last token only, and so none of a prompt's.")
        grammar = self._grammars.follow(options.grammar) if options.grammar else None
        end_ids, banned = self.prompt.end_ids, self.prompt.spelled(options.bad_words)
        sampler = Sampler(options, token_ids, self._vocab_size, grammar, end_ids, banned)
        self._scheduler.submit(Request(token_ids, self.prompt, options, cancelled, sink, sampler, client))

    def status(self) -> EngineStatus:
        """How busy it is."""
        return EngineStatus(*self._scheduler.counts(), self._memory.held, self._memory.limit)

    def close(self) -> None:
        """Stop the thread and free the model. Requests still waiting end with EngineStopped."""
        self._scheduler.close()
        self._grammars.close()

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
                    try:
                        raise batch
                    finally:
                        del batch  # else it holds this frame, which holds it, and all that the answer needed
                for chunk in batch:
                    yield replace(chunk, dropped_messages=dropped) if dropped else chunk
                if batch[-1].finish_reason is not None:
                    return
        finally:
            closed.set()
