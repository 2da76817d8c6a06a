"""The HTTP API: OpenAI's endpoints and Anthropic's, on one model or several. Nothing of a request is logged or kept."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, TypeVar

from anyio import CapacityLimiter, Lock, sleep, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from serving.http.access import Places, client_of
from serving.http.answers import AnswerEngine
from serving.http.document import document
from serving.http.metrics import CONTENT_TYPE, Metrics
from serving.http.pace import Pace
from serving.http.problems import Problem
from serving.http.replies import Reply
from serving.http.requests.chat import ChatRequest
from serving.http.requests.messages import CountTokensRequest, MessagesRequest
from serving.http.requests.responses import ResponsesRequest
from serving.http.requests.text import CompletionRequest
from serving.http.requests.tokens import DetokenizeRequest, TokenizeRequest
from serving.http.requests.wire import Model, parse
from serving.http.served import Served, together
from serving.http.shapes.chat import ChatShape
from serving.http.shapes.messages import MessagesShape
from serving.http.shapes.responses import ResponsesShape
from serving.http.shapes.shape import Json
from serving.http.shapes.text import TextShape
from serving.text.lane import Limits
from serving.text.process import TextProcess
from serving.text.prompt import Prompt
from serving.text.session import session_of, session_of_text
from serving.text.tools import CallFormat, Functions
from serving.text.turns import asking
from serving.types import EngineStatus, SamplingOptions, TokenIds

LARGE_BYTES = 128 << 10  # of a body: to parse less takes a few milliseconds
# How calls are written, and whom an answer may call; None for no calls.
Calling = tuple[CallFormat, Functions] | None
Result = TypeVar("Result")


class Api:
    """The endpoints of one engine, or of several.

    name: the model's, as clients ask for it. places: of its clients. metrics: those that watch the engines. others:
    more engines, by their models' names; a request that names none is for the first.
    """

    def __init__(
        self,
        engine: AnswerEngine,
        name: str,
        places: Places | None = None,
        metrics: Metrics | None = None,
        others: Mapping[str, AnswerEngine] | None = None,
    ) -> None:
        self.served = {each: Served.of(each, one) for each, one in {name: engine, **(others or {})}.items()}
        self.name = name
        self.metrics = metrics or Metrics()
        self.places = places or Places()
        self._pace = Pace()
        self.started = int(time.time())

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
        wire, served = await self._read(request, ChatRequest)
        self._check_places(served, wire.n or 1)
        token_ids, options, calls, session = await self._in_turn(self._conversation, served, wire)
        spelling = await self._in_turn(lambda: served.engine.prompt.spelling) if wire.logprobs else None
        each = wire.usage_in_each
        shape = ChatShape(served.name, 1, wire.include_usage, spelling, calls=calls, usage_in_each=each)
        wanted = _choices(token_ids, options, wire.n or 1)
        return Reply(served.engine, self.places, wanted, shape, bool(wire.stream), session, wire.padded)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        wire, served = await self._read(request, CompletionRequest)
        self._check_places(served, len(wire.prompts()) * (wire.n or 1))
        options, prompt, window = wire.sampling(served.defaults), served.engine.prompt, served.engine.context_length
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
            served.name, len(encoded), wire.include_usage, spelling, echoed=echoed, answers=wire.n or 1,
            usage_in_each=wire.usage_in_each,
        )  # fmt: skip
        session = session_of_text(encoded[0])
        return Reply(served.engine, self.places, wanted, shape, bool(wire.stream), session, wire.padded)

    async def responses(self, request: Request) -> Response:
        """POST /v1/responses."""
        wire, served = await self._read(request, ResponsesRequest)
        token_ids, options, calls, session = await self._in_turn(self._conversation, served, wire)
        shape = ResponsesShape(served.name, wire, options.temperature, options.top_p, calls)
        wanted = [(token_ids, options)]
        return Reply(served.engine, self.places, wanted, shape, bool(wire.stream), session, wire.padded)

    async def messages(self, request: Request) -> Response:
        """POST /v1/messages."""
        wire, served = await self._read(request, MessagesRequest)
        token_ids, options, calls, session = await self._in_turn(self._conversation, served, wire)
        shape = MessagesShape(served.name, len(token_ids), calls, wire.hides_thinking)
        return Reply(served.engine, self.places, [(token_ids, options)], shape, bool(wire.stream), session)

    async def count_tokens(self, request: Request) -> Response:
        """POST /v1/messages/count_tokens. A conversation that does not fit the window is an error that says so."""
        wire, served = await self._read(request, CountTokensRequest)
        template, window, prompt = wire.template(), served.engine.context_length, served.engine.prompt
        token_ids, _ = await self._in_turn(prompt.tokens, wire.conversation(), window, template)
        return JSONResponse({"input_tokens": len(token_ids)})

    async def tokenize(self, request: Request) -> Response:
        """POST /tokenize."""
        wire, served = await self._read(request, TokenizeRequest)
        prompt, text = served.engine.prompt, wire.text()
        if text is None:
            token_ids = await self._in_turn(prompt.conversation_ids, *wire.conversation())
        else:
            token_ids = await self._in_turn(prompt.text_ids, text, wire.special())
        tokens: list[Any] = token_ids.tolist()
        answer: Json = {"count": len(tokens), "max_model_len": served.engine.context_length, "tokens": tokens}
        if wire.with_pieces or wire.return_token_strs:
            pieces = await self._in_turn(prompt.pieces, tokens)
            if wire.return_token_strs:
                answer["token_strs"] = [piece if isinstance(piece, str) else "\ufffd" for piece in pieces]
            if wire.with_pieces:
                answer["tokens"] = [{"id": id, "piece": piece} for id, piece in zip(tokens, pieces, strict=True)]
        return JSONResponse(answer)

    async def detokenize(self, request: Request) -> Response:
        """POST /detokenize."""
        wire, served = await self._read(request, DetokenizeRequest)
        text = await self._in_turn(served.engine.prompt.decoded, wire.tokens)
        return JSONResponse({"prompt": text, "content": text})

    async def models(self, _: Request) -> Response:
        """GET /v1/models."""
        return JSONResponse({"object": "list", "data": [self._model(served) for served in self.served.values()]})

    async def model(self, request: Request) -> Response:
        """GET /v1/models/NAME; without a name, all of them."""
        name = request.path_params["model"]
        return JSONResponse(self._model(self._named(name))) if name else await self.models(request)

    async def health(self, _: Request) -> Response:
        """GET /health: alive, ready, and how busy. 503 where the engine does not reply."""
        statuses = await to_thread.run_sync(self._statuses)
        status, window = together(statuses.values()), self.served[self.name].engine.context_length
        queue = {"running": status.running, "waiting": status.waiting}
        said: Json = {"status": "ok", "model": self.name, "loaded": status.loaded, "context_length": window}
        models = {"models": {name: {"loaded": each.loaded} for name, each in statuses.items()}}
        return JSONResponse({**said, "queue": queue, **(models if len(statuses) > 1 else {})})

    async def text_metrics(self, _: Request) -> Response:
        """GET /metrics."""
        statuses = await to_thread.run_sync(self._statuses)
        return Response(self.metrics.text(together(statuses.values())), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json."""
        return Response(self._document, media_type="application/json")

    @cached_property
    def _document(self) -> bytes:
        return bytes(JSONResponse(document(version("oga-chat"), [*self.served])).body)

    def _statuses(self) -> dict[str, EngineStatus]:
        return {name: served.engine.status() for name, served in self.served.items()}

    def _model(self, served: Served) -> Json:
        return {
            "id": served.name,
            "object": "model",
            "created": self.started,
            "owned_by": "oga-chat",
            "max_model_len": served.engine.context_length,
            "meta": served.known,
        }

    async def _read(self, request: Request, model: type[Model]) -> tuple[Model, Served]:
        body = await request.body()
        await self._pace.turn(client_of(request.scope), request.is_disconnected)
        wire = await self._parsed(model, body)
        name = getattr(wire, "model", None)
        return wire, self._named(self.name if name is None else name)

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
        places = [served.engine.places for served in self.served.values()]
        return CapacityLimiter(2 * max(Limits().waiting, *places) + 32)

    async def _in_turn(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of what may wait for the text processes, on threads that nothing else needs."""
        return await to_thread.run_sync(work, *arguments, limiter=self._writers)

    def _conversation(
        self, served: Served, wire: ChatRequest | ResponsesRequest | MessagesRequest
    ) -> tuple[TokenIds, SamplingOptions, Calling, str]:
        """The encoded prompt [n], what holds its answer to the calls that it may make, and the session's name.

        On another thread.
        """
        calls, options, messages = wire.calls(), wire.sampling(served.defaults), wire.conversation()
        calling: Calling = None
        if calls.functions:
            form = served.engine.prompt.calls
            if form is None:
                raise Problem.invalid("how this model writes tool calls is not known here: leave tools out.", "tools")
            calling = form, {function.name: function.parameters for function in calls.functions}
            options = replace(options, grammar=calls.grammar(form, options.grammar))
        token_ids, _ = served.engine.tokens(messages, options, wire.template())
        return token_ids, options, calling, session_of(messages)

    def _check_places(self, served: Served, answers: int) -> None:
        """Refuse what can never fit, before any of it is encoded."""
        places = min(served.engine.places, self.places.limit or answers)
        if answers > places:
            raise Problem.invalid(
                f"{answers} answers were asked for at once, and there are {places} places: ask for fewer, n for each "
                "prompt.",
                "n",
            )

    def _named(self, name: str) -> Served:
        if name not in self.served:
            names = ", ".join(map(repr, self.served))
            raise Problem(404, f"there is no model {name!r} here, only {names}.", "model_not_found", "model")
        return self.served[name]


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
