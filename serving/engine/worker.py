"""The child's side of the engine's process: `python -m serving.engine.worker` answers what comes on its stdin.

A request that cannot be followed, whatever it contains, fails by itself: the reading goes on, and so do the others.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from queue import SimpleQueue
from typing import BinaryIO

import numpy as np

from serving.engine.engine import Engine
from serving.engine.wire import OUT_OF_MEMORY, Line, batch_line, encoded, error_line, is_last
from serving.errors import InvalidRequest, ServingError
from serving.types import Chunk, EngineSettings, TokenIds, options_from

# OGA holds the interpreter's lock for the whole of the next pass, so what has not been written before waits that long.
HANDOVER_SECONDS = 0.005


class Outlet:
    """Lines to the parent, written by a thread of its own: nobody waits for a full pipe longer than they want to.

    What gathers here is bounded, as requests are.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._lines: SimpleQueue[tuple[bytes, threading.Event]] = SimpleQueue()
        threading.Thread(target=self._write, name="replies", daemon=True).start()

    def send(self, line: Line, seconds: float | None = 0.0) -> None:
        """Have it written; wait for that, so many seconds at most, or for as long as it takes."""
        written = threading.Event()
        self._lines.put((encoded(line), written))
        if seconds != 0:
            written.wait(seconds)

    def _write(self) -> None:
        while True:
            line, written = self._lines.get()
            self._pipe.write(line)
            self._pipe.flush()
            written.set()


class Requests:
    """What the parent asks for, line by line."""

    def __init__(self, engine: Engine, send: Callable[..., None]) -> None:
        self._engine, self._send = engine, send
        self._cancelled: dict[int, threading.Event] = {}

    def hear(self, line: bytes) -> None:
        """Do what a line says, or reply with what is wrong with it. One that does not even name its id is passed over.

        Raises only where there is no memory for the reply either.
        """
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(request, dict):
            return
        number = request.get("id")
        try:
            self._follow(request)
        except BaseException as error:  # a library written in Rust panics with something that is no Exception
            if isinstance(number, int):
                self._cancelled.pop(number, None)
                self._send({"id": number, **error_line(error)})

    def _follow(self, request: Line) -> None:
        match request:
            case {"end_ids": end_ids}:
                self._engine.prompt = replace(self._engine.prompt, fixed_end_ids=frozenset(end_ids))
            case {"status": number}:
                self._send({"id": number, "status": asdict(self._engine.status())})
            case {"cancel": number}:
                if stop := self._cancelled.get(number):
                    stop.set()
            case {"id": int(number), "tokens": tokens, "options": options}:
                self._answer(number, _token_ids(tokens), options, str(request.get("client", "")))
            case _:
                raise InvalidRequest("this is not a request that the engine knows.")

    def _answer(self, number: int, token_ids: TokenIds, options: Line, client: str) -> None:
        stop = self._cancelled[number] = threading.Event()

        def sink(batch: Sequence[Chunk] | Exception) -> None:
            if is_last(batch):
                self._cancelled.pop(number, None)
            self._send({"id": number, **batch_line(batch)}, HANDOVER_SECONDS)

        self._engine.submit(token_ids, options_from(options), stop.is_set, sink, client)


def _token_ids(values: object) -> TokenIds:
    if not isinstance(values, list) or not values or any(type(value) is not int for value in values):
        raise InvalidRequest("a prompt must be a list of token ids, at least one.")
    return np.asarray(values, np.int32)


def main() -> None:
    """Load the engine that the first line asks for, then answer requests until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    threading.excepthook = _end_all
    outlet = Outlet(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what libraries print must not get between the lines

    first = sys.stdin.buffer.readline()
    if not first:  # the parent was stopped before it said anything
        return
    setup = json.loads(first)
    try:
        engine = Engine.load(setup["path"], EngineSettings(**setup["settings"]))
    except ServingError as error:
        outlet.send(error_line(error), None)
        return
    except ImportError as error:
        missing = ServingError(f"{error.name} cannot be imported ({error}): 'pip install -e .' installs it.")
        outlet.send(error_line(missing), None)
        return
    requests = Requests(engine, outlet.send)
    outlet.send({"context_length": engine.context_length, "notes": engine.notes})
    try:
        for line in sys.stdin.buffer:
            requests.hear(line)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    if setup["settings"].get("keep"):
        engine.close()
    os._exit(0)  # the parent is gone or has closed us: do not wait for answers that nobody reads


def _end_all(failure: threading.ExceptHookArgs) -> None:
    """No thread goes on without the others: the parent sees the end, and starts a whole process again."""
    if issubclass(failure.exc_type, MemoryError):
        os._exit(OUT_OF_MEMORY)
    if not issubclass(failure.exc_type, BrokenPipeError):  # the parent is gone
        threading.__excepthook__(failure)
    os._exit(1)


if __name__ == "__main__":
    main()
