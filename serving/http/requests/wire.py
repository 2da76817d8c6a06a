"""What the wire models have in common, and how a body becomes one.

A field that is not in a model is refused by name; one that is does what its description says. A field that is null
counts as left out, whatever its name, and so is an empty text or list under a name that is not known: clients write out
what they have no value for.
"""

import reprlib
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from serving.http.problems import Problem
from serving.http.requests.unasked import Neutral, asking

# Each fault that pydantic finds costs it 50 microseconds and some kilobytes, and one is all that anybody is told.
MOST_FIELDS = 100  # of an object; no model has as many
MOST_MESSAGES = 10_000  # of a conversation; windows of 131,072 tokens have room for 13 in each of them
MOST_VALUES = 300_000  # of a body; twice as many as the longest window has tokens


class Wire(BaseModel):
    """Strict: no field that is not named, no text for a number. unasked: values of others that ask for nothing."""

    unasked: ClassVar[Neutral] = {}
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, fields: Any) -> Any:
        return asking(_few(fields, MOST_FIELDS), cls.unasked, _names(cls))


@cache
def _names(model: type[Wire]) -> frozenset[str]:
    """The fields of a model, as a body may name them."""
    said = [field.validation_alias for field in model.model_fields.values()]
    several = [name for alias in said if isinstance(alias, AliasChoices) for name in alias.choices]
    return frozenset(name for name in (*model.model_fields, *said, *several) if isinstance(name, str))


def few(most: int) -> BeforeValidator:
    """Refuses an object with more than so many fields before it looks at any."""
    return BeforeValidator(lambda fields: _few(fields, most))


def _few_messages(items: Any) -> Any:
    # pydantic would look at as many of them first.
    if isinstance(items, list) and len(items) > MOST_MESSAGES:
        told = {"most": f"{MOST_MESSAGES:,}"}
        raise PydanticCustomError("too_many_messages", "a conversation should have at most {most} messages", told)
    return items


def _few(fields: Any, most: int) -> Any:
    if isinstance(fields, dict) and len(fields) > most:
        raise PydanticCustomError("too_many_fields", "Object should have at most {most} fields", {"most": most})
    return fields


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_false(value: object) -> object:
    if value is not False:  # a Literal alone takes what equals it, and 0 does
        raise ValueError("Input should be false")
    return value


WHOLE = BeforeValidator(_whole)  # 3.0 is an integer in JSON; behind the bounds, which the schema would lose otherwise
Off = Annotated[Literal[False], BeforeValidator(_is_false)]
# A large one costs pydantic a tenth of a second in which nobody else is served, and what it would find is JSON.
Schema = dict[str, Any]
# What OpenAI's client library makes of the text beside it, and sends back with it.
Parsed = Annotated[JsonValue, Field(description="nothing is done with it")]
Temperature = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**31), WHOLE]
Thought = Annotated[int, Field(ge=0, lt=2**31), WHOLE]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
Verbosity = Literal["low", "medium", "high"]
Model = TypeVar("Model", bound=Wire)
Item = TypeVar("Item")
Messages = Annotated[
    list[Item], Field(min_length=1, max_length=MOST_MESSAGES, fail_fast=True), BeforeValidator(_few_messages)
]


class PaddedStream(Wire):
    """How a stream hides from who reads only how long its pieces are, as on an encrypted line, what is said."""

    include_obfuscation: bool | None = Field(
        None, description="events with text get a field `obfuscation`, so that their length tells little of it"
    )


class Refusal(Wire):
    """A piece of an answer that declines, as OpenAI's models write it."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        """What it says."""
        return self.refusal


class Part(Protocol):
    """A piece of a message."""

    @property
    def text(self) -> str:
        """What it says."""


def text_of(content: str | Sequence[Part]) -> str:
    """A message's text."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


def parse(model: type[Model], body: bytes) -> Model:
    """A request from its body. Raises Problem, naming the first field that is wrong."""
    if _values(body) > MOST_VALUES:
        raise Problem.invalid(f"the body holds more than {MOST_VALUES:,} values: send less at once.")
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:  # not JSON, not UTF-8, NaN, or nested too deeply
        raise Problem.invalid(f"the body is not JSON that can be read: {error}.", code="invalid_json") from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _problem(error, content) from None


def _problem(error: ValidationError, content: Any) -> Problem:
    # Each member of a union has its say; the one that got furthest is what the client meant. What was sent and is wrong
    # tells more than what was not sent or is of another kind.
    faults = [(_path(fault, content), fault) for fault in error.errors(include_url=False)]
    path, fault = max(
        (each for each in faults if each[0][:1] == faults[0][0][:1]),
        key=lambda each: (len(each[0]), each[1]["type"] != "missing" and not each[1]["type"].endswith("_type")),
    )
    param = ".".join(path) or None
    if fault["type"] == "extra_forbidden":
        return Problem.invalid(f"{param} is not supported: leave it out.", param, "unknown_parameter")
    if fault["type"] == "missing":
        return Problem.invalid(f"{param} is missing.", param, "missing_required_parameter")
    return Problem.invalid(
        f"{param or 'the body'}: {fault['msg']}, not {_SHORT.repr(fault['input'])}.", param, "invalid_value"
    )


def _values(body: bytes) -> int:
    """How many values the JSON in a body holds, at most; a text is one, whatever stands in it."""
    beginnings = b",[{"
    most = sum(map(body.count, (b",", b"[", b"{")))
    if most <= MOST_VALUES:
        return most
    # In one pass each, as a body of a million short texts would keep the interpreter for seconds.
    characters = np.frombuffer(body.replace(b"\\\\", b"  ").replace(b'\\"', b"  "), dtype=np.uint8)
    outside = np.cumsum(characters == ord('"'), dtype=np.int32) % 2 == 0
    return int(np.count_nonzero(outside & np.isin(characters, np.frombuffer(beginnings, dtype=np.uint8))))


_LONGEST_NAME = 100  # characters of a field's, in an error
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.fillvalue = "…"


def _path(fault: ErrorDetails, content: Any) -> list[str]:
    """The steps that lead to a fault through the content: pydantic's own go through the members of a union too."""
    steps, path = fault["loc"], []
    for n, step in enumerate(steps, 1):
        try:
            content = content[step]
        except (LookupError, TypeError):
            if n < len(steps) or fault["type"] not in {"missing", "extra_forbidden"}:
                continue
        path.append(str(step)[:_LONGEST_NAME])
    return path
