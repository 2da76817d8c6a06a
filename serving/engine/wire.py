"""What the two sides of the engine's process say to each other: one JSON line each.

To the child, first: {"path", "settings"}. Then any of {"end_ids"}, {"id", "tokens", "options", "client"},
{"cancel": id} and {"status": id}. From it, first: {"context_length", "notes"}, or an error, {"error", "arguments"}.
Then lines with the "id" of what they reply to, and {"chunks"}, {"status"} or an error.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from serving import errors
from serving.errors import Busy, ServingError
from serving.types import Chunk, SamplingOptions, TokenIds

CLOSING_SECONDS = 2.5  # for a child that keeps conversations, from the end of its stdin to its own
OUT_OF_MEMORY = 12  # the child's exit code where there is none left for a reply

Line = dict[str, Any]
Batch = list[Chunk] | ServingError
Sink = Callable[[Batch], None]
Wanted = Sequence[tuple[TokenIds, SamplingOptions]]
_CHUNK_FIELDS = tuple(field.name for field in fields(Chunk))


def encoded(line: Line) -> bytes:
    """A line as it is written."""
    return json.dumps(line).encode() + b"\n"


def error_line(error: BaseException) -> Line:
    """An error as a line; one that is not ours keeps its message only."""
    if not isinstance(error, ServingError):
        error = ServingError(f"the engine failed on this request: {error!r}.")
    return {
        "error": type(error).__name__,
        "arguments": [str(error), *([error.retry_after] if isinstance(error, Busy) else [])],
    }


def error_of(line: Line) -> ServingError:
    """The error that `error_line` wrote."""
    error: ServingError = getattr(errors, line["error"])(*line["arguments"])
    return error


def batch_line(batch: Sequence[Chunk] | Exception) -> Line:
    """Chunks of an answer, or what ended it, as a line."""
    if isinstance(batch, Exception):
        return error_line(batch)
    return {"chunks": [[getattr(chunk, name) for name in _CHUNK_FIELDS] for chunk in batch]}


def batch_of(line: Line) -> Batch:
    """What `batch_line` wrote."""
    return error_of(line) if "error" in line else [_chunk(values) for values in line["chunks"]]


def is_last(batch: Sequence[Chunk] | Exception) -> bool:
    """Whether nothing comes after this."""
    return isinstance(batch, Exception) or batch[-1].finish_reason is not None


def _chunk(values: Sequence[Any]) -> Chunk:
    chunk = Chunk(*values)
    return replace(chunk, top=tuple((token, logprob) for token, logprob in chunk.top))
