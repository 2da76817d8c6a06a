"""JSON schemas as a grammar takes them."""

from collections.abc import Iterator
from typing import Any

from serving.errors import InvalidRequest

Json = dict[str, Any]

# How the JSON is written, in llguidance's words: as Python's json.dumps does. Small models left free to put blanks
# between its parts are prone to go on with them for ever.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MOST_CHARACTERS = 1 << 19  # of a grammar; OpenAI's largest schemas have half as many
# What they may be at one place of the answer takes llguidance a time that grows with the square of their number.
MOST_ALTERNATIVES = 1000
_ONE = ("items", "additionalProperties")
_LISTED = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions")


def to_generate(schema: Json) -> Json:
    """The schema for what is generated: JSON written in one way, and no object with properties that are not named.

    An object that leaves open whether it may have others would be filled with them by a small model. So it has none,
    unless `additionalProperties` says so; or there is an allOf, where a property may be named elsewhere.

    Raises InvalidRequest for one that is too long, too deep, or has more than MOST_ALTERNATIVES.
    """
    text = text_of(schema)
    if len(text) > MOST_CHARACTERS:
        raise InvalidRequest(f"the schema has {len(text):,} characters, and may have {MOST_CHARACTERS:,}: shorten it.")
    alternatives = sum(_alternatives(schema))
    if alternatives > MOST_ALTERNATIVES:
        raise InvalidRequest(
            f"the schema has {alternatives:,} alternatives in its anyOf and oneOf, and may have {MOST_ALTERNATIVES:,}: "
            "use fewer."
        )
    return {**(schema if "allOf" in text else _closed(schema)), "x-guidance": _COMPACT}


def text_of(schema: Json) -> str:
    """A schema as text. Raises InvalidRequest for one that is too deep."""
    try:
        return str(schema)
    except RecursionError as error:
        raise InvalidRequest("the schema is nested too deeply: use a flatter one.") from error


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for key in _ONE:
        if key in closed:
            closed[key] = _closed(closed[key])
    for key in _LISTED:
        if isinstance(closed.get(key), list):
            closed[key] = [_closed(each) for each in closed[key]]
    for key in _NAMED:
        if isinstance(closed.get(key), dict):
            closed[key] = {name: _closed(each) for name, each in closed[key].items()}
    if "properties" in closed and not closed.keys() & {"patternProperties", "anyOf", "oneOf", "$ref"}:
        closed.setdefault("additionalProperties", False)
    return closed


def _alternatives(value: Any) -> Iterator[int]:
    """How many schemas each anyOf and oneOf chooses from, wherever it is. One schema or null is no choice."""
    if isinstance(value, dict):
        for key in ("anyOf", "oneOf"):
            if isinstance(several := value.get(key), list):
                ways = sum(each != {"type": "null"} for each in several)
                yield ways if ways > 1 else 0
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _alternatives(part)
