"""Errors a user can cause and mend. Each message says what was wrong, with which value, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager


class ServingError(Exception):
    """Base of everything this package raises on purpose."""


class ModelFolderError(ServingError):
    """The folder cannot be served: a file is missing, truncated or unreadable."""


class InvalidRequest(ServingError):
    """A message, an option or a template that cannot be used as given."""


class ContextOverflow(InvalidRequest):
    """The prompt alone fills the context window."""


class EngineStopped(ServingError):
    """The engine was closed, or failed, while a request was waiting for it."""


class OutOfMemory(ServingError):
    """There is no room for this conversation's KV cache."""


class Busy(ServingError):
    """Too many requests wait. retry_after: when it is worth trying again, in seconds; an estimate."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LimitReached(Busy):
    """One client has as many answers being made as it may have."""


class PanicException(Exception):
    """A library written in Rust gave up."""


@contextmanager
def unpanicked() -> Iterator[None]:
    """Where tokenizers or llguidance panic, it is a PanicException: theirs is no Exception, and none can import it."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != PanicException.__name__:
            raise
        raise PanicException(str(error)) from error
