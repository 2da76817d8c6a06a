"""How /v1/chat/completions writes answers."""

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from serving.http.shapes.completions import CompletionsShape
from serving.http.shapes.shape import Event, Gathered, Json, finish_of, is_cut
from serving.text.tools import Call, CallFormat, CallPiece, CallReader, Functions, Part, read_calls
from serving.types import Chunk, Kind


@dataclass(slots=True)
class ChatShape(CompletionsShape):
    """/v1/chat/completions. calls: how the model writes them, and the functions that there are."""

    calls: tuple[CallFormat, Functions] | None = None
    prefix = "chatcmpl"
    stream_object = "chat.completion.chunk"
    object = "chat.completion"
    begun: set[int] = field(default_factory=set)
    readers: dict[int, CallReader] = field(default_factory=dict)
    called: Counter[int] = field(default_factory=Counter)
    spelled: dict[int, tuple[str, list[int] | None]] = field(default_factory=dict)  # of those that were likely

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """A delta for each stretch of reasoning or answer; then one with the reason why it ended."""
        finish, logprobs = finish_of(chunks[-1]), self._logprobs(chunks)
        deltas = [
            delta
            for kind, group in groupby(chunks, key=lambda c: c.kind)
            for delta in self._deltas(index, kind, "".join(c.text for c in group))
        ]
        if finish and index in self.readers:
            deltas += self._parts(index, self.readers[index].flush(is_cut(chunks[-1])))
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
        return [self._event(event, chunks[-1]) for event in events]

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        reasoning = {"reasoning_content": answer.texts["reasoning"]} if answer.texts["reasoning"] else {}
        text, calls = answer.texts["answer"], list[Call]()
        if self.calls:
            text, calls = read_calls(*self.calls, text, is_cut(answer.last))
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
            self.readers[index] = CallReader(*self.calls, pieces=True)
        return self._parts(index, self.readers[index].feed(text))

    def _parts(self, index: int, parts: Sequence[Part]) -> list[Json]:
        deltas: list[Json] = []
        for part in parts:
            if isinstance(part, str):
                deltas.append({"content": part})
            elif isinstance(part, CallPiece):
                call = {"function": {"arguments": part.arguments}}
                if part.name is not None:
                    call = _written(Call(part.name, part.arguments))
                if part.name is not None or part.arguments:
                    deltas.append({"tool_calls": [{"index": self.called[index], **call}]})
                self.called[index] += part.whole
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
        if token not in self.spelled:
            text = self._token(token)
            # A token that is a piece of a character has bytes of its own, which no text can show.
            self.spelled[token] = text, None if "\ufffd" in text else list(text.encode())
        text, characters = self.spelled[token]
        return {"token": text, "logprob": logprob, "bytes": characters}


def _written(call: Call) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


_FIELDS: dict[Kind, str] = {"answer": "content", "reasoning": "reasoning_content"}
