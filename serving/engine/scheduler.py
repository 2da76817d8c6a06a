"""Whose turn it is: one thread owns the runtime and gives every request its passes.

A round gives every answer that decodes one step, in one pass where the runtime batches. One prompt gets a chunk of
prefill, and then the answers that decode get as much time as that took, before any but a new prompt gets another: long
prompts halve their speed at most.
"""

import threading
import time
from collections.abc import Callable, Generator, Sequence
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
from serving.heap import Heap

# A fast model's chunks are handed over in batches. Waking another thread for each token costs more than sampling it,
# and takes a core away from the forward pass; fifty times a second is smooth to read.
DELIVERY_SECONDS = 0.02
QUIET_SECONDS = 20.0  # what another runtime waits for a moment in which nothing is asked, before others wait for it
_GRAMMAR_SECONDS = 0.005  # for one, where there is nothing else to do; who comes meanwhile waits as long


@dataclass(slots=True, eq=False)
class _Active:
    """A request that has a slot.

    wants: its next pass, None once it has ended. turn: the round of its last prefill. begun: whether it had one.
    """

    request: Request
    slot: Slot
    passes: Generator[Pass]
    turn: int
    wants: Pass | None = None
    begun: bool = False

    @property
    def waits(self) -> bool:
        """Whether it can go on only when its grammar is ready."""
        return self.wants is not None and not self.wants.tokens.size

    def wait(self, seconds: float) -> None:
        """Until its grammar is ready, but no longer than this."""
        if grammar := self.request.sampler.grammar:
            grammar.wait(seconds)


class Scheduler:
    """Answers so many requests at a time (`parallel`), and lets so many wait (`queue`)."""

    def __init__(
        self,
        memory: KvMemory,
        parallel: int,
        queue: int,
        guess: bool,
        successor: Callable[[], Runtime] | None = None,
    ) -> None:
        """successor: loads the runtime that takes over once two answers are wanted at a time."""
        self._memory, self._successor = memory, successor
        self._wanted_since: float | None = None  # when they were, of a monotonic clock
        self._admission = Admission(parallel, queue)
        self._parallel, self._clients = parallel, Clients()
        self._answering = Answering(memory, guess, lambda: self._active > 1)
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
        """Stop the thread, keep what is to be kept, and free the slots.

        Requests that have not ended end with EngineStopped.
        """
        with self._lock:
            self._closed = True
            self._inbox.put(None)
        self._thread.join()

    # Everything below runs on the scheduler's own thread.

    def _serve(self) -> None:
        waiting: list[Request] = []
        active: list[_Active] = []
        heap = Heap()
        owed = 0.0  # seconds of decoding, for the last chunk of prefill
        for turn in count():
            heap.look()
            # 1. Requests come in, and go again if nobody waits for them any more.
            while not self._inbox.empty() or not (waiting or active):
                while self._inbox.empty() and not (waiting or active) and self._while_idle():
                    pass  # a piece at a time: who comes meanwhile waits for one
                arrived = self._inbox.get()
                if arrived is None:
                    for request in (*waiting, *(each.request for each in active)):
                        request.sink(EngineStopped("the engine was closed while the answer was being made."))
                    self._memory.close()
                    return
                waiting.append(arrived)
                self._clients.came(arrived.client, time.monotonic())
            for request in [request for request in waiting if request.is_cancelled()]:
                waiting.remove(request)
                request.emit(finish_reason="cancelled")
                self._end(request)

            # 2. They get a slot each, unless another runtime is to take over and has not had a quiet moment for long.
            if len(waiting) + len(active) > 1 and self._wanted_since is None:
                self._wanted_since = time.monotonic()
            overdue = self._is_overdue()
            if overdue and not active:
                self._change()
                overdue = False
            while waiting and not overdue and (index := self._next(waiting, active)) is not None:
                active.append(self._begin(waiting.pop(index), turn))

            # 3. One step for every answer that decodes; for one prompt, in turn, a chunk of prefill when it is due.
            self._active = len(active)
            if active and all(each.waits for each in active):
                active[0].wait(_GRAMMAR_SECONDS)
            began = time.perf_counter()
            self._decode([each for each in active if each.wants and not each.wants.prefill])
            owed -= time.perf_counter() - began
            prefilling = [each for each in active if each.wants and each.wants.prefill]
            if owed > 0 and any(each.wants and not each.wants.prefill and not each.waits for each in active):
                prefilling = [each for each in prefilling if not each.begun]
            if prefilling:
                began = time.perf_counter()
                for each in active:
                    each.request.deliver()
                next_one = min(prefilling, key=lambda each: each.turn)
                next_one.turn, next_one.begun = turn, True
                self._compute([next_one])
                owed = time.perf_counter() - began
            active = [each for each in active if each.wants]

    def _while_idle(self) -> bool:
        """A piece of what can be done while nobody waits; False where there is nothing left."""
        if self._successor and self._wanted_since is not None:
            self._change()
            return True
        return self._memory.prepare()

    def _is_overdue(self) -> bool:
        since = self._wanted_since
        return self._successor is not None and since is not None and time.monotonic() - since > QUIET_SECONDS

    def _change(self) -> None:
        """Let the other runtime take over. No answer is being made; conversations are computed again while idle."""
        if self._successor:
            self._memory.change(self._successor)
        self._successor = None

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
        for each in answers:
            if each.waits:
                self._advance(each)
        answers = [each for each in answers if not each.waits]
        together = [a for a in answers if a.wants and a.wants.tokens.size == 1] if self._memory.runtime.batches else []
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
                self._memory.runtime.forward(batch)
        except Exception as error:  # whatever it is, the other answers go on
            failed = error
        except BaseException as error:  # a library written in Rust panics with what is no Exception
            failed = RuntimeError(repr(error))
        for each in answers:
            self._advance(each, failed)
        failed = None  # as in _advance

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
            failure = None  # else it holds this frame, which holds it, and all that the answer needed
        elif time.perf_counter() - request.delivered >= DELIVERY_SECONDS:
            request.deliver()

    def _end(self, request: Request, failure: Exception | None = None) -> None:
        self._admission.leave(time.perf_counter() - request.started, request.client)
        request.deliver()
        if failure:
            request.sink(failure)
