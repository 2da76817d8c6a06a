"""What one piece of work may take of a process."""

import resource

import pytest

from serving.text.limits import LEAST_MEMORY, limited


def test_more_memory_than_it_may_take_is_an_error_and_afterwards_there_is_no_bound() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited(600, LEAST_MEMORY):
        bytearray(LEAST_MEMORY // 2)
        with pytest.raises(MemoryError):
            bytearray(LEAST_MEMORY * 2)
    bytearray(LEAST_MEMORY * 2)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_work_that_fails_leaves_no_bound() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(ZeroDivisionError), limited(600, LEAST_MEMORY):
        raise ZeroDivisionError
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
