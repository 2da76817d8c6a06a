"""Answers of the engine for an event loop: many at once, none of them holding a thread while it waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from anyio import to_thread
from starlette.types import Receive

from serving.engine.protocol import ChatEngine
from serving.engine.wire import Batch
from serving.errors import ServingError
from serving.text.prompt import Prompt
from serving.types import Chunk, EngineStatus, Message, SamplingOptions, TemplateOptions, TokenIds

Result = TypeVar("Result")


class AnswerEngine(ChatEngine, Protocol):
    """What the API needs of an engine: serving.engine.process.EngineProcess, or what a test puts in its place."""

    prompt: Prompt

    def tokens(
        self, messages: Sequence[Message], options: SamplingOptions, template: TemplateOptions | None = None
    ) -> tuple[TokenIds, int]:
        """The encoded prompt [n] of a conversation, and how many messages were left out so that it fits."""

    def start(self, token_ids: TokenIds, options: SamplingOptions, sink: Callable[[Batch], None]) -> Callable[[], None]:
        """Ask for an answer without waiting for it; what is returned cancels it."""

    def status(self) -> EngineStatus:
        """How busy it is. May take seconds."""


class Answers:
    """The answers of one request, by index.

    >>> async with Answers(engine, [(token_ids, options)]) as answers:
    ...     async for index, chunks in answers:
    ...         print(index, "".join(chunk.text for chunk in chunks))
    """

    def __init__(self, engine: AnswerEngine, wanted: Sequence[tuple[TokenIds, SamplingOptions]]) -> None:
        self._engine, self._wanted = engine, wanted
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[tuple[int, Batch]] = asyncio.Queue()
        self._cancels: dict[int, Callable[[], None]] = {}

    async def __aenter__(self) -> "Answers":
        try:
            await to_thread.run_sync(self._start)  # writing a long prompt to the engine may take a while
        except BaseException:
            await self._cancel()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._cancel()

    async def __aiter__(self) -> AsyncIterator[tuple[int, list[Chunk]]]:
        while self._cancels:
            yield await self.next()

    async def next(self) -> tuple[int, list[Chunk]]:
        """What comes next, of whichever answer. May be cancelled without a loss. Raises what the engine raises."""
        index, batch = await self._batches.get()
        if isinstance(batch, ServingError):
            del self._cancels[index]
            raise batch
        if batch[-1].finish_reason is not None:
            del self._cancels[index]
        return index, batch

    @property
    def running(self) -> bool:
        """Whether any answer has not ended."""
        return bool(self._cancels)

    def _start(self) -> None:
        for index, (token_ids, options) in enumerate(self._wanted):
            self._cancels[index] = self._engine.start(token_ids, options, self._sink(index))

    def _sink(self, index: int) -> Callable[[Batch], None]:
        def sink(batch: Batch) -> None:
            with suppress(RuntimeError):  # the server has closed its loop, and the engine comes next
                self._loop.call_soon_threadsafe(self._batches.put_nowait, (index, batch))

        return sink

    async def _cancel(self) -> None:
        """Tell the engine that nobody waits any more. A task being cancelled itself has no time to wait for that."""
        cancels = list(self._cancels.values())
        self._cancels.clear()
        if cancels:
            self._loop.run_in_executor(None, lambda: [cancel() for cancel in cancels])


async def while_there(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `work`, which is cancelled once the client has gone away: None then."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
