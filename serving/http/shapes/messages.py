"""How /v1/messages writes an answer: blocks of thinking, text and calls, each started, filled and stopped."""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from serving.http.problems import Problem
from serving.http.shapes.parts import InParts
from serving.http.shapes.shape import Event, Gathered, Json, finish_of, usage_of
from serving.text.tools import Call, CallFormat, CallPiece, CallReader, Functions, Part
from serving.types import Chunk, Kind


@dataclass(slots=True)
class _Block:
    """A stretch of thinking or text."""

    kind: Kind
    text: str = ""

    @property
    def written(self) -> Json:
        if self.kind == "reasoning":
            return {"type": "thinking", "thinking": self.text, "signature": ""}
        return {"type": "text", "text": self.text}

    @property
    def begun(self) -> Json:
        return _Block(self.kind).written

    def delta(self, text: str) -> Json:
        if self.kind == "reasoning":
            return {"type": "thinking_delta", "thinking": text}
        return {"type": "text_delta", "text": text}

    @property
    def last_delta(self) -> Json | None:
        return {"type": "signature_delta", "signature": ""} if self.kind == "reasoning" else None


@dataclass(slots=True)
class _ToolUse:
    """A call, whole where nothing is streamed."""

    call: Call
    id: str = field(default_factory=lambda: f"toolu_{secrets.token_hex(12)}")

    @property
    def written(self) -> Json:
        return {**self.begun, "input": json.loads(self.call.arguments)}

    @property
    def begun(self) -> Json:
        return {"type": "tool_use", "id": self.id, "name": self.call.name, "input": {}}


class MessagesShape(InParts):
    """/v1/messages.

    prompt_tokens: of the conversation. calls: how the model writes them, and the functions that there are.
    hides_thinking: blocks of thinking stay empty.
    """

    def __init__(
        self,
        model: str,
        prompt_tokens: int,
        calls: tuple[CallFormat, Functions] | None = None,
        hides_thinking: bool = False,
    ) -> None:
        self._model, self._prompt_tokens, self._hides_thinking = model, prompt_tokens, hides_thinking
        self._id = f"msg_{secrets.token_hex(12)}"
        self._blocks: list[_Block | _ToolUse] = []
        self._calls = calls
        self._reader = CallReader(*calls) if calls else None

    def begin(self) -> list[Event]:
        """The message, with nothing in it yet."""
        self._reader = CallReader(*self._calls, pieces=True) if self._calls else None
        usage = _usage(self._prompt_tokens, cached=0, completion=0)
        return [{"type": "message_start", "message": self._body([], (None, None), usage)}, {"type": "ping"}]

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """A delta for each stretch; where the kind changes, a block is stopped and another one started."""
        events: list[Event] = []
        for kind, group in groupby(chunks, key=lambda chunk: chunk.kind):
            events += self._said(kind, "".join(chunk.text for chunk in group))
        return events + self._flushed(chunks[-1]) if chunks[-1].finish_reason else events

    def end(self, answers: Sequence[Gathered]) -> list[Event]:
        """The last block stopped, why the answer ended, and the message stopped."""
        reason, sequence = self._stop(answers[0])
        usage = _usage_of(answers)
        return [
            *self._stopped(),
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence}, "usage": usage},
            {"type": "message_stop"},
        ]

    def failed(self, problem: Problem) -> list[Event]:
        """The end of a stream that went wrong."""
        return [problem.of_messages]

    def whole(self, answers: Sequence[Gathered]) -> Json:
        """The body."""
        self._taken(answers)
        return self._body([block.written for block in self._blocks], self._stop(answers[0]), _usage_of(answers))

    def _part(self, kind: Kind, part: Part) -> list[Event]:
        if isinstance(part, Call | CallPiece):
            name = part.name
            events = [] if name is None else self._started(_ToolUse(Call(name, part.arguments)))
            return [*events, self._delta({"type": "input_json_delta", "partial_json": part.arguments})]
        if not part:
            return []
        last = self._blocks[-1] if self._blocks else None
        events = []
        if not isinstance(last, _Block) or last.kind != kind:
            last = _Block(kind)
            events = self._started(last)
        if kind == "reasoning" and self._hides_thinking:
            return events
        last.text += part
        return [*events, self._delta(last.delta(part))]

    def _started(self, block: _Block | _ToolUse) -> list[Event]:
        """The block before it stopped, and this one started."""
        stopped = self._stopped()
        self._blocks.append(block)
        start = {"type": "content_block_start", "index": len(self._blocks) - 1, "content_block": block.begun}
        return [*stopped, start]

    def _stopped(self) -> list[Event]:
        if not self._blocks:
            return []
        last = self._blocks[-1]
        signature = last.last_delta if isinstance(last, _Block) else None
        stop = {"type": "content_block_stop", "index": len(self._blocks) - 1}
        return [*([self._delta(signature)] if signature else []), stop]

    def _delta(self, delta: Json) -> Json:
        return {"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta}

    def _stop(self, answer: Gathered) -> tuple[str, str | None]:
        """Why the answer ended, and with which stop sequence. A client goes on where the model has called something."""
        finish = finish_of(answer.last)
        if finish == "length":
            return "max_tokens", None
        if any(isinstance(block, _ToolUse) for block in self._blocks):
            return "tool_use", None
        stop = answer.last.stop if answer.last else None
        return ("end_turn", None) if stop is None else ("stop_sequence", stop)

    def _body(self, content: list[Json], stop: tuple[str | None, str | None], usage: Json) -> Json:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": stop[0],
            "stop_sequence": stop[1],
            "usage": usage,
        }


def _usage_of(answers: Sequence[Gathered]) -> Json:
    usage = usage_of(answers, 1)
    cached, thought = usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens_details"]
    details = {"output_tokens_details": {"thinking_tokens": thought["reasoning_tokens"]}}
    return {**_usage(usage["prompt_tokens"], cached, usage["completion_tokens"]), **details}


def _usage(prompt: int, cached: int, completion: int) -> Json:
    """Token counts. What was in the cache is not counted as input again."""
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": completion,
    }
