"""The HTTP API: OpenAI's endpoints on this engine. Nothing of a request is logged or kept."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from serving.folder import read_json
from serving.http.access import Places, client_of
from serving.http.answers import AnswerEngine, Answers, while_there
from serving.http.document import document
from serving.http.metrics import CONTENT_TYPE, Metrics
from serving.http.problems import Problem
from serving.http.requests.chat import ChatRequest
from serving.http.requests.responses import ResponsesRequest
from serving.http.requests.sampled import defaults_from
from serving.http.requests.text import CompletionRequest
from serving.http.requests.wire import Model, parse
from serving.http.shapes.chat import ChatShape
from serving.http.shapes.responses import ResponsesShape
from serving.http.shapes.shape import Event, Gathered, Json, Shape
from serving.http.shapes.text import TextShape
from serving.text.lane import Limits
from serving.text.process import TextProcess
from serving.text.prompt import Prompt
from serving.text.tools import CallFormat, Functions
from serving.types import Chunk, SamplingOptions, TokenIds

HEARTBEAT_SECONDS = 5.0  # without a sign of life, proxies and clients give up after 30 to 100
# An error that comes this soon still has a status of its own: after it the stream has begun.
GRACE_SECONDS = 1.0
# How calls are written, and whom an answer may call; None for no calls.
Calling = tuple[CallFormat, Functions] | None
Result = TypeVar("Result")
# Proxies are told not to hold the stream back, nor to compress it.
STREAM_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}


class Api:
    """The endpoints of one engine.

    name: the model's, as clients ask for it. places: of its clients. metrics: those that watch the engine.
    """

    def __init__(
        self, engine: AnswerEngine, name: str, places: Places | None = None, metrics: Metrics | None = None
    ) -> None:
        self.engine, self.name = engine, name
        self.metrics = metrics or Metrics()
        self.places = places or Places()
        self.started = int(time.time())
        generation = engine.folder.path / "generation_config.json"
        self.defaults = defaults_from(read_json(generation) if generation.is_file() else {})

    def routes(self) -> list[BaseRoute]:
        """What the API answers to."""
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/responses", self.responses, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{model:path}", self.model, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.text_metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]
        for route in routes:
            route.app = _Counted(route.app, route.path, self.metrics)
        return list(routes)

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        wire = await self._read(request, ChatRequest)
        self._check_places(wire.n or 1)
        token_ids, options, calls = await self._in_turn(self._conversation, wire)
        spelling = await self._in_turn(lambda: self.engine.prompt.spelling) if wire.logprobs else None
        shape = ChatShape(self.name, 1, wire.include_usage, spelling, calls=calls)
        return Reply(self, _choices(token_ids, options, wire.n or 1), shape, bool(wire.stream))

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        wire = await self._read(request, CompletionRequest)
        self._check_places(len(wire.prompts()) * (wire.n or 1))
        options, prompt, window = wire.sampling(self.defaults), self.engine.prompt, self.engine.context_length
        encoded = await self._in_turn(
            lambda: [
                prompt.raw_ids(text, window) if isinstance(text, str) else prompt.checked_ids(text, window)
                for text in wire.prompts()
            ]
        )
        spelling = await self._in_turn(lambda: prompt.spelling) if wire.logprobs is not None else None
        echoed = await self._in_turn(_texts, prompt, wire.prompts()) if wire.echo else None
        wanted = [each for ids in encoded for each in _choices(ids, options, wire.n or 1)]
        shape = TextShape(self.name, len(encoded), wire.include_usage, spelling, echoed=echoed, answers=wire.n or 1)
        return Reply(self, wanted, shape, bool(wire.stream))

    async def responses(self, request: Request) -> Response:
        """POST /v1/responses."""
        wire = await self._read(request, ResponsesRequest)
        token_ids, options, calls = await self._in_turn(self._conversation, wire)
        shape = ResponsesShape(self.name, wire, options.temperature, options.top_p, calls)
        return Reply(self, [(token_ids, options)], shape, bool(wire.stream))

    async def models(self, _: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/NAME."""
        self._check_model(request.path_params["model"])
        return JSONResponse(self._model())

    async def health(self, _: Request) -> Response:
        """GET /health: alive, ready, and how busy. 503 where the engine does not reply."""
        status = await to_thread.run_sync(self.engine.status)
        queue = {"running": status.running, "waiting": status.waiting}
        window = self.engine.context_length
        return JSONResponse({"status": "ok", "model": self.name, "context_length": window, "queue": queue})

    async def text_metrics(self, _: Request) -> Response:
        """GET /metrics."""
        status = await to_thread.run_sync(self.engine.status)
        return Response(self.metrics.text(status), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(document(version("oga-chat"), self.name))

    def _model(self) -> Json:
        return {
            "id": self.name,
            "object": "model",
            "created": self.started,
            "owned_by": "oga-chat",
            "max_model_len": self.engine.context_length,
        }

    async def _read(self, request: Request, model: type[Model]) -> Model:
        body = await request.body()
        wire = await to_thread.run_sync(parse, model, body)
        self._check_model(getattr(wire, "model", None))
        return wire

    @cached_property
    def _writers(self) -> CapacityLimiter:
        # More threads than may wait for both lanes of the text process: who waits for one leaves some to the other.
        return CapacityLimiter(2 * max(Limits().waiting, self.engine.places) + 32)

    async def _in_turn(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of what may wait for the text processes, on threads that nothing else needs."""
        return await to_thread.run_sync(work, *arguments, limiter=self._writers)

    def _conversation(self, wire: ChatRequest | ResponsesRequest) -> tuple[TokenIds, SamplingOptions, Calling]:
        """The encoded prompt [n], and what holds its answer to the calls that it may make. On another thread."""
        calls, options = wire.calls(), wire.sampling(self.defaults)
        calling: Calling = None
        if calls.functions:
            form = self.engine.prompt.calls
            if form is None:
                raise Problem.invalid("how this model writes tool calls is not known here: leave tools out.", "tools")
            calling = form, {function.name: function.parameters for function in calls.functions}
            options = replace(options, grammar=calls.grammar(form, options.grammar))
        token_ids, _ = self.engine.tokens(wire.conversation(), options, wire.template())
        return token_ids, options, calling

    def _check_places(self, answers: int) -> None:
        """Refuse what can never fit, before any of it is encoded."""
        places = min(self.engine.places, self.places.limit or answers)
        if answers > places:
            raise Problem.invalid(
                f"{answers} answers were asked for at once, and there are {places} places: ask for fewer, n for each "
                "prompt.",
                "n",
            )

    def _check_model(self, name: str | None) -> None:
        if name != self.name:
            raise Problem(404, f"there is no model {name!r} here, only {self.name!r}.", "model_not_found", "model")


class _Counted:
    """Counts the answers of one route by their status."""

    def __init__(self, app: ASGIApp, path: str, metrics: Metrics) -> None:
        self._app, self._path, self._metrics = app, path, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requested(self._path, message["status"])
            await send(message)

        await self._app(scope, receive, counting)


def _choices(token_ids: TokenIds, options: SamplingOptions, n: int) -> list[tuple[TokenIds, SamplingOptions]]:
    """n answers to one prompt: they differ by their seed."""
    seed = options.seed
    return [(token_ids, options if seed is None else replace(options, seed=seed + i)) for i in range(n)]


def _texts(writer: TextProcess | Prompt, prompts: Sequence[str | list[int]]) -> list[str]:
    """What each prompt says."""
    return [prompt if isinstance(prompt, str) else writer.decoded(prompt) for prompt in prompts]


class Reply(Response):
    """The answers to one request, streamed or whole. A client that goes away ends them."""

    def __init__(
        self,
        api: Api,
        wanted: Sequence[tuple[TokenIds, SamplingOptions]],
        shape: Shape,
        stream: bool,
    ) -> None:
        self._engine, self._places = api.engine, api.places
        self._wanted, self._shape, self._stream = wanted, shape, stream
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        client = client_of(scope)
        answers = Answers(self._engine, self._wanted, client)
        with self._places.taken(client, len(self._wanted)):
            work = self._streamed(answers, send) if self._stream else self._whole(answers, scope, receive, send)
            await while_there(receive, work)

    async def _whole(self, answers: Answers, scope: Scope, receive: Receive, send: Send) -> None:
        gathered = [Gathered() for _ in self._wanted]
        async with answers:
            async for index, chunks in answers:
                gathered[index].add(chunks, keep_tokens=True)
        await JSONResponse(self._shape.whole(gathered))(scope, receive, send)

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
            try:
                async for batch in _beating(first, answers):
                    if batch is None:
                        await write(": still at it\n\n")
                        continue
                    index, chunks = batch
                    gathered[index].add(chunks, keep_tokens=False)
                    if events := self._shape.piece(index, chunks):
                        await write(_lines(events))
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


def _lines(events: Sequence[Event]) -> str:
    """Server-sent events, with their name where they have a type. JSON has no line breaks that could end one early."""
    lines = []
    for event in events:
        if isinstance(event, str):
            lines.append(f"data: {event}\n\n")
            continue
        name = f"event: {event['type']}\n" if "type" in event else ""
        lines.append(f"{name}data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n")
    return "".join(lines)
