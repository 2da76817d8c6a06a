"""Tokens that are read as the server reads a prompt."""

from serving.engine.runtime import PREFILL_CHUNK, Runtime, Slot
from serving.types import TokenIds


def prefill(runtime: Runtime, slot: Slot, tokens: TokenIds) -> None:
    """Append tokens [n] to a slot that has room for them, in passes of usual length."""
    for begin in range(0, tokens.size, PREFILL_CHUNK):
        runtime.forward([(slot, tokens[begin : begin + PREFILL_CHUNK])])
