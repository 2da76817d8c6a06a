"""JSON schemas as a grammar takes them."""

from typing import Any

Json = dict[str, Any]

# How the JSON is written, in llguidance's words: as Python's json.dumps does. Small models left free to put blanks
# between its parts are prone to go on with them for ever.
_COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ONE = ("items", "additionalProperties")
_LISTED = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions")


def to_generate(schema: Json) -> Json:
    """The schema for what is generated: JSON written in one way, and no object with properties that are not named.

    An object that leaves open whether it may have others would be filled with them by a small model. So it has none,
    unless `additionalProperties` says so; or there is an allOf, where a property may be named elsewhere.
    """
    return {**(schema if "allOf" in str(schema) else _closed(schema)), "x-guidance": _COMPACT}


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
