"""The child's side of the engine's process: `python -m serving.engine.worker` answers what comes on its stdin."""

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from serving.engine.engine import Engine
from serving.engine.wire import Line, batch_line, error_line, is_last
from serving.errors import ServingError
from serving.types import Chunk, EngineSettings, options_from


def main() -> None:
    """Load the engine that the first line asks for, then answer requests until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole terminal; the parent says when to end
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the lines
    lock = threading.Lock()

    def send(line: Line) -> None:
        text = json.dumps(line) + "\n"
        with lock:
            replies.write(text)
            replies.flush()

    setup = json.loads(sys.stdin.readline())
    try:
        engine = Engine.load(setup["path"], EngineSettings(**setup["settings"]))
    except ServingError as error:
        send(error_line(error))
        return
    send({"context_length": engine.context_length, "notes": engine.notes})

    cancelled: dict[int, threading.Event] = {}

    def answer(request: Line) -> None:
        number, options = request["id"], options_from(request["options"])
        stop = cancelled[number] = threading.Event()

        def sink(batch: Sequence[Chunk] | Exception) -> None:
            send({"id": number, **batch_line(batch)})
            if is_last(batch):
                cancelled.pop(number, None)

        try:
            engine.submit(np.asarray(request["tokens"], np.int32), options, stop.is_set, sink)
        except ServingError as error:
            sink(error)

    for line in sys.stdin:
        request = json.loads(line)
        if "end_ids" in request:
            engine.prompt = replace(engine.prompt, fixed_end_ids=frozenset(request["end_ids"]))
        elif "status" in request:
            send({"id": request["id"], "status": asdict(engine.status())})
        elif "cancel" not in request:
            answer(request)
        elif stop := cancelled.get(request["cancel"]):
            stop.set()
    os._exit(0)  # the parent is gone or has closed us: do not wait for answers that nobody reads


if __name__ == "__main__":
    main()
