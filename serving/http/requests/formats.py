"""What the text of an answer must be."""

from typing import Literal

from pydantic import Field
from pydantic_core import to_json

from serving.http.requests.wire import Schema, Wire
from serving.types import Grammar


class TextFormat(Wire):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Wire):
    """A JSON schema; nothing is done with its name."""

    name: str | None = Field(None, pattern=r"^[\w-]{1,64}$")
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = Field(None, description="every answer follows the schema, with it or without")


class JsonSchemaFormat(Wire):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class SchemaFormat(Wire):
    """JSON that follows a schema, as /v1/responses writes it."""

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[\w-]{1,64}$")
    description: str | None = None
    schema_: Schema = Field(alias="schema")
    strict: bool | None = None


def grammar_of(wanted: TextFormat | JsonObjectFormat | JsonSchemaFormat | SchemaFormat | None) -> Grammar | None:
    """What the answer must be."""
    match wanted:
        case JsonObjectFormat():
            return Grammar("json_object")
        case JsonSchemaFormat():
            return Grammar("json_schema", to_json(wanted.json_schema.schema_).decode())
        case SchemaFormat():
            return Grammar("json_schema", to_json(wanted.schema_).decode())
        case _:
            return None
