"""The HTTP API: OpenAI's endpoints and Anthropic's on this engine. Nothing of a request is logged or kept."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, TypeVar

from anyio import CapacityLimiter, Lock, sleep, to_thread
from pydantic_core import to_json
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
from serving.http.pace import Pace
from serving.http.problems import Problem
from serving.http.requests.chat import ChatRequest
from serving.http.requests.messages import CountTokensRequest, MessagesRequest
from serving.http.requests.responses import ResponsesRequest
from serving.http.requests.sampled import defaults_from
from serving.http.requests.text import CompletionRequest
from serving.http.requests.tokens import DetokenizeRequest, TokenizeRequest
from serving.http.requests.wire import Model, parse
from serving.http.shapes.chat import ChatShape
from serving.http.shapes.messages import MessagesShape
from serving.http.shapes.responses import ResponsesShape
from serving.http.shapes.shape import Event, Gathered, Json, Shape
from serving.http.shapes.text import TextShape
from serving.text.lane import Limits
from serving.text.process import TextProcess
from serving.text.prompt import Prompt
from serving.text.session import session_of, session_of_text
from serving.text.tools import CallFormat, Functions
from serving.text.turns import asking
from serving.types import Chunk, SamplingOptions, TokenIds

LARGE_BYTES = 128 << 10  # of a body: to parse less takes a few milliseconds
HEARTBEAT_SECONDS = 5.0  # without a sign of life, proxies and clients give up after 30 to 100
# An error that comes this soon still has a status of its own: after it the stream has begun.
GRACE_SECONDS = 1.0
STILL, LOADING = ": still at it\n\n", ": loading the model\n\n"  # comments, which clients pass over
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
        self._pace = Pace()
        self.started = int(time.time())
        generation = engine.folder.path / "generation_config.json"
        self.defaults = defaults_from(read_json(generation) if generation.is_file() else {})

    def routes(self) -> list[BaseRoute]:
        """What the API answers to."""
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/responses", self.responses, methods=["POST"]),
            Route("/v1/messages", self.messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", self.count_tokens, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
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
        token_ids, options, calls, session = await self._in_turn(self._conversation, wire)
        spelling = await self._in_turn(lambda: self.engine.prompt.spelling) if wire.logprobs else None
        each = wire.usage_in_each
        shape = ChatShape(self.name, 1, wire.include_usage, spelling, calls=calls, usage_in_each=each)
        wanted = _choices(token_ids, options, wire.n or 1)
        return Reply(self, wanted, shape, bool(wire.stream), session)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        wire = await self._read(request, CompletionRequest)
        self._check_places(len(wire.prompts()) * (wire.n or 1))
        options, prompt, window = wire.sampling(self.defaults), self.engine.prompt, self.engine.context_length
        if options.grammar:
            await self._in_turn(prompt.check, options.grammar)
        encoded = await self._in_turn(
            lambda: [
                prompt.raw_ids(text, window) if isinstance(text, str) else prompt.checked_ids(text, window)
                for text in wire.prompts()
            ]
        )
        spelling = await self._in_turn(lambda: prompt.spelling) if wire.logprobs is not None else None
        echoed = await self._in_turn(_texts, prompt, wire.prompts()) if wire.echo else None
        wanted = [each for ids in encoded for each in _choices(ids, options, wire.n or 1)]
        shape = TextShape(
            self.name, len(encoded), wire.include_usage, spelling, echoed=echoed, answers=wire.n or 1,
            usage_in_each=wire.usage_in_each,
        )  # fmt: skip
        return Reply(self, wanted, shape, bool(wire.stream), session_of_text(encoded[0]))

    async def responses(self, request: Request) -> Response:
        """POST /v1/responses."""
        wire = await self._read(request, ResponsesRequest)
        token_ids, options, calls, session = await self._in_turn(self._conversation, wire)
        shape = ResponsesShape(self.name, wire, options.temperature, options.top_p, calls)
        return Reply(self, [(token_ids, options)], shape, bool(wire.stream), session)

    async def messages(self, request: Request) -> Response:
        """POST /v1/messages."""
        wire = await self._read(request, MessagesRequest)
        token_ids, options, calls, session = await self._in_turn(self._conversation, wire)
        shape = MessagesShape(self.name, len(token_ids), calls, wire.hides_thinking)
        return Reply(self, [(token_ids, options)], shape, bool(wire.stream), session)

    async def count_tokens(self, request: Request) -> Response:
        """POST /v1/messages/count_tokens. A conversation that does not fit the window is an error that says so."""
        wire = await self._read(request, CountTokensRequest)
        template, window, prompt = wire.template(), self.engine.context_length, self.engine.prompt
        token_ids, _ = await self._in_turn(prompt.tokens, wire.conversation(), window, template)
        return JSONResponse({"input_tokens": len(token_ids)})

    async def tokenize(self, request: Request) -> Response:
        """POST /tokenize."""
        wire = await self._read(request, TokenizeRequest)
        prompt, text = self.engine.prompt, wire.text()
        if text is None:
            token_ids = await self._in_turn(prompt.conversation_ids, *wire.conversation())
        else:
            token_ids = await self._in_turn(prompt.text_ids, text, wire.special())
        tokens: list[Any] = token_ids.tolist()
        answer: Json = {"count": len(tokens), "max_model_len": self.engine.context_length, "tokens": tokens}
        if wire.with_pieces or wire.return_token_strs:
            pieces = await self._in_turn(prompt.pieces, tokens)
            if wire.return_token_strs:
                answer["token_strs"] = [piece if isinstance(piece, str) else "\ufffd" for piece in pieces]
            if wire.with_pieces:
                answer["tokens"] = [{"id": id, "piece": piece} for id, piece in zip(tokens, pieces, strict=True)]
        return JSONResponse(answer)

    async def detokenize(self, request: Request) -> Response:
        """POST /detokenize."""
        wire = await self._read(request, DetokenizeRequest)
        text = await self._in_turn(self.engine.prompt.decoded, wire.tokens)
        return JSONResponse({"prompt": text, "content": text})

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
        return JSONResponse(
            {"status": "ok", "model": self.name, "loaded": status.loaded, "context_length": window, "queue": queue}
        )

    async def text_metrics(self, _: Request) -> Response:
        """GET /metrics."""
        status = await to_thread.run_sync(self.engine.status)
        return Response(self.metrics.text(status), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._document, media_type="application/json")

    @cached_property
    def _document(self) -> bytes:
        return bytes(JSONResponse(document(version("oga-chat"), self.name)).body)

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
        await self._pace.turn(client_of(request.scope), request.is_disconnected)
        wire = await self._parsed(model, body)
        if (name := getattr(wire, "model", None)) is not None:
            self._check_model(name)
        return wire

    async def _parsed(self, model: type[Model], body: bytes) -> Model:
        """A request from its body. To parse a large one holds the interpreter's lock: one at a time, half the time."""
        if len(body) < LARGE_BYTES:
            return await to_thread.run_sync(parse, model, body)
        async with self._one_large:
            began = time.monotonic()
            try:
                return await to_thread.run_sync(parse, model, body)
            finally:
                await sleep(time.monotonic() - began)

    @cached_property
    def _one_large(self) -> Lock:
        return Lock()

    @cached_property
    def _writers(self) -> CapacityLimiter:
        # More threads than may wait for both lanes of the text process: who waits for one leaves some to the other.
        return CapacityLimiter(2 * max(Limits().waiting, self.engine.places) + 32)

    async def _in_turn(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of what may wait for the text processes, on threads that nothing else needs."""
        return await to_thread.run_sync(work, *arguments, limiter=self._writers)

    def _conversation(
        self, wire: ChatRequest | ResponsesRequest | MessagesRequest
    ) -> tuple[TokenIds, SamplingOptions, Calling, str]:
        """The encoded prompt [n], what holds its answer to the calls that it may make, and the session's name.

        On another thread.
        """
        calls, options, messages = wire.calls(), wire.sampling(self.defaults), wire.conversation()
        calling: Calling = None
        if calls.functions:
            form = self.engine.prompt.calls
            if form is None:
                raise Problem.invalid("how this model writes tool calls is not known here: leave tools out.", "tools")
            calling = form, {function.name: function.parameters for function in calls.functions}
            options = replace(options, grammar=calls.grammar(form, options.grammar))
        token_ids, _ = self.engine.tokens(messages, options, wire.template())
        return token_ids, options, calling, session_of(messages)

    def _check_places(self, answers: int) -> None:
        """Refuse what can never fit, before any of it is encoded."""
        places = min(self.engine.places, self.places.limit or answers)
        if answers > places:
            raise Problem.invalid(
                f"{answers} answers were asked for at once, and there are {places} places: ask for fewer, n for each "
                "prompt.",
                "n",
            )

    def _check_model(self, name: str) -> None:
        if name != self.name:
            raise Problem(404, f"there is no model {name!r} here, only {self.name!r}.", "model_not_found", "model")


class _Counted:
    """Counts the answers of one route by their status, and has it known who asks."""

    def __init__(self, app: ASGIApp, path: str, metrics: Metrics) -> None:
        self._app, self._path, self._metrics = app, path, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requested(self._path, message["status"])
            await send(message)

        asking.set(client_of(scope))
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
        session: str,
    ) -> None:
        self._engine, self._places = api.engine, api.places
        self._wanted, self._shape, self._stream, self._session = wanted, shape, stream, session
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
        lines.append(f"{name}data: {to_json(event).decode()}\n\n")
    return "".join(lines)
