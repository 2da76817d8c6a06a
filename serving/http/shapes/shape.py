"""How an endpoint writes answers, and what it writes them from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

from serving.http.problems import Problem
from serving.types import Chunk, Kind

Json = dict[str, Any]
Event = Json | str  # what an event of a stream carries


class Shape(Protocol):
    """How one endpoint writes answers."""

    def begin(self) -> list[Event]:
        """The events before anything is there."""

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """The events of what is new in an answer."""

    def end(self, answers: "Sequence[Gathered]") -> list[Event]:
        """The events after the last piece."""

    def failed(self, problem: Problem) -> list[Event]:
        """The events of a stream that goes wrong."""

    def whole(self, answers: "Sequence[Gathered]") -> Json:
        """The body, where nothing is streamed."""


@dataclass(slots=True)
class Gathered:
    """What there is of one answer."""

    text: str = ""
    texts: dict[Kind, str] = field(default_factory=lambda: dict.fromkeys(get_args(Kind), ""))  # the same, apart
    chunks: list[Chunk] = field(default_factory=list)  # those with a token
    reasoning_tokens: int = 0
    last: Chunk | None = None

    def add(self, chunks: Sequence[Chunk], keep_tokens: bool) -> None:
        """Take what is new."""
        for chunk in chunks:
            self.text += chunk.text
            self.texts[chunk.kind] += chunk.text
            if chunk.token_id is not None:
                self.reasoning_tokens += chunk.kind == "reasoning"
                if keep_tokens:
                    self.chunks.append(chunk)
        self.last = chunks[-1]


def usage_of(answers: Sequence[Gathered], prompts: int) -> Json:
    """Token counts. A prompt that has several answers counts once."""
    each = len(answers) // prompts
    lasts = [answer.last for answer in answers if answer.last]
    prompt = sum(last.prompt_tokens for last in lasts[::each])
    completion = sum(last.completion_tokens for last in lasts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(last.cached_tokens for last in lasts[::each])},
        "completion_tokens_details": {"reasoning_tokens": sum(answer.reasoning_tokens for answer in answers)},
    }


def finish_of(last: Chunk | None) -> str | None:
    reason = last.finish_reason if last else None
    return "stop" if reason == "cancelled" else reason


def is_cut(last: Chunk | None) -> bool:
    """Whether an answer was ended in the middle: by its length, a stop string, or because nobody waits for it."""
    return last is not None and (last.finish_reason != "stop" or last.stop is not None)
