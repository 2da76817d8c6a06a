"""What is found in the text of an answer, and what every syntax needs for it."""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

Json = dict[str, Any]
# The functions that there are: their names, and where they are known the schemas of their parameters.
Functions = Collection[str] | Mapping[str, Json | None]
_HALF = re.compile("[\ud800-\udfff]")


class Unfinished(Exception):
    """The text ends before it is known what it is."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the model wrote it. arguments: JSON."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A part of a call that is being written. name: with the first part alone. whole: nothing more of it comes."""

    arguments: str
    name: str | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Calls, and where in the text they end."""

    calls: tuple[Call, ...]
    end: int


def written(arguments: Json) -> str:
    """Arguments as JSON that can be sent. Raises ValueError for what JSON has no word for, or is nested too deeply."""
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return _HALF.sub("\ufffd", text)  # half of a surrogate pair, which UTF-8 has no bytes for


def loaded(text: str) -> Any:
    """JSON, in whose texts line breaks may stand as they are. Raises ValueError for anything else."""
    try:
        return json.loads(text, strict=False, parse_constant=_refused, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parameters_of(functions: Functions, name: str) -> Json:
    """The schema of a function's parameters, empty where it is not known."""
    return (functions[name] or {}) if isinstance(functions, Mapping) else {}


def past_blanks(text: str, at: int) -> int:
    """Where the next character stands that is no white space. Raises Unfinished where there is none."""
    while at < len(text) and text[at].isspace():
        at += 1
    if at == len(text):
        raise Unfinished
    return at


def starts(text: str, at: int, mark: str) -> bool:
    """Whether the mark stands there. Raises Unfinished where only its beginning does."""
    if text.startswith(mark, at):
        return True
    if mark.startswith(text[at:]):
        raise Unfinished
    return False


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refused(number)


def _refused(number: str) -> NoReturn:
    raise ValueError(f"{number} is no number in JSON")
