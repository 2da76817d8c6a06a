"""The HTTP API: OpenAI's endpoints on this engine. Nothing of a request is logged or kept."""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from typing import Any, ClassVar, Protocol

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from serving.answers import AnswerEngine, Answers, while_there
from serving.metrics import CONTENT_TYPE, Metrics
from serving.openai import ChatRequest, CompletionRequest, Model, defaults_from, parse
from serving.prefix import TokenIds
from serving.problems import Problem
from serving.prompt import Prompt, read_json
from serving.types import Chunk, Kind, SamplingOptions

HEARTBEAT_SECONDS = 5.0  # without a sign of life, proxies and clients give up after 30 to 100
# An error that comes this soon still has a status of its own: after it the stream has begun.
GRACE_SECONDS = 1.0
# Proxies are told not to hold the stream back, nor to compress it.
STREAM_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}

Json = dict[str, Any]
Event = Json | str  # what an event of a stream carries


class Shape(Protocol):
    """How one endpoint writes answers."""

    def begin(self) -> list[Event]:
        """The events before anything is there."""

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """The events of what is new in an answer."""

    def end(self, answers: "Sequence[Gathered]") -> list[Event]:
        """The events after the last piece."""

    def whole(self, answers: "Sequence[Gathered]") -> Json:
        """The body, where nothing is streamed."""


@dataclass(slots=True)
class Gathered:
    """What there is of one answer."""

    text: str = ""
    texts: dict[Kind, str] = field(default_factory=lambda: {"answer": "", "reasoning": ""})  # the same, apart
    chunks: list[Chunk] = field(default_factory=list)  # those with a token
    reasoning_tokens: int = 0
    last: Chunk | None = None

    def add(self, chunks: Sequence[Chunk], keep_tokens: bool) -> None:
        """Take what is new."""
        for chunk in chunks:
            self.text += chunk.text
            self.texts[chunk.kind] += chunk.text
            if chunk.token_id is not None:
                self.reasoning_tokens += chunk.kind == "reasoning"
                if keep_tokens:
                    self.chunks.append(chunk)
        self.last = chunks[-1]


class Places:
    """How many answers each client has or waits for, of `limit` at most; None lets everybody have all."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, client: str, places: int) -> Iterator[None]:
        """Places for as long as the answers take. Raises Problem where the client has too many."""
        if self.limit is not None and self._taken[client] + places > self.limit:
            message = (
                f"one client may have {self.limit} answers at a time, those that wait included: wait for one to end."
            )
            raise Problem(429, message, "rate_limit_exceeded", headers={"retry-after": "1"})
        self._taken[client] += places
        try:
            yield
        finally:
            self._taken[client] -= places
            self._taken += Counter()  # drops those who have none


class Api:
    """The endpoints of one engine.

    name: the model's, as clients ask for it. client_limit: answers that one client may have at a time; None for all.
    metrics: those that watch the engine.
    """

    def __init__(
        self, engine: AnswerEngine, name: str, client_limit: int | None = None, metrics: Metrics | None = None
    ) -> None:
        self.engine, self.name = engine, name
        self.metrics = metrics or Metrics()
        self.places = Places(client_limit)
        self.started = int(time.time())
        generation = engine.folder.path / "generation_config.json"
        self.defaults = defaults_from(read_json(generation) if generation.is_file() else {})

    def routes(self) -> list[BaseRoute]:
        """What the API answers to."""
        routes = [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{model:path}", self.model, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.text_metrics, methods=["GET"]),
        ]
        for route in routes:
            route.app = _Counted(route.app, route.path, self.metrics)
        return list(routes)

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        wire = await self._read(request, ChatRequest)
        options = wire.sampling(self.defaults)
        token_ids, _ = await to_thread.run_sync(
            lambda: self.engine.tokens(wire.conversation(), options, wire.template())
        )
        shape = ChatShape(self.name, self.engine.prompt, 1, wire.include_usage, bool(wire.logprobs))
        return Reply(self, _choices(token_ids, options, wire.n or 1), shape, bool(wire.stream))

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        wire = await self._read(request, CompletionRequest)
        options, prompt, window = wire.sampling(self.defaults), self.engine.prompt, self.engine.context_length
        encoded = await to_thread.run_sync(
            lambda: [
                prompt.raw_ids(text, window) if isinstance(text, str) else prompt.checked_ids(text, window)
                for text in wire.prompts()
            ]
        )
        wanted = [each for ids in encoded for each in _choices(ids, options, wire.n or 1)]
        shape = TextShape(self.name, prompt, len(encoded), wire.include_usage, wire.logprobs is not None)
        return Reply(self, wanted, shape, bool(wire.stream))

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


class Reply(Response):
    """The answers to one request, streamed or whole. A client that goes away ends them."""

    def __init__(
        self,
        api: Api,
        wanted: Sequence[tuple[TokenIds, SamplingOptions]],
        shape: Shape,
        stream: bool,
    ) -> None:
        self._engine, self._places, self._wanted, self._shape, self._stream = (
            api.engine,
            api.places,
            wanted,
            shape,
            stream,
        )
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        with self._places.taken(scope.get("state", {}).get("client", ""), len(self._wanted)):
            await while_there(receive, self._streamed(send) if self._stream else self._whole(scope, receive, send))

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        gathered = [Gathered() for _ in self._wanted]
        async with Answers(self._engine, self._wanted) as answers:
            async for index, chunks in answers:
                gathered[index].add(chunks, keep_tokens=True)
        await JSONResponse(self._shape.whole(gathered))(scope, receive, send)

    async def _streamed(self, send: Send) -> None:
        async def write(text: str) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        gathered = [Gathered() for _ in self._wanted]
        async with Answers(self._engine, self._wanted) as answers:
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
                await write(_lines([Problem.of(error).body]))
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
    """Server-sent events; JSON has no line breaks that could end one early."""
    return "".join(
        f"data: {event if isinstance(event, str) else json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n"
        for event in events
    )


def _usage(answers: Sequence[Gathered], prompts: int) -> Json:
    """Token counts. A prompt that has several answers counts once."""
    each = len(answers) // prompts
    lasts = [answer.last for answer in answers if answer.last]
    prompt = sum(last.prompt_tokens for last in lasts[::each])
    completion = sum(last.completion_tokens for last in lasts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(last.cached_tokens for last in lasts[::each])},
        "completion_tokens_details": {"reasoning_tokens": sum(answer.reasoning_tokens for answer in answers)},
    }


def _finish(last: Chunk | None) -> str | None:
    reason = last.finish_reason if last else None
    return "stop" if reason == "cancelled" else reason


@dataclass(slots=True)
class _Endpoint:
    """What the two completion endpoints have in common."""

    model: str
    prompt: Prompt
    prompts: int
    include_usage: bool
    logprobs: bool
    prefix: ClassVar[str]
    stream_object: ClassVar[str]
    object: ClassVar[str]
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{self.prefix}-{secrets.token_hex(12)}"

    def begin(self) -> list[Event]:
        """Nothing: the first event is the first token."""
        return []

    def end(self, answers: Sequence[Gathered]) -> list[Event]:
        """The usage, if it was asked for, and the end."""
        usage: list[Event] = []
        if self.include_usage:
            usage = [{**self._head(self.stream_object), "choices": [], "usage": _usage(answers, self.prompts)}]
        return [*usage, "[DONE]"]

    def whole(self, answers: Sequence[Gathered]) -> Json:
        """The body."""
        choices = [self.choice(index, answer) for index, answer in enumerate(answers)]
        return {**self._head(self.object), "choices": choices, "usage": _usage(answers, self.prompts)}

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        raise NotImplementedError

    def _event(self, choice: Json) -> Json:
        return {
            **self._head(self.stream_object),
            "choices": [choice],
            **({"usage": None} if self.include_usage else {}),
        }

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _token(self, token: int) -> str:
        return str(self.prompt.tokenizer.decode([token], skip_special_tokens=False))

    def _tokens(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks whose tokens are part of the text: the end of the turn is not."""
        if not self.logprobs:
            return []
        return [c for c in chunks if c.token_id is not None and c.token_id not in self.prompt.end_ids]


@dataclass(slots=True)
class ChatShape(_Endpoint):
    """/v1/chat/completions."""

    prefix = "chatcmpl"
    stream_object = "chat.completion.chunk"
    object = "chat.completion"
    begun: set[int] = field(default_factory=set)

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """A delta for each stretch of reasoning or answer; then one with the reason why it ended."""
        stretches = [(kind, "".join(c.text for c in group)) for kind, group in groupby(chunks, key=lambda c: c.kind)]
        deltas: list[Json] = [{_FIELDS[kind]: text} for kind, text in stretches if text]
        finish, logprobs = _finish(chunks[-1]), self._logprobs(chunks)
        if not deltas and ((finish and index not in self.begun) or logprobs):
            deltas = [{"content": ""}]
        if deltas and index not in self.begun:
            self.begun.add(index)
            deltas[0] = {"role": "assistant", **deltas[0]}
        events: list[Json] = [
            {"index": index, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas
        ]
        if logprobs:
            events[0]["logprobs"] = logprobs
        if finish:
            events.append({"index": index, "delta": {}, "logprobs": None, "finish_reason": finish})
        return [self._event(event) for event in events]

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        reasoning = {"reasoning_content": answer.texts["reasoning"]} if answer.texts["reasoning"] else {}
        message = {"role": "assistant", "content": answer.texts["answer"], **reasoning, "refusal": None}
        logprobs = (self._logprobs(answer.chunks) or {"content": [], "refusal": None}) if self.logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": _finish(answer.last)}

    def _logprobs(self, chunks: Sequence[Chunk]) -> Json | None:
        content = [
            {
                **self._scored(chunk.token_id, chunk.logprob),
                "top_logprobs": [self._scored(token, logprob) for token, logprob in chunk.top],
            }
            for chunk in self._tokens(chunks)
            if chunk.token_id is not None and chunk.logprob is not None
        ]
        return {"content": content, "refusal": None} if content else None

    def _scored(self, token: int, logprob: float) -> Json:
        text = self._token(token)
        # A token that is a piece of a character has bytes of its own, which no text can show.
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}


@dataclass(slots=True)
class TextShape(_Endpoint):
    """/v1/completions. Reasoning and answer are one text there."""

    prefix = "cmpl"
    stream_object = "text_completion"
    object = "text_completion"
    shown: dict[int, int] = field(default_factory=dict)

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """The new text, and the reason why it ended."""
        text, finish = "".join(chunk.text for chunk in chunks), _finish(chunks[-1])
        logprobs = self._logprobs(chunks, self.shown.get(index, 0))
        self.shown[index] = self.shown.get(index, 0) + len(text)
        if not (text or finish or logprobs):
            return []
        return [self._event({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})]

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        logprobs = self._logprobs(answer.chunks, 0) if self.logprobs else None
        return {"index": index, "text": answer.text, "logprobs": logprobs, "finish_reason": _finish(answer.last)}

    def _logprobs(self, chunks: Sequence[Chunk], offset: int) -> Json | None:
        scored = self._tokens(chunks)
        if not scored:
            return None
        texts = [self._token(chunk.token_id) for chunk in scored if chunk.token_id is not None]
        offsets = list(accumulate((len(text) for text in texts), initial=offset))[:-1]
        top = [{self._token(token): logprob for token, logprob in chunk.top} for chunk in scored]
        return {
            "tokens": texts,
            "token_logprobs": [chunk.logprob for chunk in scored],
            "top_logprobs": top if any(top) else None,
            "text_offset": offsets,
        }


_FIELDS: dict[Kind, str] = {"answer": "content", "reasoning": "reasoning_content"}
