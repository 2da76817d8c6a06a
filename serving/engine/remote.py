"""What all engines have in common whose answers are made elsewhere: prompts are written here, chunks come later."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue

from serving.engine.wire import Batch, Wanted, is_last
from serving.errors import ServingError
from serving.folder import ModelFolder
from serving.text.process import TextProcess
from serving.text.session import session_of
from serving.types import (
    Cancelled,
    Chunk,
    EngineSettings,
    Message,
    SamplingOptions,
    TemplateOptions,
    TokenIds,
    never,
)

_POLL_SECONDS = 0.1  # how often `cancelled` is asked while no chunk comes


class RemoteEngine(ABC):
    """What Engine is to its callers, with the model in other processes. Safe to use from any number of threads."""

    def __init__(self, folder: ModelFolder, prompt: TextProcess, settings: EngineSettings) -> None:
        self.folder = folder
        self.prompt = prompt
        self._settings = settings

    @property
    @abstractmethod
    def context_length(self) -> int:
        """The served window, in tokens."""

    @abstractmethod
    def start(
        self, wanted: Wanted, sink: Callable[[int, Batch], None], client: str = "", session: str = ""
    ) -> Callable[[], None]:
        """Ask for answers to encoded prompts [n], all of them or none, without waiting; what is returned cancels them.

        `sink` gets every chunk with the index of its answer, in order and a few at a time; last comes one with a finish
        reason, or an error. It is called on another thread and must not block. client: who asks. session: which
        conversation they continue, by a name of any kind: where there are several engines, one has all of it.
        """

    def warm_up(self, cancelled: Cancelled = never) -> None:
        """Wait for what the first request would wait for: the processes that write prompts.

        Raises ModelFolderError for a tokenizer or a chat template that cannot be used.
        """
        self.prompt.wait(cancelled)

    def load_ahead(self) -> None:  # noqa: B027 - for most there is nothing to do
        """Begin to load the model if it is not, as somebody is about to ask. Returns at once."""

    @property
    def loading(self) -> bool:
        """Whether the model is being loaded now; False where that cannot be, or is not known."""
        return False

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
        template: TemplateOptions | None = None,
        client: str = "",
    ) -> Iterator[Chunk]:
        """Stream the assistant's answer, as Engine.generate does. Raises EngineStopped if the process ends."""
        options = options or SamplingOptions()
        token_ids, dropped = self.tokens(messages, options, template)
        return self._stream(token_ids, options, dropped, cancelled, client, session_of(messages))

    def tokens(
        self, messages: Sequence[Message], options: SamplingOptions, template: TemplateOptions | None = None
    ) -> tuple[TokenIds, int]:
        """The encoded prompt [n] of a conversation, and how many messages were left out so that it fits.

        The options' grammar is tried out as well. Raises InvalidRequest, ContextOverflow, Busy, EngineStopped.
        """
        if options.grammar:
            self.prompt.check(options.grammar)
        template = template or TemplateOptions()
        policy = template.overflow or self._settings.overflow
        return self.prompt.tokens(messages, self.context_length, template, policy, options.max_tokens)

    def _stream(
        self,
        token_ids: TokenIds,
        options: SamplingOptions,
        dropped: int,
        cancelled: Cancelled,
        client: str,
        session: str,
    ) -> Iterator[Chunk]:
        batches: SimpleQueue[Batch] = SimpleQueue()
        cancel = self.start([(token_ids, options)], lambda _, batch: batches.put(batch), client, session)
        ended = told = False
        try:
            while not ended:
                if not told and cancelled():
                    told = True
                    cancel()
                try:
                    batch = batches.get(timeout=_POLL_SECONDS)
                except Empty:
                    continue
                ended = is_last(batch)
                if isinstance(batch, ServingError):
                    raise batch
                for chunk in batch:
                    yield replace(chunk, dropped_messages=dropped) if dropped else chunk
        finally:
            if not ended and not told:
                cancel()
