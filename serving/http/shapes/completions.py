"""What the two completion endpoints have in common."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from serving.http.problems import Problem
from serving.http.shapes.shape import Event, Gathered, Json, usage_of
from serving.text.prompt import Spelling
from serving.types import Chunk


@dataclass(slots=True)
class CompletionsShape:
    """What the two completion endpoints have in common.

    include_usage: at the end of a stream; usage_in_each: of its events too, as far as its answer is. logprobs: what
    tokens spell, where they are asked for.
    """

    model: str
    prompts: int
    include_usage: bool
    logprobs: Spelling | None
    prefix: ClassVar[str]
    stream_object: ClassVar[str]
    object: ClassVar[str]
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))
    usage_in_each: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"

    def begin(self) -> list[Event]:
        """Nothing: the first event is the first token."""
        return []

    def end(self, answers: Sequence[Gathered]) -> list[Event]:
        """The usage, if it was asked for, and the end."""
        usage: list[Event] = []
        if self.include_usage:
            usage = [{**self._head(self.stream_object), "choices": [], "usage": usage_of(answers, self.prompts)}]
        return [*usage, "[DONE]"]

    def failed(self, problem: Problem) -> list[Event]:
        """The error as an event."""
        return [problem.body]

    def whole(self, answers: Sequence[Gathered]) -> Json:
        """The body."""
        choices = [self.choice(index, answer) for index, answer in enumerate(answers)]
        return {**self._head(self.object), "choices": choices, "usage": usage_of(answers, self.prompts)}

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        raise NotImplementedError

    def _event(self, choice: Json, last: Chunk) -> Json:
        """last: of the chunks that the event is made of."""
        usage: Json = {"usage": None} if self.include_usage else {}
        if self.usage_in_each:
            prompt, completion = last.prompt_tokens, last.completion_tokens
            counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            usage = {"usage": counts}
        return {**self._head(self.stream_object), "choices": [choice], **usage}

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _token(self, token: int) -> str:
        return self.logprobs.of(token) if self.logprobs else ""

    def _tokens(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks whose tokens are part of the text: the end of the turn is not."""
        if not self.logprobs:
            return []
        return [c for c in chunks if c.token_id is not None and c.token_id not in self.logprobs.end_ids]
