"""How each endpoint writes answers: whole bodies, and the events of a stream."""

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any, ClassVar, Protocol

from serving.http.problems import Problem
from serving.text.prompt import Prompt
from serving.text.tools import Call, CallFormat, CallReader, read_calls
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
    texts: dict[Kind, str] = field(default_factory=lambda: {"answer": "", "reasoning": ""})  # the same, apart
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


@dataclass(slots=True)
class _Endpoint:
    """What the two completion endpoints have in common."""

    model: str
    prompt: Prompt
    prompts: int
    include_usage: bool
    logprobs: bool
    prefix: ClassVar[str]
    stream_object: ClassVar[str]
    object: ClassVar[str]
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

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

    def _event(self, choice: Json) -> Json:
        return {
            **self._head(self.stream_object),
            "choices": [choice],
            **({"usage": None} if self.include_usage else {}),
        }

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _token(self, token: int) -> str:
        return str(self.prompt.tokenizer.decode([token], skip_special_tokens=False))

    def _tokens(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks whose tokens are part of the text: the end of the turn is not."""
        if not self.logprobs:
            return []
        return [c for c in chunks if c.token_id is not None and c.token_id not in self.prompt.end_ids]


@dataclass(slots=True)
class ChatShape(_Endpoint):
    """/v1/chat/completions. calls: how the model writes them, and the functions that there are."""

    calls: tuple[CallFormat, set[str]] | None = None
    prefix = "chatcmpl"
    stream_object = "chat.completion.chunk"
    object = "chat.completion"
    begun: set[int] = field(default_factory=set)
    readers: dict[int, CallReader] = field(default_factory=dict)
    called: Counter[int] = field(default_factory=Counter)

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """A delta for each stretch of reasoning or answer; then one with the reason why it ended."""
        finish, logprobs = finish_of(chunks[-1]), self._logprobs(chunks)
        deltas = [
            delta
            for kind, group in groupby(chunks, key=lambda c: c.kind)
            for delta in self._deltas(index, kind, "".join(c.text for c in group))
        ]
        if finish and index in self.readers:
            deltas += self._parts(index, self.readers[index].flush())
        if finish and self.called[index]:
            finish = "tool_calls" if finish == "stop" else finish
        if not deltas and ((finish and index not in self.begun) or logprobs):
            deltas = [{"content": ""}]
        if deltas and index not in self.begun:
            self.begun.add(index)
            deltas[0] = {"role": "assistant", **deltas[0]}
        events: list[Json] = [
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas
        ]
        if logprobs:
            events[0]["logprobs"] = logprobs
        if finish:
            events.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": finish})
        return [self._event(event) for event in events]

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        reasoning = {"reasoning_content": answer.texts["reasoning"]} if answer.texts["reasoning"] else {}
        text, calls = answer.texts["answer"], list[Call]()
        if self.calls:
            text, calls = read_calls(*self.calls, text)
        message: Json = {"role": "assistant", "content": text, **reasoning, "refusal": None}
        finish = finish_of(answer.last)
        if calls:
            message |= {"content": text or None, "tool_calls": [_written(call) for call in calls]}
            finish = "tool_calls" if finish == "stop" else finish
        logprobs = (self._logprobs(answer.chunks) or {"content": [], "refusal": None}) if self.logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}

    def _deltas(self, index: int, kind: Kind, text: str) -> list[Json]:
        if kind == "reasoning" or not self.calls:
            return [{_FIELDS[kind]: text}] if text else []
        if index not in self.readers:
            self.readers[index] = CallReader(*self.calls)
        return self._parts(index, self.readers[index].feed(text))

    def _parts(self, index: int, parts: Sequence[str | Call]) -> list[Json]:
        deltas: list[Json] = []
        for part in parts:
            if isinstance(part, str):
                deltas.append({"content": part})
            else:
                deltas.append({"tool_calls": [{"index": self.called[index], **_written(part)}]})
                self.called[index] += 1
        return deltas

    def _logprobs(self, chunks: Sequence[Chunk]) -> Json | None:
        content = [
            {
                **self._scored(chunk.token_id, chunk.logprob),
                "top_logprobs": [self._scored(token, logprob) for token, logprob in chunk.top],
            }
            for chunk in self._tokens(chunks)
            if chunk.token_id is not None and chunk.logprob is not None
        ]
        return {"content": content, "refusal": None} if content else None

    def _scored(self, token: int, logprob: float) -> Json:
        text = self._token(token)
        # A token that is a piece of a character has bytes of its own, which no text can show.
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}


@dataclass(slots=True)
class TextShape(_Endpoint):
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


def _written(call: Call) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


_FIELDS: dict[Kind, str] = {"answer": "content", "reasoning": "reasoning_content"}
