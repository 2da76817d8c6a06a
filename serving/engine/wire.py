"""What the two sides of the engine's process say to each other: one JSON line each."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from serving import errors
from serving.errors import Busy, ServingError
from serving.types import Chunk, EngineStatus

Line = dict[str, Any]
Batch = list[Chunk] | ServingError
Sink = Callable[[Batch], None]
_CHUNK_FIELDS = tuple(field.name for field in fields(Chunk))


def error_line(error: Exception) -> Line:
    """An error as a line; one that is not ours keeps its message only."""
    known = type(error).__name__ if isinstance(error, ServingError) else "ServingError"
    return {"error": known, "arguments": [str(error), *([error.retry_after] if isinstance(error, Busy) else [])]}


def error_of(line: Line) -> ServingError:
    """The error that `error_line` wrote."""
    error: ServingError = getattr(errors, line["error"])(*line["arguments"])
    return error


def batch_line(batch: Sequence[Chunk] | Exception) -> Line:
    """Chunks of an answer, or what ended it, as a line."""
    if isinstance(batch, Exception):
        return error_line(batch)
    return {"chunks": [[getattr(chunk, name) for name in _CHUNK_FIELDS] for chunk in batch]}


def content_of(line: Line) -> Batch | EngineStatus:
    """What a reply carries."""
    if "status" in line:
        return EngineStatus(**line["status"])
    return error_of(line) if "error" in line else [_chunk(values) for values in line["chunks"]]


def is_last(content: Sequence[Chunk] | Exception | EngineStatus) -> bool:
    """Whether nothing comes after this."""
    return not isinstance(content, Sequence) or content[-1].finish_reason is not None


def _chunk(values: Sequence[Any]) -> Chunk:
    chunk = Chunk(*values)
    return replace(chunk, top=tuple((token, logprob) for token, logprob in chunk.top)) if chunk.top else chunk
