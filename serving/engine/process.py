"""The engine in a process of its own.

OGA's Python binding holds the interpreter's lock during every forward pass. In one process with a web server, a page
would stand still for as long as a chunk of prefill takes, which is seconds for a large model. A crash, or a kill
because memory ran out, ends this process only; the next request starts a new one.

Requests go to the child's stdin and chunks come back on its stdout, one JSON line each. The child ends itself when its
stdin closes.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from serving.engine.wire import Batch, Line, Sink, content_of, error_of, is_last
from serving.errors import EngineStopped, ServingError
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import (
    Cancelled,
    Chunk,
    EngineSettings,
    EngineStatus,
    Message,
    Policy,
    SamplingOptions,
    TemplateOptions,
    TokenIds,
    never,
)

STATUS_SECONDS = 10.0  # a forward pass of a large model, during which nothing else can reply, is shorter
_POLL_SECONDS = 0.1  # how often `cancelled` is asked while no chunk comes
_IMPORT_ROOT = Path(__file__).parent.parent.parent  # where `serving` is found, whatever the caller's working directory


class EngineProcess:
    """What Engine is to its callers, with the model in a child process. Safe to use from any number of threads."""

    def __init__(
        self, setup: Line, folder: ModelFolder, prompt: Prompt, watch: Callable[[Sink], Sink] | None = None
    ) -> None:
        self.folder = folder
        self.prompt = prompt
        self._setup = setup
        self._watch = watch
        self._overflow: Policy = setup["settings"]["overflow"]
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        self._child = _Child(setup)

    @classmethod
    def load(
        cls, path: Path | str, settings: EngineSettings | None = None, watch: Callable[[Sink], Sink] | None = None
    ) -> "EngineProcess":
        """Start the process and load a model folder in it. Raises what Engine.load raises.

        watch: is given what takes an answer's chunks, and returns what shall take them in its place.
        """
        folder = ModelFolder.open(Path(path).resolve())  # the child has another working directory
        setup = {"path": str(folder.path), "settings": asdict(settings or EngineSettings())}
        return cls(setup, folder, Prompt.load(folder.path), watch)

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""
        return self._child.context_length

    @property
    def notes(self) -> tuple[str, ...]:
        """What the device does otherwise than asked for, or cannot do; a sentence each."""
        return self._child.notes

    def warm_up(self) -> None:
        """Do now what the first request would wait for: import the renderer of chat templates."""
        self.prompt.end_ids  # noqa: B018

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
        template: TemplateOptions | None = None,
    ) -> Iterator[Chunk]:
        """Stream the assistant's answer, as Engine.generate does. Raises EngineStopped if the process ends."""
        options = options or SamplingOptions()
        token_ids, dropped = self.tokens(messages, options, template)
        return self._stream(token_ids, options, dropped, cancelled)

    def tokens(
        self, messages: Sequence[Message], options: SamplingOptions, template: TemplateOptions | None = None
    ) -> tuple[TokenIds, int]:
        """The encoded prompt [n] of a conversation, and how many messages were left out so that it fits.

        Raises InvalidRequest, ContextOverflow.
        """
        return self.prompt.tokens(
            messages, self.context_length, template or TemplateOptions(), self._overflow, options.max_tokens
        )

    def start(self, token_ids: TokenIds, options: SamplingOptions, sink: Sink) -> Callable[[], None]:
        """Ask for the answer to an encoded prompt [n] without waiting for it; what is returned cancels it.

        `sink` gets every chunk, in order and a few at a time; last comes one with a finish reason, or an error. It is
        called on another thread and must not block. Raises EngineStopped for a closed engine.
        """
        number, child = next(self._numbers), self._living()
        sink = self._watch(sink) if self._watch else sink
        child.send({"id": number, "tokens": token_ids.tolist(), "options": asdict(options)}, sink)
        return lambda: child.send({"cancel": number})

    def status(self) -> EngineStatus:
        """How busy it is. Raises EngineStopped where no reply comes within STATUS_SECONDS."""
        number, child = next(self._numbers), self._living()
        replies: SimpleQueue[EngineStatus | ServingError] = SimpleQueue()
        child.send({"status": True, "id": number}, replies.put)
        try:
            reply = replies.get(timeout=STATUS_SECONDS)
        except Empty:
            raise EngineStopped(f"the engine has not replied for {STATUS_SECONDS:g} s.") from None
        if isinstance(reply, ServingError):
            raise reply
        return reply

    def close(self) -> None:
        """End the process. Answers still being made end with EngineStopped."""
        with self._lock:
            self._closed = True
            self._child.close()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(
        self, token_ids: TokenIds, options: SamplingOptions, dropped: int, cancelled: Cancelled
    ) -> Iterator[Chunk]:
        batches: SimpleQueue[Batch] = SimpleQueue()
        cancel = self.start(token_ids, options, batches.put)
        ended = told = False
        try:
            while not ended:
                if not told and cancelled():
                    told = True
                    cancel()
                try:
                    batch = batches.get(timeout=_POLL_SECONDS)
                except Empty:
                    continue
                ended = is_last(batch)
                if isinstance(batch, ServingError):
                    raise batch
                for chunk in batch:
                    yield replace(chunk, dropped_messages=dropped) if dropped else chunk
        finally:
            if not ended and not told:
                cancel()

    def _living(self) -> "_Child":
        with self._lock:
            if self._closed:
                raise EngineStopped("the engine is closed.")
            if self._child.ended:
                self._child.close()
                self._child = _Child(self._setup)
            if not self._child.told:  # it renders nothing, and so cannot find them itself
                self._child.send({"end_ids": sorted(self.prompt.end_ids)})
                self._child.told = True
            return self._child


class _Child:
    """One child process, from its start to its end, and the sinks of the answers it is making."""

    def __init__(self, setup: Line) -> None:
        self.ended = self.told = False
        self._sinks: dict[int, Callable[[Any], None]] = {}
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.engine.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=_IMPORT_ROOT,
            # numpy multiplies no matrices there, and starting threads for that takes time and memory.
            env={"OPENBLAS_NUM_THREADS": "1"} | os.environ,
        )  # fmt: skip
        self.send(setup)
        self._reader = threading.Thread(target=self._read, name="engine replies", daemon=True)
        assert self._process.stdout
        first = json.loads(self._process.stdout.readline() or "{}")
        self._reader.start()
        if "context_length" not in first:
            obituary = self._obituary()
            self.close()
            raise error_of(first) if first else EngineStopped(obituary)
        self.context_length = int(first["context_length"])
        self.notes = tuple(first["notes"])

    def send(self, line: Line, sink: Callable[[Any], None] | None = None) -> None:
        """Write one line; `sink` gets the answer. A process that has ended answers with EngineStopped."""
        assert self._process.stdin
        with self._lock:
            if sink is not None:
                self._sinks[line["id"]] = sink
            try:
                self._process.stdin.write(json.dumps(line) + "\n")
                self._process.stdin.flush()
            except (OSError, ValueError):
                self.ended = True
                if sink is not None:
                    del self._sinks[line["id"]]
                    sink(EngineStopped(self._obituary()))

    def close(self) -> None:
        """End the process and wait for it."""
        self.ended = True
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin and self._process.stdout
        self._process.stdout.close()
        with suppress(BrokenPipeError):  # a line that the process did not live to read
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            reply = json.loads(line)
            sink = self._sinks.get(reply["id"])
            if sink is not None:
                content = content_of(reply)
                if is_last(content):
                    with self._lock:
                        self._sinks.pop(reply["id"], None)
                sink(content)
        with self._lock:
            self.ended = True
            left = list(self._sinks.values())
            self._sinks.clear()
        for sink in left:
            sink(EngineStopped(self._obituary()))

    def _obituary(self) -> str:
        code = self._process.wait()
        why = "was killed, most likely because memory ran out" if code == -9 else f"ended with exit code {code}"
        return f"the engine process {why}; the next message starts it again."
