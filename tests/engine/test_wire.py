"""What is written between the two sides of the engine's process, and what no side would write."""

import json
from pathlib import Path

import pytest

from serving.engine.wire import batch_line, batch_of, encoded, error_line, error_of
from serving.errors import Busy, EngineStopped, InvalidRequest, OutOfMemory, ServingError
from serving.types import Chunk
from tests.engine.fuzz import WHOLE, Worker, fuzz, good


def test_chunks_come_out_as_they_went_in() -> None:
    chunks = [
        Chunk("so", 9, 3, 9, 1, 0.5, 0.25, 7, None, -0.5, ((7, -0.5), (8, -1.5)), "reasoning"),
        Chunk("\ud83e\u2028\n", 9, 3, 9, 2, finish_reason="stop", dropped_messages=3, stop="END"),
    ]
    line = encoded(batch_line(chunks))
    assert line.count(b"\n") == 1 and batch_of(json.loads(line)) == chunks


@pytest.mark.parametrize(
    "error", [InvalidRequest("a"), Busy("b", 2.5), EngineStopped("c"), OutOfMemory("d"), MemoryError("e"), KeyError()]
)
def test_errors_come_out_as_they_went_in_and_others_as_ours(error: Exception) -> None:
    read = error_of(json.loads(encoded(error_line(error))))
    if isinstance(error, ServingError):
        assert (type(read), str(read)) == (type(error), str(error))
        assert getattr(read, "retry_after", None) == getattr(error, "retry_after", None)
    else:
        assert type(read) is ServingError and repr(error) in str(read)


def test_what_is_no_request_is_passed_over(exact_model: Path) -> None:
    worker = Worker(exact_model)
    for number, line in enumerate(WHOLE):
        worker.write(line + b"\n" + encoded(good(number)))
        worker.ended({number})
    assert worker.close() == 0


def test_spoilt_lines_are_answered_or_passed_over(exact_model: Path) -> None:
    kinds = fuzz(exact_model, lines=500, seed=7)
    assert kinds["InvalidRequest"] > 10 and kinds["length"] > 10
