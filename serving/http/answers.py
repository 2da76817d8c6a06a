"""Answers of the engine for an event loop: many at once, none of them holding a thread while it waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from anyio import to_thread
from starlette.types import Receive

from serving.engine.protocol import ChatEngine
from serving.engine.wire import Batch, Wanted, is_last
from serving.errors import ServingError
from serving.types import Chunk, EngineStatus, Message, SamplingOptions, TemplateOptions, TokenIds

Result = TypeVar("Result")


class AnswerEngine(ChatEngine, Protocol):
    """What the API needs of an engine: serving.engine.process.EngineProcess, or what a test puts in its place."""

    def tokens(
        self, messages: Sequence[Message], options: SamplingOptions, template: TemplateOptions | None = None
    ) -> tuple[TokenIds, int]:
        """The encoded prompt [n] of a conversation, and how many messages were left out so that it fits."""

    @property
    def places(self) -> int:
        """Answers that can be under way at once, those that wait included."""

    def start(
        self, wanted: Wanted, sink: Callable[[int, Batch], None], client: str = "", session: str = ""
    ) -> Callable[[], None]:
        """Ask for a client's answers, all of them or none, without waiting for them; what is returned cancels them.

        session: which conversation they continue, by a name of any kind.
        """

    def status(self) -> EngineStatus:
        """How busy it is."""


class Answers:
    """The answers of one request, by index.

    >>> async with Answers(engine, [(token_ids, options)]) as answers:
    ...     async for index, chunks in answers:
    ...         print(index, "".join(chunk.text for chunk in chunks))
    """

    def __init__(self, engine: AnswerEngine, wanted: Wanted, client: str = "", session: str = "") -> None:
        self._engine, self._wanted, self._client, self._session = engine, wanted, client, session
        self._loop = asyncio.get_running_loop()
        self._batches: asyncio.Queue[tuple[int, Batch]] = asyncio.Queue()
        self._running = set(range(len(wanted)))
        self._cancel: Callable[[], None] | None = None

    async def __aenter__(self) -> "Answers":
        try:
            await to_thread.run_sync(self._start)  # encoding long prompts for the engine may take a while
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    async def __aiter__(self) -> AsyncIterator[tuple[int, list[Chunk]]]:
        while self._running:
            yield await self.next()

    async def next(self) -> tuple[int, list[Chunk]]:
        """What comes next, of whichever answer. May be cancelled without a loss. Raises what the engine raises."""
        index, batch = await self._batches.get()
        if is_last(batch):
            self._running.discard(index)
        if isinstance(batch, ServingError):
            raise batch
        return index, batch

    @property
    def running(self) -> bool:
        """Whether any answer has not ended."""
        return bool(self._running)

    def _start(self) -> None:
        self._cancel = self._engine.start(self._wanted, self._sink, self._client, self._session)

    def _sink(self, index: int, batch: Batch) -> None:
        with suppress(RuntimeError):  # the server has closed its loop, and the engine comes next
            self._loop.call_soon_threadsafe(self._batches.put_nowait, (index, batch))

    def _leave(self) -> None:
        """Tell the engine that nobody waits any more."""
        if self._running and self._cancel:
            self._cancel()


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
