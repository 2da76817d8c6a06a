"""Errors in OpenAI's shape and in Anthropic's: the one place where they get their status, code and body."""

import math
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from serving.errors import Busy, ContextOverflow, EngineStopped, InvalidRequest, LimitReached, OutOfMemory, ServingError

MESSAGES = "/v1/messages"  # there, and below it, errors have Anthropic's shape


class Problem(Exception):
    """An answer that says why there is none. param: the field that is wrong; code: what a program can tell it by."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @classmethod
    def invalid(cls, message: str, param: str | None = None, code: str | None = "invalid_value") -> "Problem":
        """A request that cannot be used as given."""
        return cls(400, message, code, param)

    @classmethod
    def of(cls, error: Exception) -> "Problem":
        """What an error of the engine is to a client. One that is not ours keeps its message to itself."""
        match error:
            case Problem():
                return error
            case ContextOverflow():
                return cls(400, str(error), "context_length_exceeded", "messages")
            case InvalidRequest():
                return cls(400, str(error), "invalid_value")
            case LimitReached():
                return cls(
                    429, str(error), "rate_limit_exceeded", headers={"retry-after": str(math.ceil(error.retry_after))}
                )
            case Busy():
                return cls(503, str(error), "busy", headers={"retry-after": str(math.ceil(error.retry_after))})
            case OutOfMemory():
                return cls(503, str(error), "out_of_memory", headers={"retry-after": "5"})
            case EngineStopped():
                return cls(503, str(error), "engine_stopped", headers={"retry-after": "1"})
            case ServingError():
                return cls(500, str(error), "engine_error")
            case _:
                return cls(500, "the server failed on this request; its terminal says where.", "internal_error")

    @property
    def body(self) -> dict[str, Any]:
        """The JSON that clients know."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def of_messages(self) -> dict[str, Any]:
        """The JSON that Anthropic's clients know. The message names the field, as nothing else does there."""
        kinds = {**_KINDS, 413: "request_too_large", 503: "overloaded_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        named = self.param is None or self.param in self.message
        message = self.message if named else f"{self.param}: {self.message}"
        return {"type": "error", "error": {"type": kind, "message": message}}

    def response(self, path: str) -> JSONResponse:
        """The whole HTTP answer to a request for this path."""
        of_messages = path == MESSAGES or path.startswith(f"{MESSAGES}/")
        return JSONResponse(self.of_messages if of_messages else self.body, self.status, self.headers)


_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
