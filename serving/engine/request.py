"""One request and how far its answer is: what was asked, what is counted, and what is handed over next."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serving.engine.runtime import Logits, Slot
from serving.engine.sampler import Sampler, check_numbers, scored
from serving.errors import InvalidRequest
from serving.text.output import Pieces
from serving.text.prompt import Prompt
from serving.types import Cancelled, Choice, Chunk, FinishReason, SamplingOptions, TokenIds

Sink = Callable[[Sequence[Chunk] | Exception], None]


@dataclass(slots=True, eq=False)
class Request:
    """An answer being made to `token_ids` [n].

    prompt: how its tokens become text. client: who asks, by a name of any kind. sink: gets every chunk, a few at a
    time; last comes one with a finish reason, or an exception.
    """

    token_ids: TokenIds
    prompt: Prompt
    options: SamplingOptions
    cancelled: Cancelled
    sink: Sink
    sampler: Sampler
    client: str = ""
    slot: Slot | None = None
    cached_tokens: int = 0
    completion_tokens: int = 0
    started: float = field(default_factory=time.perf_counter)
    prefill_seconds: float = 0.0
    delivered: float = 0.0
    _pending: list[Chunk] = field(default_factory=list)
    _cancelled: bool = False

    def is_cancelled(self) -> bool:
        """Whether nobody wants this answer any more; once true, it stays so."""
        self._cancelled = self._cancelled or self.cancelled()
        return self._cancelled

    def score(self, logits: Logits, begin: int, end: int) -> None:
        """Add a chunk for each token of the prompt that is known now: the first one, and those that logits predict.

        logits [end - begin, vocab]: after each of these tokens of the prompt. Raises InvalidRequest for a graph that
        gives fewer.
        """
        if len(logits) < end - begin:
            raise InvalidRequest(
                "this model was exported with the logits of the last token only (prune_lm_head), so there are no "
                "log-probabilities of a prompt: leave out echo, or export it without that option."
            )
        check_numbers(logits)
        if begin == 0:
            self.emit([("prompt", "")], Choice(int(self.token_ids[0])))
        for token, row in zip(self.token_ids[begin + 1 : end + 1].tolist(), logits, strict=False):
            self.emit([("prompt", "")], scored(token, row, self.options.prompt_logprobs or 0))

    def emit(
        self,
        pieces: Pieces | None = None,
        choice: Choice | None = None,
        finish_reason: FinishReason | None = None,
        stop: str | None = None,
    ) -> None:
        """Add a chunk for each piece of text to what is handed over next; the first one has the token."""
        pieces = pieces or [("answer", "")]
        for n, (kind, text) in enumerate(pieces, 1):
            self._pending.append(
                Chunk(
                    text=text,
                    prompt_tokens=self.token_ids.size,
                    cached_tokens=self.cached_tokens,
                    prefilled_tokens=min(len(self.slot.tokens), self.token_ids.size) if self.slot else 0,
                    completion_tokens=self.completion_tokens,
                    prefill_seconds=self.prefill_seconds,
                    decode_seconds=time.perf_counter() - self.started - self.prefill_seconds,
                    token_id=choice.token if choice else None,
                    finish_reason=finish_reason if n == len(pieces) else None,
                    logprob=choice.logprob if choice else None,
                    top=choice.top if choice else (),
                    kind=kind,
                    stop=stop,
                )
            )
            choice = None

    def deliver(self) -> None:
        """Hand over what has gathered."""
        if self._pending:
            self.sink(self._pending)
            self._pending = []
            self.delivered = time.perf_counter()
