"""How /v1/completions writes answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from serving.http.shapes.completions import CompletionsShape
from serving.http.shapes.shape import Event, Gathered, Json, finish_of
from serving.types import Chunk


@dataclass(slots=True)
class TextShape(CompletionsShape):
    """/v1/completions. Reasoning and answer are one text there."""

    prefix = "cmpl"
    stream_object = "text_completion"
    object = "text_completion"
    shown: dict[int, int] = field(default_factory=dict)

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """The new text, and the reason why it ended."""
        text, finish = "".join(chunk.text for chunk in chunks), finish_of(chunks[-1])
        logprobs = self._logprobs(chunks, self.shown.get(index, 0))
        self.shown[index] = self.shown.get(index, 0) + len(text)
        if not (text or finish or logprobs):
            return []
        return [self._event({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})]

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        logprobs = self._logprobs(answer.chunks, 0) if self.logprobs else None
        return {"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": finish_of(answer.last)}

    def _logprobs(self, chunks: Sequence[Chunk], offset: int) -> Json | None:
        scored = self._tokens(chunks)
        if not scored:
            return None
        texts = [self._token(chunk.token_id) for chunk in scored if chunk.token_id is not None]
        offsets = list(accumulate((len(text) for text in texts), initial=offset))[:-1]
        top = [{self._token(token): logprob for token, logprob in chunk.top} for chunk in scored]
        return {
            "tokens": texts,
            "token_logprobs": [chunk.logprob for chunk in scored],
            "top_logprobs": top if any(top) else None,
            "text_offset": offsets,
        }
