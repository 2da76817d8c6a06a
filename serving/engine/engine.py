"""The decoding loop and its scheduler.

The runtime runs the model and holds the KV caches; everything else is decided here: which cached conversation a
request continues, how its prompt is cut, which token comes next, when an answer ends. One thread owns the runtime. A
round gives every answer that decodes one step, in one pass where the runtime batches, and one prompt a chunk of
prefill; so a long prompt delays the others by one chunk at most.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np

from serving.engine.drafts import Drafter
from serving.engine.prefix import SlotView, longest_prefix, plan, prefill_cuts
from serving.engine.runtime import PREFILL_CHUNK, Runtime, Slot
from serving.engine.sampler import Sampler
from serving.errors import Busy, EngineStopped, InvalidRequest, OutOfMemory, ServingError
from serving.folder import ModelFolder
from serving.hardware import available_memory, usable_cores
from serving.text.output import Output, Pieces
from serving.text.prompt import ANSWER_ROOM, Prompt
from serving.types import (
    Cancelled,
    Choice,
    Chunk,
    EngineSettings,
    EngineStatus,
    FinishReason,
    Message,
    SamplingOptions,
    TemplateOptions,
    TokenIds,
    never,
)

if TYPE_CHECKING:
    from serving.engine.grammar import GrammarCompiler

MOST_SLOTS = 16
TYPICAL_CONVERSATION = 2048  # tokens
# A fast model's chunks are handed over in batches. Waking another thread for each token costs more than sampling it,
# and takes a core away from the forward pass; fifty times a second is smooth to read.
DELIVERY_SECONDS = 0.02
SHARED_PREFIX = 32  # tokens that are copied from another conversation rather than computed again, at least

Sink = Callable[[Sequence[Chunk] | Exception], None]


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
        self._guess = settings.guess and runtime.continues
        self._kv_budget = settings.kv_memory or available_memory() // 2
        typical = runtime.kv_bytes_per_token * min(runtime.context_length, TYPICAL_CONVERSATION)
        slots = settings.slots or slots_for(self._kv_budget, typical, settings.parallel)
        self._slots = [runtime.slot(index) for index in range(slots)]
        self._parallel = min(settings.parallel, slots)
        self._most_open = self._parallel + settings.queue
        self._open = 0  # requests that have not ended
        self._active = 0  # those of them that have a slot
        self._seconds_per_answer = 1.0
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[_Request | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

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
        from serving.engine.grammar import GrammarCompiler  # at the first grammar: it loads a native library

        return GrammarCompiler(self.prompt.tokenizer, self._runtime.vocab_size, self.prompt.end_ids)

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
        template: TemplateOptions | None = None,
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
        return self._stream(token_ids, dropped, options, cancelled)

    def submit(self, token_ids: TokenIds, options: SamplingOptions, cancelled: Cancelled, sink: Sink) -> None:
        """Ask for the answer to an encoded prompt [n], n below the context length, without waiting for it.

        `sink` gets every chunk, in order and a few at a time; last comes one with a finish reason, or an exception.
        It is called on the engine's thread and must not block. Raises Busy, EngineStopped, and
        InvalidRequest for a grammar or a logit_bias that this model cannot follow.
        """
        matcher = self._grammars.matcher(options.grammar) if options.grammar else None
        sampler = Sampler(options, token_ids, self._runtime.vocab_size, matcher)
        with self._lock:
            if self._closed:
                raise EngineStopped("the engine is closed.")
            if self._open >= self._most_open:
                waiting = self._open - self._parallel
                retry_after = self._seconds_per_answer * (1 + waiting / self._parallel)
                raise Busy(
                    f"{self._parallel} answers are being made and {waiting} wait: try again in about "
                    f"{math.ceil(retry_after)} s, or start with a longer --queue.",
                    retry_after,
                )
            self._open += 1
        self._inbox.put(_Request(token_ids, options, cancelled, sink, sampler))

    def status(self) -> EngineStatus:
        """How busy it is."""
        held = self._runtime.kv_bytes_per_token * sum(slot.kv_tokens for slot in list(self._slots))
        running = min(self._open, self._parallel)
        return EngineStatus(running, self._open - running, held, self._kv_budget)

    def close(self) -> None:
        """Stop the thread and free the model. Requests still waiting end with EngineStopped."""
        with self._lock:
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

    def _stream(
        self, token_ids: TokenIds, dropped: int, options: SamplingOptions, cancelled: Cancelled
    ) -> Iterator[Chunk]:
        batches: SimpleQueue[Sequence[Chunk] | Exception] = SimpleQueue()
        closed = threading.Event()
        self.submit(token_ids, options, lambda: closed.is_set() or cancelled(), batches.put)
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

    # Everything below runs on the engine's own thread.

    def _serve(self) -> None:
        waiting: deque[_Request] = deque()
        active: list[_Request] = []
        for turn in count():
            # 1. Requests come in, and go again if nobody waits for them any more.
            while not self._inbox.empty() or not (waiting or active):
                arrived = self._inbox.get()
                if arrived is None:
                    for request in (*waiting, *active):
                        request.sink(EngineStopped("the engine was closed while the answer was being made."))
                    self._slots.clear()
                    return
                waiting.append(arrived)
            for request in [request for request in waiting if request.is_cancelled()]:
                waiting.remove(request)
                request.emit(finish_reason="cancelled")
                self._end(request)

            # 2. They get a slot each.
            while waiting and len(active) < self._parallel:
                request = waiting.popleft()
                request.slot = self._take_slot(request)
                request.steps = self._answer(request, request.slot)
                request.turn = turn - 2  # before one that has just had its turn, not before one that waits longer
                active.append(request)
                self._advance(request)

            # 3. One step for every answer that decodes, one chunk of prefill for one prompt, in turn.
            self._active = len(active)
            self._decode([request for request in active if request.wants and not request.wants.prefill])
            prefilling = [request for request in active if request.wants and request.wants.prefill]
            if prefilling:
                for request in active:
                    request.deliver()
                request = min(prefilling, key=lambda request: request.turn)
                request.turn = turn
                self._compute([request])
            active = [request for request in active if request.wants]

    def _take_slot(self, request: "_Request") -> Slot:
        chosen = plan(request.prompt, [_view(slot) for slot in self._slots if not slot.busy], self._runtime.copies)
        slot = self._slots[chosen.index]
        slot.busy = True
        request.keep = chosen.keep
        return slot

    def _decode(self, requests: "list[_Request]") -> None:
        """One forward pass for each request; for all that want one token together, where that is cheaper."""
        together = [r for r in requests if r.wants and r.wants.tokens.size == 1] if self._runtime.batches else []
        if together:
            self._compute(together)
        for request in requests:
            if request not in together:
                self._compute([request])

    def _compute(self, requests: "list[_Request]") -> None:
        """One forward pass, and what follows from it. One that was cancelled meanwhile has nothing computed."""
        batch = [(r.slot, r.wants.tokens) for r in requests if r.slot and r.wants and not r.is_cancelled()]
        failed: Exception | None = None
        try:
            if batch:
                self._runtime.forward(batch)
        except Exception as error:  # whatever it is, the other answers go on
            failed = error
        for request in requests:
            self._advance(request, failed)

    def _advance(self, request: "_Request", failed: Exception | None = None) -> None:
        """Let a request use its logits, up to the next forward pass that it wants; `wants` is None if it has ended."""
        try:
            request.wants = request.steps.throw(failed) if failed else next(request.steps)
        except StopIteration:
            request.wants = None
        except Exception as error:
            request.wants = None
            request.failure = error
        if request.wants is None:
            self._end(request)
        elif time.perf_counter() - request.delivered >= DELIVERY_SECONDS:
            request.deliver()

    def _end(self, request: "_Request") -> None:
        with self._lock:
            self._open -= 1
            self._seconds_per_answer += 0.2 * (time.perf_counter() - request.started - self._seconds_per_answer)
        request.deliver()
        if request.failure:
            request.sink(request.failure)

    def _answer(self, request: "_Request", slot: Slot) -> "Generator[_Pass]":
        """One request from its first forward pass to its last; yields the passes that it wants."""
        try:
            yield from self._steps(request, slot)
        except ServingError:
            raise
        except Exception as error:
            slot.drop()
            raise ServingError(f"ONNX Runtime failed on this request: {error!r}") from error
        finally:
            slot.release()  # before the client hears that the answer has ended

    def _steps(self, request: "_Request", slot: Slot) -> "Iterator[_Pass]":
        prompt, options = request.prompt, request.options
        limit = min(self.context_length - prompt.size, options.max_tokens or self.context_length)

        # 1. Continue the cached conversation, or start over where the device or the size of the cache asks for that.
        slot.rewind(request.keep)
        self._make_room(slot, prompt.size + min(limit, ANSWER_ROOM))
        self._share(slot, prompt)
        request.cached_tokens = len(slot.tokens)

        # 2. Prefill.
        for wanted in self._prefill(slot, prompt):
            yield wanted
            request.prefill_seconds = time.perf_counter() - request.started
            request.emit(finish_reason="cancelled" if request.is_cancelled() else None)
            if request.is_cancelled():
                return

        # 3. Decode: logits -> token -> text -> back into the KV cache, and with it a guess at what follows.
        output = Output(self.prompt.detokenizer(), self.prompt.splitter(prompt), options.stop)
        drafter = Drafter(prompt) if self._guess else None
        draft: list[int] = []
        while True:
            # As long as the guess is what is chosen, the logits after it count too.
            for logits, guess in zip(slot.logits(len(draft) + 1), [*draft, None], strict=True):
                choice = request.sampler.choose(logits, output.reasoning)
                token = choice.token
                request.completion_tokens += 1
                finish: FinishReason | None = None
                ended = token in self.prompt.end_ids
                pieces, stopped = ([], False) if ended else output.feed(token)
                if ended or stopped:
                    finish = "stop"
                elif request.completion_tokens >= limit:
                    finish = "length"
                if finish and not stopped:
                    pieces += output.flush()
                request.emit(pieces, choice, finish)
                if drafter:
                    drafter.add(token)
                if finish or token != guess:
                    break
            held = prompt.size + request.completion_tokens - 1
            if len(slot.tokens) > held:  # a guess was wrong
                slot.rewind(held)
            if finish:
                return
            draft = []
            if drafter and not (self._runtime.batches and self._active > 1):  # a batch is the better use of a pass
                draft = drafter.draft(limit - request.completion_tokens - 1)
            if slot.kv_tokens_for(held + 1 + len(draft)) > slot.kv_tokens:
                tokens = np.asarray(slot.tokens, dtype=np.int32)
                self._make_room(slot, tokens.size + ANSWER_ROOM)
                for wanted in self._prefill(slot, tokens):
                    yield wanted
                    if request.is_cancelled():
                        break
            yield _Pass(np.asarray([token, *draft], dtype=np.int32))
            if request.is_cancelled():
                request.emit(output.flush(), finish_reason="cancelled")
                return

    def _prefill(self, slot: Slot, tokens: TokenIds) -> "Iterator[_Pass]":
        """The passes that append what is missing of `tokens`."""
        size = PREFILL_CHUNK if self._runtime.continues else tokens.size
        for begin, end in prefill_cuts(len(slot.tokens), tokens.size, size):
            yield _Pass(tokens[begin:end], prefill=True)

    def _share(self, slot: Slot, prompt: TokenIds) -> None:
        """Copy what another conversation has already computed of this prompt, where the runtime can."""
        others = [_view(other) for other in self._slots if other is not slot]
        best = longest_prefix(prompt, others) if others and self._runtime.copies else None
        if best and best.keep >= len(slot.tokens) + SHARED_PREFIX:
            slot.take(self._slots[best.index], best.keep)

    def _make_room(self, slot: Slot, tokens: int) -> None:
        """Give the slot a KV cache for `tokens`, freeing idle conversations, oldest first, if memory is short."""
        tokens = min(tokens, self.context_length)
        wanted, per_token = slot.kv_tokens_for(tokens), self._runtime.kv_bytes_per_token
        if wanted <= slot.kv_tokens:
            return
        others = [other for other in self._slots if other is not slot]
        idle = deque(sorted((s for s in others if not s.busy and s.kv_tokens), key=lambda s: s.last_used))
        while True:
            budget = self._kv_budget - per_token * sum(other.kv_tokens for other in others)
            free = available_memory() + per_token * slot.kv_tokens
            if wanted * per_token <= min(budget, free):
                break
            if not idle:
                what = f"a KV cache for {wanted:,} tokens needs {wanted * per_token >> 20:,} MiB"
                if budget < free:
                    raise OutOfMemory(
                        f"{what}, and --kv-memory leaves {max(0, budget) >> 20:,} MiB of {self._kv_budget >> 20:,}: "
                        "wait for other answers to end, shorten the conversation, or start with more --kv-memory."
                    )
                raise OutOfMemory(
                    f"{what}, and {free >> 20:,} MiB are free: close other programs, shorten the conversation, or "
                    "serve a shorter window with --context-length."
                )
            idle.popleft().drop()
        slot.reserve(tokens)


@dataclass(frozen=True, slots=True)
class _Pass:
    """A forward pass over `tokens` [n]. Those of a prefill are long: one at a time has its turn."""

    tokens: TokenIds
    prefill: bool = False


@dataclass(slots=True, eq=False)
class _Request:
    """One answer being made: what was asked, and how far it is."""

    prompt: TokenIds
    options: SamplingOptions
    cancelled: Cancelled
    sink: Sink
    sampler: Sampler
    slot: Slot | None = None
    steps: Generator[_Pass] = field(init=False)
    wants: _Pass | None = None
    failure: Exception | None = None
    pending: list[Chunk] = field(default_factory=list)
    delivered: float = 0.0
    turn: int = 0  # the round of its last pass of prefill
    keep: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    started: float = field(default_factory=time.perf_counter)
    prefill_seconds: float = 0.0
    _cancelled: bool = False

    def is_cancelled(self) -> bool:
        """Whether nobody wants this answer any more; once true, it stays so."""
        self._cancelled = self._cancelled or self.cancelled()
        return self._cancelled

    def emit(
        self, pieces: Pieces | None = None, choice: Choice | None = None, finish_reason: FinishReason | None = None
    ) -> None:
        """Add a chunk for each piece of text to what is handed over next; the first one has the token."""
        pieces = pieces or [("answer", "")]
        for n, (kind, text) in enumerate(pieces, 1):
            self.pending.append(
                Chunk(
                    text=text,
                    prompt_tokens=self.prompt.size,
                    cached_tokens=self.cached_tokens,
                    prefilled_tokens=min(len(self.slot.tokens), self.prompt.size) if self.slot else 0,
                    completion_tokens=self.completion_tokens,
                    prefill_seconds=self.prefill_seconds,
                    decode_seconds=time.perf_counter() - self.started - self.prefill_seconds,
                    token_id=choice.token if choice else None,
                    finish_reason=finish_reason if n == len(pieces) else None,
                    logprob=choice.logprob if choice else None,
                    top=choice.top if choice else (),
                    kind=kind,
                )
            )
            choice = None

    def deliver(self) -> None:
        """Hand over what has gathered."""
        if self.pending:
            self.sink(self.pending)
            self.pending = []
            self.delivered = time.perf_counter()


def _view(slot: Slot) -> SlotView:
    return SlotView(slot.index, np.asarray(slot.tokens, np.int32), slot.last_used)


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


def slots_for(kv_memory: int, typical: int, parallel: int) -> int:
    """How many conversations to keep, if a typical one takes so many bytes; no fewer than are answered at once."""
    return max(parallel, min(MOST_SLOTS, kv_memory // max(1, typical)))
