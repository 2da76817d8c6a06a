"""The engine in a process of its own.

OGA's Python binding holds the interpreter's lock during every forward pass. In one process with a web server, a page
would stand still for as long as a chunk of prefill takes, which is seconds for a large model. A crash, a hung call, or
a kill because memory ran out, ends that process only, and another one is started.

Everything but loading, and waiting for an answer, returns at once, whatever state the process is in. How many answers
are under way is known here: what does not fit is refused before a line of it is written.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from serving.engine.admission import Admission
from serving.engine.child import WORKER, Child
from serving.engine.keeper import Keeper
from serving.engine.watch import Patience
from serving.engine.wire import Batch, Sink, Wanted, encoded, is_last
from serving.errors import EngineStopped, ServingError
from serving.folder import ModelFolder
from serving.text.lane import Limits
from serving.text.process import TextProcess
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

FRESH_SECONDS = 0.25  # what `status` waits for the process: beyond it, what it last said has to do
_POLL_SECONDS = 0.1  # how often `cancelled` is asked while no chunk comes


class EngineProcess:
    """What Engine is to its callers, with the model in a child process. Safe to use from any number of threads.

    watch: is given what takes an answer's chunks, and returns what shall take them in its place. patience: with a
    process that is silent. command: what is run.
    """

    def __init__(
        self,
        folder: ModelFolder,
        prompt: TextProcess,
        settings: EngineSettings,
        watch: Callable[[Sink], Sink] | None = None,
        patience: Patience | None = None,
        command: Sequence[str] = WORKER,
    ) -> None:
        self.folder = folder
        self.prompt = prompt
        self._settings, self._watch = settings, watch
        self._admission = Admission(settings.at_once, settings.queue)
        self._numbers = itertools.count()
        self._told: Child | None = None  # which process knows what ends an answer
        self._keeper = Keeper(command, {"path": str(folder.path), "settings": asdict(settings)}, patience or Patience())

    @classmethod
    def load(
        cls,
        path: Path | str,
        settings: EngineSettings | None = None,
        watch: Callable[[Sink], Sink] | None = None,
        patience: Patience | None = None,
        command: Sequence[str] = WORKER,
    ) -> "EngineProcess":
        """Start the process and load a model folder in it. Raises what Engine.load raises.

        Its prompts are written in other processes, which are started at the same time; see `warm_up`.
        """
        folder = ModelFolder.open(Path(path).resolve())  # it may be started again from elsewhere
        settings = settings or EngineSettings()
        waiting = max(Limits().waiting, settings.at_once + settings.queue)  # whom the engine has a place for
        prompt = TextProcess(folder.path, Limits(waiting=waiting))
        try:
            return cls(folder, prompt, settings, watch, patience, command)
        except BaseException:
            prompt.close()
            raise

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""
        return int(self._keeper.hello["context_length"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the device does otherwise than asked for, or cannot do; a sentence each."""
        return tuple(self._keeper.hello["notes"])

    @property
    def places(self) -> int:
        """Answers that can be under way at once, those that wait included."""
        return self._admission.places

    @property
    def pid(self) -> int | None:
        """The process' id, another one after each start; None while there is none."""
        return self._keeper.pid

    def warm_up(self, cancelled: Cancelled = never) -> None:
        """Wait for what the first request would wait for: the processes that write prompts.

        Raises ModelFolderError for a tokenizer or a chat template that cannot be used.
        """
        self.prompt.wait(cancelled)

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
        return self._stream(token_ids, options, dropped, cancelled, client)

    def tokens(
        self, messages: Sequence[Message], options: SamplingOptions, template: TemplateOptions | None = None
    ) -> tuple[TokenIds, int]:
        """The encoded prompt [n] of a conversation, and how many messages were left out so that it fits.

        The options' grammar is tried out as well. Raises InvalidRequest, ContextOverflow, Busy, EngineStopped.
        """
        if options.grammar:
            self.prompt.check(options.grammar)
        return self.prompt.tokens(
            messages, self.context_length, template or TemplateOptions(), self._settings.overflow, options.max_tokens
        )

    def start(self, wanted: Wanted, sink: Callable[[int, Batch], None], client: str = "") -> Callable[[], None]:
        """Ask for answers to encoded prompts [n], all of them or none, without waiting; what is returned cancels them.

        `sink` gets every chunk with the index of its answer, in order and a few at a time; last comes one with a finish
        reason, or an error. It is called on another thread and must not block. client: who asks. Raises Busy,
        InvalidRequest where they can never fit, EngineStopped while there is no process.
        """
        end_ids = self.prompt.end_ids
        requests = []
        for index, (token_ids, options) in enumerate(wanted):
            number = next(self._numbers)
            request = {"id": number, "tokens": token_ids.tolist(), "options": asdict(options), "client": client}
            requests.append((number, encoded(request), self._placed(partial(sink, index), client)))
        with self._keeper.child() as child:
            self._admission.enter(len(requests), client)
            if child is not self._told:  # it renders nothing, and so cannot find them itself
                child.tell({"end_ids": sorted(end_ids)})
                self._told = child
            for number, line, placed in requests:
                child.ask(number, line, placed)
        return lambda: child.cancel([number for number, *_ in requests])

    def status(self) -> EngineStatus:
        """How busy it is. Raises EngineStopped while no model is loaded."""
        with self._keeper.child() as child:
            pong = child.ping()
        if not child.loaded:
            raise EngineStopped("the engine is being started again.")
        pong.wait(FRESH_SECONDS)
        said = child.status
        return EngineStatus(*self._admission.counts(), said.kv_bytes if said else 0, said.kv_limit if said else 0)

    def close(self) -> None:
        """End the process. Answers still being made end with EngineStopped."""
        self._keeper.close()
        self.prompt.close()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(
        self, token_ids: TokenIds, options: SamplingOptions, dropped: int, cancelled: Cancelled, client: str
    ) -> Iterator[Chunk]:
        batches: SimpleQueue[Batch] = SimpleQueue()
        cancel = self.start([(token_ids, options)], lambda _, batch: batches.put(batch), client)
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

    def _placed(self, sink: Sink, client: str) -> Sink:
        """A sink that gives an answer's place back with its end."""
        began = time.perf_counter()
        watching = self._watch(sink) if self._watch else sink

        def placed(batch: Batch) -> None:
            if is_last(batch):
                self._admission.leave(time.perf_counter() - began, client)
            watching(batch)

        return placed
