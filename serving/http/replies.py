"""Replies of the API: an answer as a stream of events with signs of life, or whole."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence

from anyio import to_thread
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.http.access import Places, client_of
from serving.http.answers import AnswerEngine, Answers, while_there
from serving.http.problems import Problem
from serving.http.shapes.shape import Event, Gathered, Shape
from serving.types import Chunk, SamplingOptions, TokenIds

HEARTBEAT_SECONDS = 5.0  # without a sign of life, proxies and clients give up after 30 to 100
# An error that comes this soon still has a status of its own: after it the stream has begun.
GRACE_SECONDS = 1.0
STILL, LOADING = ": still at it\n\n", ": loading the model\n\n"  # comments, which clients pass over
# Proxies are told not to hold the stream back, nor to compress it.
STREAM_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
PADDED_BYTES = 256  # of an event, or a multiple of them: most tokens have a few


class Reply(Response):
    """The answers to one request, streamed or whole. A client that goes away ends them."""

    def __init__(
        self,
        engine: AnswerEngine,
        places: Places,
        wanted: Sequence[tuple[TokenIds, SamplingOptions]],
        shape: Shape,
        stream: bool,
        session: str,
        padded: bool = False,
    ) -> None:
        self._engine, self._places = engine, places
        self._wanted, self._shape, self._stream, self._session = wanted, shape, stream, session
        self._padded = padded
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        client = client_of(scope)
        answers = Answers(self._engine, self._wanted, client, self._session)
        with self._places.taken(client, len(self._wanted)):
            work = self._streamed(answers, send) if self._stream else self._whole(answers, scope, receive, send)
            await while_there(receive, work)

    async def _whole(self, answers: Answers, scope: Scope, receive: Receive, send: Send) -> None:
        gathered = [Gathered() for _ in self._wanted]
        async with answers:
            async for index, chunks in answers:
                gathered[index].add(chunks, keep_tokens=True)
        body = await to_thread.run_sync(self._written, gathered)
        await Response(body, media_type="application/json")(scope, receive, send)

    def _written(self, gathered: Sequence[Gathered]) -> bytes:
        """The body. With logprobs it may have megabytes, which would hold up the loop."""
        return to_json(self._shape.whole(gathered))

    async def _streamed(self, answers: Answers, send: Send) -> None:
        async def write(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        gathered = [Gathered() for _ in self._wanted]
        async with answers:
            first = await _within(GRACE_SECONDS, answers)
            headers = {"content-type": "text/event-stream; charset=utf-8", **STREAM_HEADERS}
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
            if events := self._shape.begin():
                await write(_lines(events))
            doing = STILL
            try:
                async for batch in _beating(first, answers):
                    if batch is None:
                        await write(doing)
                        continue
                    index, chunks = batch
                    doing = LOADING if chunks[-1].loading else STILL
                    if chunks[-1].loading:
                        await write(doing)
                    gathered[index].add(chunks, keep_tokens=False)
                    if events := self._shape.piece(index, chunks):
                        await write(_lines(map(_padded, events) if self._padded else events))
                await write(_lines(self._shape.end(gathered)))
            except Exception as error:
                await write(_lines(self._shape.failed(Problem.of(error))))
            await send({"type": "http.response.body", "body": b""})


async def _within(seconds: float, answers: Answers) -> tuple[int, list[Chunk]] | None:
    """What comes next, or None if nothing does for so long."""
    try:
        async with asyncio.timeout(seconds):
            return await answers.next()
    except TimeoutError:
        return None


async def _beating(
    first: tuple[int, list[Chunk]] | None, answers: Answers
) -> AsyncIterator[tuple[int, list[Chunk]] | None]:
    """Everything that comes, and None where it is silent or only reads for HEARTBEAT_SECONDS."""
    last_sign = time.monotonic()
    batch = first
    while True:
        if batch is not None and _shows(batch[1]):
            last_sign = time.monotonic()
        if batch is not None:
            yield batch
        if time.monotonic() - last_sign >= HEARTBEAT_SECONDS:
            last_sign = time.monotonic()
            yield None
        if not answers.running:
            return
        batch = await _within(max(0.01, last_sign + HEARTBEAT_SECONDS - time.monotonic()), answers)


def _shows(chunks: Sequence[Chunk]) -> bool:
    return any(chunk.text or chunk.finish_reason for chunk in chunks)


def _padded(event: Event) -> Event:
    """An event of as many bytes as a few kinds of text would take, if it carries any."""
    if isinstance(event, str) or not ("choices" in event or str(event.get("type")).endswith("delta")):
        return event
    missing = -len(to_json({**event, "obfuscation": ""})) % PADDED_BYTES
    return {**event, "obfuscation": secrets.token_hex(missing)[:missing]}


def _lines(events: Iterable[Event]) -> str:
    """Server-sent events, with their name where they have a type. JSON has no line breaks that could end one early."""
    lines = []
    for event in events:
        if isinstance(event, str):
            lines.append(f"data: {event}\n\n")
            continue
        name = f"event: {event['type']}\n" if "type" in event else ""
        lines.append(f"{name}data: {to_json(event).decode()}\n\n")
    return "".join(lines)
