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
from serving.engine.runtime import PREFILL_CHUNK, Runtime, Slot
from serving.errors import ServingError
from serving.text.output import Output
from serving.text.prompt import ANSWER_ROOM
from serving.types import FinishReason, TokenIds


@dataclass(frozen=True, slots=True)
class Pass:
    """A forward pass over `tokens` [n]. Those of a prefill are long: one at a time has its turn."""

    tokens: TokenIds
    prefill: bool = False


@dataclass(frozen=True, slots=True)
class Answering:
    """How answers are made on one runtime.

    guess: whether to guess at what follows. crowded: whether other answers are being made at the moment.
    """

    runtime: Runtime
    memory: KvMemory
    guess: bool
    crowded: Callable[[], bool]

    def passes(self, request: Request, slot: Slot, keep: int) -> Generator[Pass]:
        """The passes of one answer, in a slot of which the first `keep` tokens are those of the prompt."""
        token_ids, window = request.token_ids, self.runtime.context_length
        most = request.options.max_tokens
        limit = min(window - token_ids.size, window if most is None else most)
        try:
            # 1. Continue the cached conversation, or start over where the device or the cache's size asks for that.
            scored = request.options.prompt_logprobs is not None
            slot.rewind(keep)
            self.memory.make_room(slot, token_ids.size + min(limit, ANSWER_ROOM))
            if not scored:
                self.memory.share(slot, token_ids)
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
            slot.release()  # before the client hears that the answer has ended

    def _prefill(self, slot: Slot, tokens: TokenIds) -> Iterator[Pass]:
        """The passes that append what is missing of `tokens`."""
        size = PREFILL_CHUNK if self.runtime.continues else tokens.size
        for begin, end in prefill_cuts(len(slot.tokens), tokens.size, size):
            yield Pass(tokens[begin:end], prefill=True)

    def _decode(self, request: Request, slot: Slot, limit: int) -> Iterator[Pass]:
        """Logits -> token -> text -> back into the KV cache, and with it a guess at what follows."""
        prompt, before = request.prompt, request.token_ids.size
        output = Output(prompt.detokenizer(), prompt.splitter(request.token_ids), request.options.stop)
        budget = prompt.budget(request.options.reasoning_tokens)
        drafter = Drafter(request.token_ids) if self.guess else None
        draft: list[int] = []
        while True:
            # As long as the guess is what is chosen, the logits after it count too.
            for logits, guess in zip(slot.logits(len(draft) + 1), [*draft, None], strict=True):
                forced = budget.next(output.reasoning, output.whole)
                choice = request.sampler.choose(logits, output.reasoning, forced)
                token = choice.token
                request.completion_tokens += 1
                finish: FinishReason | None = None
                ended = token in prompt.end_ids
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
            held = before + request.completion_tokens - 1
            if len(slot.tokens) > held:  # a guess was wrong
                slot.rewind(held)
            if finish:
                return
            draft = []
            if drafter and not (self.runtime.batches and self.crowded()):  # a batch is the better use of a pass
                draft = drafter.draft(limit - request.completion_tokens - 1)
            if slot.kv_tokens_for(held + 1 + len(draft)) > slot.kv_tokens:
                yield from self._grown(request, slot)
            yield Pass(np.asarray([token, *draft], dtype=np.int32))
            if request.is_cancelled():
                request.emit(output.flush(), finish_reason="cancelled")
                return

    def _grown(self, request: Request, slot: Slot) -> Iterator[Pass]:
        """Room for what comes next; where a KV cache cannot grow, the passes that compute what it held once more."""
        tokens = np.asarray(slot.tokens, dtype=np.int32)
        self.memory.make_room(slot, tokens.size + ANSWER_ROOM)
        for wanted in self._prefill(slot, tokens):
            yield wanted
            if request.is_cancelled():
                break
