"""The API's own description: an OpenAPI document, whose requests are the wire models."""

from collections.abc import Sequence
from typing import Any

from serving.http.problems import MESSAGES
from serving.http.requests.endpoints import REQUESTS, schemas

Json = dict[str, Any]
_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MESSAGES_ERROR: Json = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}
_REASONS = {
    "400": "a field is wrong, unknown or missing, or the conversation does not fit",
    "401": "a key is missing or unknown",
    "403": "the Host or the Origin is not known",
    "404": "there is no such model",
    "413": "the body is too long",
    "429": "this client has too many answers being made",
    "503": "too many requests wait, or the engine is not there: Retry-After says when to come back",
}
SUMMARIES = {
    "/v1/chat/completions": "the answer to a conversation",
    "/v1/completions": "what follows a text",
    "/v1/responses": "the answer to a conversation, in items",
    "/v1/messages": "the answer to a conversation, in Anthropic's blocks",
    "/v1/messages/count_tokens": "how many tokens such a conversation has",
    "/tokenize": "the tokens of a text, or of a conversation",
    "/detokenize": "the text of tokens",
    "/v1/models": "the models that are served, and what is known of each",
    "/v1/models/{model}": "one of them, by its name",
    "/health": "alive, ready, and how busy",
    "/metrics": "counters and histograms for Prometheus",
}


def document(version: str, served: Sequence[str]) -> Json:
    """The OpenAPI document. served: the names of the models."""
    refs, models = schemas("#/components/schemas/{model}")
    name = {"type": "string", "enum": [*served]}
    for ref in refs.values():
        models[ref.rpartition("/")[2]]["properties"]["model"].update(name)
    paths: Json = {}
    for path, summary in SUMMARIES.items():
        if path in refs:
            body = {"required": True, "content": {"application/json": {"schema": {"$ref": refs[path]}}}}
            streams: Json = {"text/event-stream": {}} if "stream" in REQUESTS[path].model_fields else {}
            error = "MessagesError" if path.startswith(MESSAGES) else "Error"
            paths[path] = {"post": {"summary": summary, "requestBody": body, "responses": _responses(streams, error)}}
        else:
            media: Json = {"text/plain": {"schema": {"type": "string"}}} if path == "/metrics" else {}
            paths[path] = {"get": {"summary": summary, "responses": _responses(media, json=not media)}}
    model = {"name": "model", "in": "path", "required": True, "schema": name}
    paths["/v1/models/{model}"]["get"]["parameters"] = [model]
    return {
        "openapi": "3.1.0",
        "info": {"title": "oga-chat", "version": version},
        "paths": paths,
        "components": {
            "schemas": {**models, "Error": _ERROR, "MessagesError": _MESSAGES_ERROR},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"key": []}, {"x-api-key": []}],
    }


def _responses(media: Json, error: str = "Error", json: bool = True) -> Json:
    answers = {**({"application/json": {"schema": {"type": "object"}}} if json else {}), **media}
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}}
    refused = {status: {"description": reason, "content": body} for status, reason in _REASONS.items()}
    return {"200": {"description": "the answer", "content": answers}, **refused}
