"""The decoding loop and its scheduler.

OGA runs the model and owns the KV cache; everything else is decided here: which cached conversation a request
continues, how its prompt is cut, which token comes next, when an answer ends. One thread owns every OGA object and
gives each active request one forward pass in turn, so a long prompt delays the others by one chunk at most.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from serving.errors import EngineStopped, ServingError
from serving.folder import ModelFolder
from serving.hardware import available_memory, usable_cores
from serving.prefix import SlotView, TokenIds, capacity_for, plan
from serving.prompt import Prompt
from serving.runtime import Runtime, Slot
from serving.sampler import Sampler
from serving.stops import StopStrings
from serving.types import Cancelled, Chunk, FinishReason, Message, SamplingOptions, never

CAPACITY_STEP = 1024  # tokens of KV cache allocated at first; doubled when a conversation outgrows it
ANSWER_ROOM = 512  # tokens of KV cache reserved for an answer before it starts
SLOTS = 4
# A fast model's chunks are handed over in batches. Waking another thread for each token costs more than sampling it,
# and takes a core away from the forward pass; fifty times a second is smooth to read.
DELIVERY_SECONDS = 0.02

Sink = Callable[[Sequence[Chunk] | Exception], None]


class Engine:
    """Serves one model folder to any number of threads.

    >>> engine = Engine.load(Path("models/demo"))
    >>> for chunk in engine.generate([Message("user", "hello")], SamplingOptions(temperature=0.0)):
    ...     print(chunk.text, end="", flush=True)
    """

    def __init__(self, runtime: Runtime, prompt: Prompt, slots: int = SLOTS) -> None:
        self.folder = runtime.folder
        self.prompt = prompt
        self._runtime = runtime
        self._slots = [Slot(index, runtime) for index in range(slots)]
        self._inbox: SimpleQueue[_Request | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        context_length: int | None = None,
        threads: int | None = None,
        slots: int = SLOTS,
    ) -> "Engine":
        """Load a model folder and run one warm-up pass.

        context_length: serve a shorter window than the model has. threads: defaults to the usable physical cores.
        Raises ModelFolderError for an incomplete folder, InvalidRequest for a window the model does not have.
        """
        folder = ModelFolder.open(Path(path))
        prompt = Prompt.load(folder.path)
        return cls(Runtime(folder, context_length, usable_cores() if threads is None else threads), prompt, slots)

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""
        return self._runtime.context_length

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
    ) -> Iterator[Chunk]:
        """Stream the assistant's answer.

        The first chunks report prefill and carry no text; the last carries the finish reason. `cancelled` is asked
        before every forward pass; closing the iterator cancels too. Whatever was computed stays in the KV cache, and
        the next request that begins with the same tokens continues there.
        Raises InvalidRequest at once for messages the chat template refuses, ContextOverflow for a prompt that leaves
        no room for an answer.
        """
        token_ids = self.prompt.tokens(messages, self.context_length)
        return self._stream(token_ids, options or SamplingOptions(), cancelled)

    def submit(self, token_ids: TokenIds, options: SamplingOptions, cancelled: Cancelled, sink: Sink) -> None:
        """Ask for the answer to an encoded prompt [n], n below the context length, without waiting for it.

        `sink` gets every chunk, in order and a few at a time; last comes one with a finish reason, or an exception.
        It is called on the engine's thread and must not block.
        """
        if self._closed:
            raise EngineStopped("the engine is closed.")
        self._inbox.put(_Request(token_ids, options, cancelled, sink))

    def close(self) -> None:
        """Stop the thread and free the model. Requests still waiting end with EngineStopped."""
        self._closed = True
        self._inbox.put(None)
        self._thread.join()
        while not self._inbox.empty():  # what came in while the thread was ending
            if request := self._inbox.get():
                request.sink(EngineStopped("the engine is closed."))

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, token_ids: TokenIds, options: SamplingOptions, cancelled: Cancelled) -> Iterator[Chunk]:
        batches: SimpleQueue[Sequence[Chunk] | Exception] = SimpleQueue()
        closed = threading.Event()
        self.submit(token_ids, options, lambda: closed.is_set() or cancelled(), batches.put)
        try:
            while True:
                batch = batches.get()
                if isinstance(batch, Exception):
                    raise batch
                yield from batch
                if batch[-1].finish_reason is not None:
                    return
        finally:
            closed.set()

    # Everything below runs on the engine's own thread.

    def _serve(self) -> None:
        waiting: deque[_Request] = deque()
        active: list[_Request] = []
        while True:
            while not self._inbox.empty() or not (waiting or active):
                arrived = self._inbox.get()
                if arrived is None:
                    for request in (*waiting, *active):
                        request.sink(EngineStopped("the engine was closed while the answer was being made."))
                    self._slots.clear()
                    return
                waiting.append(arrived)
            while waiting and (slot := self._take_slot(waiting[0])):
                request = waiting.popleft()
                request.steps = self._answer(request, slot)
                active.append(request)
            alone = len(active) == 1
            active = [request for request in active if self._step(request, alone)]

    def _take_slot(self, request: "_Request") -> Slot | None:
        idle = [slot for slot in self._slots if not slot.busy]
        chosen = plan(request.prompt, [SlotView(s.index, np.asarray(s.tokens, np.int32), s.last_used) for s in idle])
        if chosen is None:
            return None
        slot = self._slots[chosen.index]
        slot.busy = True
        request.keep = chosen.keep
        return slot

    def _step(self, request: "_Request", alone: bool) -> bool:
        """Give a request one forward pass; false when it has ended."""
        try:
            chunk = next(request.steps)
        except Exception as error:
            request.deliver()
            request.sink(error)
            return False
        request.pending.append(chunk)
        if chunk.finish_reason is not None:
            request.steps.close()  # gives the slot back before the client hears that the answer has ended
            request.deliver()
            return False
        if not alone or time.perf_counter() - request.delivered >= DELIVERY_SECONDS:
            request.deliver()
        return True

    def _answer(self, request: "_Request", slot: Slot) -> Generator[Chunk]:
        """One request from its first forward pass to its last; yields where another request may have its turn."""
        try:
            yield from self._decode(request, slot)
        except RuntimeError as error:  # what OGA raises, whatever the reason
            slot.drop()
            raise ServingError(f"ONNX Runtime GenAI failed on this request: {error}") from error
        finally:
            slot.release()

    def _decode(self, request: "_Request", slot: Slot) -> Iterator[Chunk]:
        prompt, options = request.prompt, request.options
        limit = min(self.context_length - prompt.size, options.max_tokens or self.context_length)
        if request.cancelled():
            yield request.chunk(slot, finish_reason="cancelled")
            return

        # 1. Continue the cached conversation, or start it over where the device or the cache's size asks for that.
        self._make_room(slot, prompt.size + min(limit, ANSWER_ROOM))
        request.cached_tokens = slot.rewind(request.keep)

        # 2. Prefill.
        for _ in slot.fill(prompt):
            request.prefill_seconds = time.perf_counter() - request.started
            yield request.chunk(slot)
            if request.cancelled():
                yield request.chunk(slot, finish_reason="cancelled")
                return

        # 3. Decode: logits -> token -> text -> back into the KV cache.
        sampler = Sampler(options, prompt, self._runtime.vocab_size)
        detokenizer, stops = self.prompt.detokenizer(), StopStrings(options.stop)
        while True:
            token = sampler.choose(slot.logits()).token
            request.completion_tokens += 1
            finish: FinishReason | None = None
            if token in self.prompt.end_ids:
                text, finish = stops.flush(), "stop"
            else:
                text, stopped = stops.feed(detokenizer.feed(token))
                if stopped:
                    finish = "stop"
                elif request.completion_tokens >= limit:
                    text, finish = text + stops.flush(), "length"
                elif request.cancelled():
                    text, finish = text + stops.flush(), "cancelled"
            yield request.chunk(slot, text=text, token_id=token, finish_reason=finish)
            if finish:
                return
            if len(slot.tokens) == slot.capacity:
                tokens = np.asarray(slot.tokens, dtype=np.int32)
                self._make_room(slot, tokens.size + ANSWER_ROOM)
                for _ in slot.fill(tokens):
                    yield request.chunk(slot)
                    if request.cancelled():
                        yield request.chunk(slot, finish_reason="cancelled")
                        return
            slot.append(np.asarray([token], dtype=np.int32))

    def _make_room(self, slot: Slot, tokens: int) -> None:
        """Give the slot a KV cache for `tokens`, freeing idle conversations, oldest first, if memory is short."""
        capacity = capacity_for(tokens, self.context_length, CAPACITY_STEP)
        if slot.capacity >= capacity:
            return
        slot.drop()
        needed = capacity * self._runtime.kv_bytes_per_token
        for idle in sorted((s for s in self._slots if not s.busy), key=lambda s: s.last_used):
            if available_memory() >= needed:
                break
            idle.drop()
        if available_memory() < needed:
            raise ServingError(
                f"a KV cache for {capacity} tokens needs {needed >> 20} MiB, and {available_memory() >> 20} MiB are "
                "free: close other programs, shorten the conversation, or serve a shorter window with --context-length."
            )
        slot.allocate(capacity)


@dataclass(slots=True, eq=False)
class _Request:
    """One answer being made: what was asked, and how far it is."""

    prompt: TokenIds
    options: SamplingOptions
    cancelled: Cancelled
    sink: Sink
    pending: list[Chunk] = field(default_factory=list)
    delivered: float = 0.0
    steps: Generator[Chunk] = field(init=False)
    keep: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    started: float = field(default_factory=time.perf_counter)
    prefill_seconds: float = 0.0

    def deliver(self) -> None:
        """Hand over what has gathered."""
        if self.pending:
            self.sink(self.pending)
            self.pending = []
            self.delivered = time.perf_counter()

    def chunk(
        self,
        slot: Slot,
        text: str = "",
        token_id: int | None = None,
        finish_reason: FinishReason | None = None,
    ) -> Chunk:
        return Chunk(
            text=text,
            prompt_tokens=self.prompt.size,
            cached_tokens=self.cached_tokens,
            prefilled_tokens=min(len(slot.tokens), self.prompt.size),
            completion_tokens=self.completion_tokens,
            prefill_seconds=self.prefill_seconds,
            decode_seconds=time.perf_counter() - self.started - self.prefill_seconds,
            token_id=token_id,
            finish_reason=finish_reason,
        )
