"""How /v1/responses writes an answer: items of reasoning and text, each opened, filled and closed."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from serving.openai import ResponsesRequest
from serving.problems import Problem
from serving.shapes import Event, Gathered, Json, finish_of, usage_of
from serving.types import Chunk, Kind


@dataclass(slots=True)
class _Item:
    """A stretch of one kind."""

    kind: Kind
    text: str = ""
    id: str = field(default_factory=lambda: f"item_{secrets.token_hex(12)}")

    def part(self, text: str) -> Json:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def written(self, status: str) -> Json:
        content = [] if status == "in_progress" else [self.part(self.text)]
        if self.kind == "reasoning":
            return {"id": self.id, "type": "reasoning", "summary": [], "content": content, "status": status}
        return {"id": self.id, "type": "message", "role": "assistant", "content": content, "status": status}


class ResponsesShape:
    """/v1/responses. Every event has its name and its number."""

    def __init__(self, model: str, asked: ResponsesRequest, temperature: float, top_p: float) -> None:
        self._model, self._asked, self._temperature, self._top_p = model, asked, temperature, top_p
        self._id = f"resp_{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._items: list[_Item] = []
        self._sent = 0

    def begin(self) -> list[Event]:
        """The response, with nothing in it yet."""
        return [
            self._event(f"response.{name}", response=self._body("in_progress")) for name in ("created", "in_progress")
        ]

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """A delta for each stretch; where the kind changes, an item is closed and another one opened."""
        events: list[Event] = []
        for kind, group in groupby(chunks, key=lambda chunk: chunk.kind):
            text = "".join(chunk.text for chunk in group)
            if not text:
                continue
            if not self._items or self._items[-1].kind != kind:
                events += self._closed("completed") + self._opened(kind)
            item = self._items[-1]
            item.text += text
            more: Json = {"logprobs": []} if kind == "answer" else {}
            events.append(self._event(f"response.{_NAMES[kind]}.delta", **self._place(), delta=text, **more))
        return events

    def end(self, answers: Sequence[Gathered]) -> list[Event]:
        """The last item closed, and the whole response."""
        if not any(item.kind == "answer" for item in self._items):
            events = self._closed("completed") + self._opened("answer")
        else:
            events = []
        status = self._status(answers)
        events += self._closed(status)
        return [*events, self._event(f"response.{status}", response=self._ended(answers))]

    def failed(self, problem: Problem) -> list[Event]:
        """The end of a stream that went wrong."""
        return [self._event("error", code=problem.code, message=problem.message, param=problem.param)]

    def whole(self, answers: Sequence[Gathered]) -> Json:
        """The body."""
        kinds: tuple[Kind, ...] = ("reasoning", "answer")
        self._items = [
            _Item(kind, answers[0].texts[kind]) for kind in kinds if kind == "answer" or answers[0].texts[kind]
        ]
        return self._ended(answers)

    def _opened(self, kind: Kind) -> list[Event]:
        self._items.append(_Item(kind))
        item, place = self._items[-1], self._place()
        return [
            self._event(
                "response.output_item.added", output_index=place["output_index"], item=item.written("in_progress")
            ),
            self._event("response.content_part.added", **place, part=item.part("")),
        ]

    def _closed(self, status: str) -> list[Event]:
        if not self._items:
            return []
        item, place = self._items[-1], self._place()
        more: Json = {"logprobs": []} if item.kind == "answer" else {}
        return [
            self._event(f"response.{_NAMES[item.kind]}.done", **place, text=item.text, **more),
            self._event("response.content_part.done", **place, part=item.part(item.text)),
            self._event("response.output_item.done", output_index=place["output_index"], item=item.written(status)),
        ]

    def _place(self) -> Json:
        return {"item_id": self._items[-1].id, "output_index": len(self._items) - 1, "content_index": 0}

    def _event(self, name: str, **content: object) -> Json:
        self._sent += 1
        return {"type": name, "sequence_number": self._sent - 1, **content}

    def _status(self, answers: Sequence[Gathered]) -> str:
        return "incomplete" if finish_of(answers[0].last) == "length" else "completed"

    def _ended(self, answers: Sequence[Gathered]) -> Json:
        status, usage = self._status(answers), usage_of(answers, 1)
        return {
            **self._body(status),
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "output": [item.written(status if item is self._items[-1] else "completed") for item in self._items],
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "input_tokens_details": {**usage["prompt_tokens_details"], "cache_write_tokens": 0},
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": usage["completion_tokens_details"],
                "total_tokens": usage["total_tokens"],
            },
        }

    def _body(self, status: str) -> Json:
        asked = self._asked
        wanted = asked.text.format if asked.text else None
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self._model,
            "output": [],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            "store": False,
            "temperature": self._temperature,
            "text": {"format": wanted.model_dump(by_alias=True) if wanted else {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": self._top_p,
            "truncation": "disabled",
            "usage": None,
            "user": asked.user,
        }


_NAMES: dict[Kind, str] = {"answer": "output_text", "reasoning": "reasoning_text"}
