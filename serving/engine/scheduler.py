"""Whose turn it is: one thread owns the runtime and gives every request its passes.

A round gives every answer that decodes one step, in one pass where the runtime batches, and one prompt a chunk of
prefill; so a long prompt delays the others by one chunk at most.
"""

import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import count
from queue import SimpleQueue

from serving.engine.admission import Admission
from serving.engine.answer import Answering, Pass
from serving.engine.fairness import Clients, next_of
from serving.engine.memory import KvMemory
from serving.engine.request import Request
from serving.engine.runtime import Runtime, Slot
from serving.errors import EngineStopped, ServingError

# A fast model's chunks are handed over in batches. Waking another thread for each token costs more than sampling it,
# and takes a core away from the forward pass; fifty times a second is smooth to read.
DELIVERY_SECONDS = 0.02


@dataclass(slots=True, eq=False)
class _Active:
    """A request that has a slot. wants: its next pass, None once it has ended; turn: the round of its last prefill."""

    request: Request
    slot: Slot
    passes: Generator[Pass]
    turn: int
    wants: Pass | None = None


class Scheduler:
    """Answers so many requests at a time (`parallel`), and lets so many wait (`queue`)."""

    def __init__(self, runtime: Runtime, memory: KvMemory, parallel: int, queue: int, guess: bool) -> None:
        self._runtime, self._memory = runtime, memory
        self._admission = Admission(parallel, queue)
        self._parallel, self._clients = parallel, Clients()
        self._answering = Answering(runtime, memory, guess, lambda: self._active > 1)
        self._active = 0  # requests that have a slot
        self._lock = threading.Lock()
        self._inbox: SimpleQueue[Request | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Have a request answered. Raises Busy, EngineStopped."""
        with self._lock:
            if self._closed:
                raise EngineStopped("the engine is closed.")
            self._admission.enter(client=request.client)
            self._inbox.put(request)

    def counts(self) -> tuple[int, int]:
        """Answers being made, and requests that wait."""
        return self._admission.counts()

    def close(self) -> None:
        """Stop the thread and free the slots. Requests that have not ended end with EngineStopped."""
        with self._lock:
            self._closed = True
            self._inbox.put(None)
        self._thread.join()

    # Everything below runs on the scheduler's own thread.

    def _serve(self) -> None:
        waiting: list[Request] = []
        active: list[_Active] = []
        for turn in count():
            # 1. Requests come in, and go again if nobody waits for them any more.
            while not self._inbox.empty() or not (waiting or active):
                arrived = self._inbox.get()
                if arrived is None:
                    for request in (*waiting, *(each.request for each in active)):
                        request.sink(EngineStopped("the engine was closed while the answer was being made."))
                    self._memory.slots.clear()
                    return
                waiting.append(arrived)
                self._clients.came(arrived.client, time.monotonic())
            for request in [request for request in waiting if request.is_cancelled()]:
                waiting.remove(request)
                request.emit(finish_reason="cancelled")
                self._end(request)

            # 2. They get a slot each.
            while waiting and (index := self._next(waiting, active)) is not None:
                active.append(self._begin(waiting.pop(index), turn))

            # 3. One step for every answer that decodes, one chunk of prefill for one prompt, in turn.
            self._active = len(active)
            self._decode([each for each in active if each.wants and not each.wants.prefill])
            prefilling = [each for each in active if each.wants and each.wants.prefill]
            if prefilling:
                for each in active:
                    each.request.deliver()
                next_one = min(prefilling, key=lambda each: each.turn)
                next_one.turn = turn
                self._compute([next_one])
            active = [each for each in active if each.wants]

    def _next(self, waiting: Sequence[Request], active: Sequence[_Active]) -> int | None:
        asking, answered = [each.client for each in waiting], [each.request.client for each in active]
        several = self._clients.several(time.monotonic(), {*asking, *answered})
        return next_of(asking, answered, self._parallel, several)

    def _begin(self, request: Request, turn: int) -> _Active:
        slot, keep = self._memory.take(request.token_ids, anew=request.options.prompt_logprobs is not None)
        request.slot = slot
        # Its turn is before one that has just had it, not before one that waits longer.
        begun = _Active(request, slot, self._answering.passes(request, slot, keep), turn - 2)
        self._advance(begun)
        return begun

    def _decode(self, answers: Sequence[_Active]) -> None:
        """One forward pass for each answer; for all that want one token together, where that is cheaper."""
        together = [a for a in answers if a.wants and a.wants.tokens.size == 1] if self._runtime.batches else []
        if together:
            self._compute(together)
        for each in answers:
            if each not in together:
                self._compute([each])

    def _compute(self, answers: Sequence[_Active]) -> None:
        """One forward pass, and what follows from it. One that was cancelled meanwhile has nothing computed."""
        batch = [(each.slot, each.wants.tokens) for each in answers if each.wants and not each.request.is_cancelled()]
        failed: Exception | None = None
        try:
            if batch:
                self._runtime.forward(batch)
        except Exception as error:  # whatever it is, the other answers go on
            failed = error
        except BaseException as error:  # a library written in Rust panics with what is no Exception
            failed = RuntimeError(repr(error))
        for each in answers:
            self._advance(each, failed)

    def _advance(self, answer: _Active, failed: Exception | None = None) -> None:
        """Let an answer use its logits, up to the next forward pass that it wants; `wants` is None if it has ended."""
        request, failure = answer.request, None
        try:
            answer.wants = answer.passes.throw(failed) if failed else next(answer.passes)
        except StopIteration:
            answer.wants = None
        except Exception as error:
            answer.wants, failure = None, error
        except BaseException as error:
            answer.wants, failure = None, ServingError(f"the engine failed on this request: {error!r}.")
        if answer.wants is None:
            self._end(request, failure)
        elif time.perf_counter() - request.delivered >= DELIVERY_SECONDS:
            request.deliver()

    def _end(self, request: Request, failure: Exception | None = None) -> None:
        self._admission.leave(time.perf_counter() - request.started, request.client)
        request.deliver()
        if failure:
            request.sink(failure)
