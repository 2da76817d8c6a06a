"""One answer, from its first forward pass to its last: a generator of the passes that it wants.

Whoever runs it makes each pass and then goes on; what a request has said and counted is in the request itself.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np

from serving.engine.drafts import Drafter
from serving.engine.memory import KvMemory
from serving.engine.prefix import prefill_cuts
from serving.engine.request import Request
from serving.engine.runtime import Runtime, Slot
from serving.errors import ServingError
from serving.text.output import Output
from serving.text.prompt import ANSWER_ROOM
from serving.text.stops import StopStrings
from serving.types import FinishReason, TokenIds


@dataclass(frozen=True, slots=True)
class Pass:
    """A forward pass over `tokens` [n]. Those of a prefill are long: one at a time has its turn.

    None is made over no tokens: the answer waits for its grammar, or for kept keys and values that are read in pieces,
    and others need not wait for it.
    """

    tokens: TokenIds
    prefill: bool = False


_NO_PASS = Pass(np.empty(0, dtype=np.int32))


@dataclass(frozen=True, slots=True)
class Answering:
    """How answers are made on one runtime.

    guess: whether to guess at what follows. crowded: whether other answers are being made at the moment.
    """

    memory: KvMemory
    guess: bool
    crowded: Callable[[], bool]

    @property
    def runtime(self) -> Runtime:
        """What makes the passes: another one may have taken over since the last answer."""
        return self.memory.runtime

    def passes(self, request: Request, slot: Slot, keep: int) -> Generator[Pass]:
        """The passes of one answer, in a slot of which the first `keep` tokens are those of the prompt."""
        token_ids, window = request.token_ids, self.runtime.context_length
        grammar = request.sampler.grammar
        most = request.options.max_tokens
        limit = min(window - token_ids.size, window if most is None else most)
        try:
            if grammar:
                grammar.start()
            # 1. Continue the cached conversation, or a kept one; start over where the device or the cache's size asks
            # for that.
            scored = request.options.prompt_logprobs is not None
            slot.rewind(keep)
            self.memory.make_room(slot, token_ids.size, min(limit, ANSWER_ROOM))
            if not scored:
                self.memory.share(slot, token_ids)
                while self.memory.load(slot, token_ids[:-1]):  # the last one's logits are needed
                    yield _NO_PASS
                    if request.is_cancelled():
                        request.emit(finish_reason="cancelled")
                        return
            slot.keeps_all = scored
            request.cached_tokens = len(slot.tokens)

            # 2. Prefill.
            for wanted in self._prefill(slot, token_ids):
                yield wanted
                finish: FinishReason | None = "cancelled" if request.is_cancelled() else None
                request.prefill_seconds = time.perf_counter() - request.started
                if scored and not finish:
                    held, new = len(slot.tokens), wanted.tokens.size
                    request.score(slot.logits(new), held - new, held)
                if limit == 0 and len(slot.tokens) == token_ids.size:
                    finish = finish or "length"
                request.emit(finish_reason=finish)
                if finish:
                    return
            slot.keeps_all = False

            # 3. Decode, up to the end of the turn, a stop string or the limit.
            yield from self._decode(request, slot, limit)
        except ServingError:
            raise
        except Exception as error:
            slot.drop()
            raise ServingError(f"ONNX Runtime failed on this request: {error!r}") from error
        finally:
            if grammar:
                grammar.close()
            slot.release()  # before the client hears that the answer has ended

    def _prefill(self, slot: Slot, tokens: TokenIds) -> Iterator[Pass]:
        """The passes that append what is missing of `tokens`."""
        size = self.runtime.pass_tokens(slot.kv_tokens) if self.runtime.continues else tokens.size
        held_back = 1 if self.runtime.continues and not self.runtime.rewinds else 0
        for begin, end in prefill_cuts(len(slot.tokens), tokens.size - held_back, size):
            yield Pass(tokens[begin:end], prefill=True)
        if held_back:  # whoever asks again needs the logits of the last token, and so the states before it
            slot.mark()
            yield Pass(tokens[-1:], prefill=True)

    def _decode(self, request: Request, slot: Slot, limit: int) -> Iterator[Pass]:
        """Logits -> token -> text -> back into the KV cache, and with it a guess at what follows."""
        prompt, options, before = request.prompt, request.options, request.token_ids.size
        stops = StopStrings(options.stop, options.include_stop)
        output = Output(prompt.detokenizer(), prompt.splitter(request.token_ids), stops)
        budget = prompt.budget(options.reasoning_tokens)
        guessing = self.guess and self.runtime.continues and self.runtime.rewinds and self.runtime.whole
        drafter = Drafter(request.token_ids) if guessing else None
        draft: list[int] = []
        grammar = request.sampler.grammar
        while True:
            # As long as the guess is what is chosen, the logits after it count too.
            for logits, guess in zip(slot.logits(len(draft) + 1), [*draft, None], strict=True):
                while grammar and not output.reasoning and not grammar.ready:
                    yield _NO_PASS
                    if request.is_cancelled():
                        request.emit(output.flush(), finish_reason="cancelled")
                        return
                forced = budget.next(output.reasoning, output.whole)
                choice = request.sampler.choose(logits, output.reasoning, forced)
                token = choice.token
                request.completion_tokens += 1
                finish: FinishReason | None = None
                ended = token in prompt.end_ids or token in options.stop_token_ids
                hidden = token in prompt.end_ids or (ended and not options.include_stop)
                too_soon = request.completion_tokens < options.min_tokens
                pieces, stopped = ([], False) if hidden else output.feed(token, too_soon)
                if ended or stopped:
                    finish = "stop"
                elif request.completion_tokens >= limit:
                    finish = "length"
                if finish and not stopped:
                    pieces += output.flush()
                request.emit(pieces, choice, finish, output.stop)
                if drafter:
                    drafter.add(token)
                if finish or token != guess:
                    break
            held = before + request.completion_tokens - 1
            if len(slot.tokens) > held:  # a guess was wrong
                slot.rewind(held)
            if finish:
                return
            draft = []
            if drafter and not (self.runtime.batches and self.crowded()):  # a batch is the better use of a pass
                turn = self.runtime.turn
                most = turn - held - 1 if turn and held < turn else limit
                draft = drafter.draft(min(limit - request.completion_tokens - 1, most))
            self.memory.hurry(slot)
            if not slot.fits(held + 1 + len(draft)):
                yield from self._grown(request, slot)
            yield Pass(np.asarray([token, *draft], dtype=np.int32))
            if request.is_cancelled():
                request.emit(output.flush(), finish_reason="cancelled")
                return

    def _grown(self, request: Request, slot: Slot) -> Iterator[Pass]:
        """Room for what comes next; where a KV cache cannot grow, the passes that compute what it held once more."""
        tokens = np.asarray(slot.tokens, dtype=np.int32)
        self.memory.make_room(slot, tokens.size + 1, ANSWER_ROOM - 1)
        for wanted in self._prefill(slot, tokens):
            yield wanted
            if request.is_cancelled():
                break
