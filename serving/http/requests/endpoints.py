"""Which request each endpoint takes."""

from typing import Any

from pydantic.json_schema import models_json_schema

from serving.http.requests.chat import ChatRequest
from serving.http.requests.messages import CountTokensRequest, MessagesRequest
from serving.http.requests.responses import ResponsesRequest
from serving.http.requests.text import CompletionRequest
from serving.http.requests.tokens import DetokenizeRequest, TokenizeRequest
from serving.http.requests.wire import Wire

REQUESTS: dict[str, type[Wire]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
    "/v1/messages": MessagesRequest,
    "/v1/messages/count_tokens": CountTokensRequest,
    "/tokenize": TokenizeRequest,
    "/detokenize": DetokenizeRequest,
}


def schemas(template: str) -> tuple[dict[str, str], dict[str, Any]]:
    """For each path the reference to its schema, and all schemas by name. template: of references, with {model}."""
    refs, definitions = models_json_schema(
        [(model, "validation") for model in REQUESTS.values()], by_alias=True, ref_template=template
    )
    return {path: refs[model, "validation"]["$ref"] for path, model in REQUESTS.items()}, definitions["$defs"]
