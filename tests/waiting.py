"""Waiting for what happens elsewhere, on another thread or in another process."""

import time
from collections.abc import Callable


def eventually(holds: Callable[[], bool], seconds: float = 10.0, pause: float = 0.01) -> None:
    """Wait until it holds, and fail if it does not within so many seconds. pause: between two looks, in seconds."""
    for _ in range(round(seconds / pause)):
        if holds():
            return
        time.sleep(pause)
    raise AssertionError(f"it did not happen within {seconds:g} seconds")
