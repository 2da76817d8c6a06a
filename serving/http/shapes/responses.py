"""How /v1/responses writes an answer: items of reasoning, text and calls, each opened, filled and closed."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from serving.http.problems import Problem
from serving.http.requests.responses import Reasoning, ResponsesRequest
from serving.http.requests.wire import Wire
from serving.http.shapes.parts import InParts
from serving.http.shapes.shape import Event, Gathered, Json, finish_of, usage_of
from serving.text.tools import Call, CallFormat, CallPiece, CallReader, Functions, Part
from serving.types import Chunk, Kind

ItemKind = Kind | Literal["call"]


@dataclass(slots=True)
class _Item:
    """A stretch of one kind. text: of a call, its arguments; name: whom it calls; open: they are still coming."""

    kind: ItemKind
    text: str = ""
    name: str = ""
    open: bool = False
    call_id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")
    id: str = field(init=False)

    def __post_init__(self) -> None:
        self.id = f"{_PREFIXES[self.kind]}_{secrets.token_hex(12)}"

    def part(self, text: str) -> Json:
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def written(self, status: str) -> Json:
        if self.kind == "call":
            begun = status == "in_progress"
            called = {"call_id": self.call_id, "name": self.name, "arguments": "" if begun else self.text}
            ended = "incomplete" if self.open else "completed"
            return {"id": self.id, "type": "function_call", **called, "status": status if begun else ended}
        content = [] if status == "in_progress" else [self.part(self.text)]
        if self.kind == "reasoning":
            return {"id": self.id, "type": "reasoning", "summary": [], "content": content, "status": status}
        return {"id": self.id, "type": "message", "role": "assistant", "content": content, "status": status}


class ResponsesShape(InParts):
    """/v1/responses. Every event has its name and its number.

    calls: how the model writes them, and the functions that there are.
    """

    def __init__(
        self,
        model: str,
        asked: ResponsesRequest,
        temperature: float,
        top_p: float,
        calls: tuple[CallFormat, Functions] | None = None,
    ) -> None:
        self._model, self._asked, self._temperature, self._top_p = model, asked, temperature, top_p
        self._id = f"resp_{secrets.token_hex(16)}"
        self._created = int(time.time())
        self._items: list[_Item] = []
        self._reader = CallReader(*calls, pieces=bool(asked.stream)) if calls else None
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
            events += self._said(kind, "".join(chunk.text for chunk in group))
        return events + self._flushed(chunks[-1]) if chunks[-1].finish_reason else events

    def end(self, answers: Sequence[Gathered]) -> list[Event]:
        """The last item closed, and the whole response."""
        if all(item.kind == "reasoning" for item in self._items):
            events = self._closed("completed") + self._opened(_Item("answer"))
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
        self._taken(answers)
        if all(item.kind == "reasoning" for item in self._items):
            self._items.append(_Item("answer"))
        return self._ended(answers)

    def _part(self, kind: Kind, part: Part) -> list[Event]:
        if isinstance(part, Call):
            part = CallPiece(part.arguments, part.name, whole=True)
        if isinstance(part, CallPiece):
            return self._called(part)
        if not part:
            return []
        events: list[Event] = []
        if not self._items or self._items[-1].kind != kind:
            events = self._closed("completed") + self._opened(_Item(kind))
        self._items[-1].text += part
        more: Json = {"logprobs": []} if kind == "answer" else {}
        return [*events, self._event(f"response.{_NAMES[kind]}.delta", **self._place(), delta=part, **more)]

    def _opened(self, item: _Item) -> list[Event]:
        self._items.append(item)
        place = self._place()
        return [
            self._event(
                "response.output_item.added", output_index=place["output_index"], item=item.written("in_progress")
            ),
            self._event("response.content_part.added", **place, part=item.part("")),
        ]

    def _called(self, part: CallPiece) -> list[Event]:
        events: list[Event] = []
        if part.name is not None:
            events = self._closed("completed")
            item = _Item("call", name=part.name, open=True)
            self._items.append(item)
            added, index = item.written("in_progress"), len(self._items) - 1
            events.append(self._event("response.output_item.added", output_index=index, item=added))
        item = self._items[-1]
        item.text, item.open = item.text + part.arguments, not part.whole
        events.append(self._event(f"{_ARGUMENTS}.delta", **self._call_place(), delta=part.arguments))
        return events + self._call_done(item) if part.whole else events

    def _call_done(self, item: _Item) -> list[Event]:
        place, index = self._call_place(), len(self._items) - 1
        return [
            self._event(f"{_ARGUMENTS}.done", **place, name=item.name, arguments=item.text),
            self._event("response.output_item.done", output_index=index, item=item.written("completed")),
        ]

    def _call_place(self) -> Json:
        return {"item_id": self._items[-1].id, "output_index": len(self._items) - 1}

    def _closed(self, status: str) -> list[Event]:
        if not self._items:
            return []
        if self._items[-1].kind == "call":  # which is closed with its arguments, unless it was cut
            return self._call_done(self._items[-1]) if self._items[-1].open else []
        item, place = self._items[-1], self._place()
        more: Json = {"logprobs": []} if item.kind == "answer" else {}
        return [
            self._event(f"response.{_NAMES[item.kind]}.done", **place, text=item.text, **more),
            self._event("response.content_part.done", **place, part=item.part(item.text)),
            self._event("response.output_item.done", output_index=place["output_index"], item=item.written(status)),
        ]

    def _place(self) -> Json:
        return {"item_id": self._items[-1].id, "output_index": len(self._items) - 1, "content_index": 0}

    def _event(self, name: str, /, **content: object) -> Json:
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
        wanted, chosen = asked.text.format if asked.text else None, asked.tool_choice
        thinking = asked.reasoning or Reasoning()
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
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": thinking.effort, "summary": thinking.summary},
            "store": False,
            "temperature": self._temperature,
            "text": {"format": wanted.model_dump(by_alias=True) if wanted else {"type": "text"}},
            "tool_choice": chosen.model_dump() if isinstance(chosen, Wire) else chosen or "auto",
            "tools": [tool.model_dump() for tool in asked.tools or ()],
            "top_p": self._top_p,
            "truncation": asked.truncation or "disabled",
            "usage": None,
            "user": asked.user,
        }


_ARGUMENTS = "response.function_call_arguments"
_PREFIXES: dict[ItemKind, str] = {"answer": "msg", "reasoning": "rs", "call": "fc"}
_NAMES: dict[ItemKind, str] = {"answer": "output_text", "reasoning": "reasoning_text"}
