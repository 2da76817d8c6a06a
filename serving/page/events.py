"""What the page's events send, and nothing else: each request's body, read strictly and written anew for Gradio.

Gradio would copy a file that a part of a message names, and build any component. Here a conversation is text.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.http.problems import Problem
from serving.page.chat import CONTINUE, DONE, OPEN, REASONING

MOST_TURNS = 1000  # of what is shown of a conversation: Gradio takes half a millisecond for each of them
MOST_EARLIER = 20_000  # that are not shown
_MOST_PARTS = 16
_MOST_INDEX = 1_000_000
_SESSION = re.compile(r"[a-z0-9]{1,32}")
_EVENT_ID = re.compile(r"[0-9a-f]{32}")
_TURN = {"role", "metadata", "content", "options"}
_LONGEST_LOG = 500  # characters

Json = dict[str, Any]
Read = Callable[[Any], Any]  # a value as sent -> as Gradio gets it. Raises Problem.


@dataclass(frozen=True, slots=True)
class Event:
    """What one event of the page sends. inputs: how each is read. queued: its answer is a stream."""

    inputs: tuple[Read, ...]
    queued: bool
    data: Read


Events = Mapping[int, Event]  # by Gradio's number


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that has been read. session: the tab that sent it. body: for Gradio."""

    session: str
    body: bytes


def read_event(body: bytes, events: Events, triggers: frozenset[int]) -> Sent:
    """What is posted to run/predict."""
    return _read(body, events, triggers, queued=False)


def read_queued(body: bytes, events: Events, triggers: frozenset[int]) -> Sent:
    """What is posted to queue/join."""
    return _read(body, events, triggers, queued=True)


def read_cancel(body: bytes, events: Events, _: frozenset[int]) -> Sent:
    """What is posted to cancel."""
    content = _object(_json(body), {"event_id", "session_hash", "fn_index"})
    event = events.get(_whole(content.get("fn_index")))
    if event is None or not event.queued:
        raise _wrong("fn_index names nothing that can be cancelled")
    _matching(_EVENT_ID, content.get("event_id"))
    return Sent(session_in(content.get("session_hash")), _written(content))


def read_reset(body: bytes, *_: Any) -> Sent:
    """What is posted to reset, which names no tab."""
    content = _object(_json(body), {"event_id"})
    _matching(_EVENT_ID, content.get("event_id"))
    return Sent("", _written(content))


def _read(body: bytes, events: Events, triggers: frozenset[int], queued: bool) -> Sent:
    content = _object(_json(body), {"data", "event_data", "fn_index", "trigger_id", "session_hash"})
    event, data, trigger = events.get(_whole(content.get("fn_index"))), content.get("data"), content.get("trigger_id")
    if event is None or event.queued != queued:
        raise _wrong("fn_index names no event of the page that is sent here")
    if not isinstance(data, list) or len(data) != len(event.inputs):
        raise _wrong(f"data must be a list of {len(event.inputs)}")
    if trigger is not None and _whole(trigger) not in triggers:
        raise _wrong("trigger_id names nothing on the page")
    session = session_in(content.get("session_hash"))
    clean = {
        "data": [read(value) for read, value in zip(event.inputs, data, strict=True)],
        "event_data": event.data(content.get("event_data")),
        "fn_index": content["fn_index"],
        "trigger_id": trigger,
        "session_hash": session,
    }
    return Sent(session, _written(clean))


def session_in(value: Any) -> str:
    """The name that a tab gives itself."""
    return _matching(_SESSION, value)


def conversation(value: Any) -> list[Json]:
    """The history of the chat, as far as it is shown."""
    return [_turn(each) for each in _list(value, MOST_TURNS, "a conversation")]


def earlier(value: Any) -> list[Json]:
    """What was said before that."""
    return [_turn(each) for each in _list([] if value is None else value, MOST_EARLIER, "a conversation")]


def text(value: Any) -> str:
    """What is in a text box, or on the status line."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong("a text must be text")
    return value


def number(least: float, most: float) -> Read:
    """What a slider from `least` to `most` says."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _wrong("a number must be a number")
        if not least <= value <= most:
            raise _wrong(f"a number must be from {least:g} to {most:g}")
        return value

    return read


def choice(choices: Sequence[str]) -> Read:
    """Which of the choices is taken."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _wrong(f"a choice must be one of {', '.join(choices)}")
        return value

    return read


def switch(value: Any) -> bool:
    """Whether something is on."""
    if not isinstance(value, bool):
        raise _wrong("a switch must be on or off")
    return value


def no_data(value: Any) -> None:
    """Of an event that says nothing but that it happened."""
    if value is not None:
        raise _wrong("event_data must be left out")


def example(value: Any) -> Json:
    """Which example was clicked."""
    content = _object(value, {"index", "value"})
    chosen = _object(content.get("value"), {"text"})
    return {"index": _index(content.get("index")), "value": {"text": text(chosen.get("text"))}}


def option(value: Any) -> Json:
    """That an answer is to go on."""
    content = _object(value, {"index", "value"})
    if content.get("value") != CONTINUE["value"]:
        raise _wrong("there is one option")
    return {"index": _index(content.get("index")), "value": CONTINUE["value"]}


def edit(value: Any) -> Json:
    """Which message was changed, and to what."""
    content = _object(value, {"index", "value", "previous_value", "_dispatch_value"})
    return {
        "index": _index(content.get("index")),
        "value": _text_of(content.get("value")),
        "previous_value": _text_of(content.get("previous_value", "")),
    }


def message(value: Any) -> Json | None:
    """Which message it is that is to be answered anew, or taken back."""
    if value is None:
        return None
    content = _object(value, {"index", "value"})
    return {"index": _index(content.get("index")), "value": _text_of(content.get("value"))}


def _turn(value: Any) -> Json:
    turn = _object(value, _TURN)
    if turn.get("role") not in ("user", "assistant"):
        raise _wrong("a message's role must be user or assistant")
    options = turn.get("options") or None
    if options not in (None, [CONTINUE]):
        raise _wrong("a message has one option or none")
    return {
        "role": turn["role"],
        "metadata": _metadata(turn.get("metadata") or None),
        "content": [_part(part) for part in _list(turn.get("content"), _MOST_PARTS, "a message's content")],
        "options": options and [dict(CONTINUE)],
    }


def _metadata(value: Any) -> Json | None:
    """That a message is a thought, or what is told of an answer."""
    if value is None or value == {"title": REASONING}:
        return value and {"title": REASONING}
    told = _object(value, {"log", "status"})
    log, status = told.get("log"), told.get("status")
    if not isinstance(log, str) or len(log) > _LONGEST_LOG or status not in (OPEN, DONE):
        raise _wrong("what is told of an answer is a short text and a status")
    return {"log": log, "status": status}


def _part(value: Any) -> Json:
    part = _object(value, {"type", "text"})
    if part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise _wrong("a part of a message must be text")
    return {"type": "text", "text": part["text"]}


def _text_of(value: Any) -> str:
    """A message's text, which Gradio's page sends as it is or in parts."""
    if isinstance(value, list):
        return "".join(_part(part)["text"] for part in _list(value, _MOST_PARTS, "a message's content"))
    return text(value)


def _index(value: Any) -> int:
    """Of a message: Gradio's page counts parts too."""
    return _whole(value[0] if isinstance(value, list) and value else value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_INDEX:
        raise _wrong("an index must be a whole number")
    return value


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong("session_hash and event_id must be as the page makes them")
    return value


def _object(value: Any, keys: set[str]) -> Json:
    if not isinstance(value, dict) or not value.keys() <= keys:
        raise _wrong(f"only {', '.join(sorted(keys))} may stand there")
    return value


def _list(value: Any, most: int, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise _wrong(f"{what} must be a list of {most} at most")
    return value


def _json(body: bytes) -> Any:
    def constant(_: str) -> None:
        raise ValueError

    try:
        return json.loads(body.decode(), parse_constant=constant)
    except (ValueError, RecursionError):
        raise _wrong("the body is not JSON that can be read") from None


def _written(content: Json) -> bytes:
    try:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise _wrong("a text must be Unicode") from None


def _wrong(message: str) -> Problem:
    """What was sent is not told: it may be a part of a conversation."""
    return Problem.invalid(f"this page sends something else: {message}.")
