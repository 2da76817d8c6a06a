"""The page's own events, as a browser never sends them."""

import asyncio
import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from serving.http.place import MOST_BYTES
from tests.attacks.client import CANARY, Target, encoded, request

JOIN, PREDICT = "/gradio_api/queue/join", "/gradio_api/run/predict"
Json = dict[str, Any]


def file_part(path: str, **more: Any) -> Json:
    """What says that there is a file."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@cache
def pipe() -> str:
    """A FIFO that nobody writes to: whoever opens it waits for ever."""
    path = Path(f"/tmp/{CANARY}-{os.getpid()}")
    with suppress(FileExistsError):
        os.mkfifo(path)
    return str(path)


def hostile(files: Sequence[str]) -> list[Any]:
    """Values for any field. files: those that must not be read."""
    parts = [
        file_part(path) for path in (*files, "/dev/zero", pipe(), "/proc/self/environ", "../../etc/passwd", "", "/")
    ]
    parts += [file_part("x", url=url) for url in ("file:///etc/passwd", "http://127.0.0.1:9/x", f"http://{CANARY}/")]
    parts += [file_part(files[0], is_stream=True), {"_type": "gradio.FileData", "path": files[0]}]
    shown: list[Any] = [[{"role": "user", "content": [{"type": "file", "file": part}]}] for part in parts]
    shown += [[{"role": "user", "content": part}] for part in parts]
    components = [
        {"type": "component", "component": name, "value": value, "constructor_args": arguments, "props": arguments}
        for name in ("image", "file", "html", "gallery", "dataframe", "no such thing", "__class__")
        for value, arguments in ((files[0], {}), (parts[0], {"value": files[0]}), (7, {"x": [1]}))
    ]
    shown += [[{"role": "user", "content": [component]}] for component in components]
    text = {"role": "user", "content": [{"type": "text", "text": CANARY}]}
    shown += [
        [text] * 5000, [{"role": "user"}], [{"role": CANARY, "content": [1]}], [{**text, "metadata": {"title": [1]}}],
        [{**text, "options": [{"value": 1}] * 1000}], [None], [[CANARY, CANARY]],
        [text, {"role": "assistant", "content": []}],
    ]  # fmt: skip
    deep: Any = CANARY
    for _ in range(200):
        deep = [deep]
    plain = [
        None, True, -1, 0, 2**70, -(2**63), 1e308, 1e-308, "", CANARY, "\u0000", "\ud800", "x" * 200_000, [], {}, [[]],
        {"a": {"b": CANARY}}, [1] * 10_000, deep, {"__type__": "update", "value": 1}, {"__type__": "cached"},
        "9" * 5000, {"__class__": 1}, {CANARY: file_part(files[0])},
    ]  # fmt: skip
    return [*parts, *shown, *plain]


def good_value(component: Json) -> Any:
    """What the page itself sends for a component."""
    if component["type"] in ("chatbot", "json"):
        return [{"role": "user", "metadata": None, "options": None, "content": [{"type": "text", "text": "hi"}]}]
    value = component["props"].get("value")
    return "" if value is None else value


def events(config: Json, session: str) -> list[tuple[str, Json]]:
    """Where every event of the page is sent, and a good body for it."""
    components = {component["id"]: component for component in config["components"]}
    return [
        (
            JOIN if event["queue"] else PREDICT,
            {
                "data": [good_value(components[each]) for each in event["inputs"]],
                "event_data": None,
                "fn_index": event["id"],
                "trigger_id": next((target for target, _ in event["targets"] if target is not None), None),
                "session_hash": session,
            },
        )
        for event in config["dependencies"]
        if event["backend_fn"]
    ]


def question(config: Json, session: str) -> Json:
    """A good body for an event that ends in an answer."""
    return next(body for path, body in events(config, session) if path == JOIN)


def mutated(rng: random.Random, body: Json, values: Sequence[Any]) -> Json:
    """The body with one or two of its fields made hostile, left out, or added."""
    body = {**body, "data": list(body["data"])}
    for _ in range(rng.choice((1, 1, 2))):
        kind, value = rng.random(), rng.choice(values)
        if kind < 0.6 and body["data"] and isinstance(body["data"], list):
            body["data"][rng.randrange(len(body["data"]))] = value
        elif kind < 0.65 and isinstance(body["data"], list):
            data = rng.choice([body["data"][:-1], [*body["data"], value], [value] * 50, value])
            body["data"] = list(data) if isinstance(data, list) else data  # the next change is not one of `values`
        elif kind < 0.75:
            body.pop(rng.choice(list(body)), None)
            body.setdefault("data", [])
        else:
            more = ("event_id", "simple_format", "batched", "oauth_token", "request", CANARY)
            body[rng.choice((*(name for name in body if name != "data"), *more))] = value
    return body


async def config_of(target: Target) -> Json:
    """What the page is made of."""
    for _ in range(20):
        status, content = await target.ask("/config")
        target.answers[status] -= 1
        with suppress(ValueError):
            return dict(json.loads(content))
        await asyncio.sleep(0.2)
    raise ConnectionError("no /config")


async def heard(target: Target, session: str, patience: float = 10.0) -> str:
    """What the page's stream says of the events of a session, until it ends."""
    content = request(f"/gradio_api/queue/data?session_hash={session}", headers=target.headers)
    read = b""
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(patience), target.connected() as (reader, writer):
            writer.write(content)
            while piece := await reader.read(1 << 16):
                read += piece
    target.count("stream", read)
    return read.decode(errors="replace")


async def every_event(target: Target) -> None:
    """Every event with hostile data, directly and through the queue."""
    rng = random.Random()
    await fuzzed(target, rng, 20, await config_of(target))


async def fuzzed(target: Target, rng: random.Random, count: int, config: Json) -> None:
    """So many mutated bodies, one after the other."""
    values = hostile(list(target.files))
    for _ in range(count):
        session = f"s{rng.getrandbits(40)}"
        path, body = rng.choice(events(config, session))
        body = mutated(rng, body, values)
        path = rng.choice((JOIN, PREDICT)) if rng.random() < 0.1 else path
        if len(encoded(body)) > MOST_BYTES:  # refused before it is read, and cut off where it takes long: see bodies.py
            continue
        status, _ = await target.ask(path, body)
        if path == JOIN and status == "200" and body.get("session_hash") == session:
            await heard(target, session, 5.0)
        if not target.left:
            break


async def joined_and_left(target: Target) -> None:
    """Answers that are asked for through the queue, whose stream nobody opens."""
    body = question(await config_of(target), f"s{random.getrandbits(40)}")
    for _ in range(20):
        await target.ask(JOIN, body)


async def streams_in_bulk(target: Target) -> None:
    """A hundred streams of sessions that do not exist, and a hundred heartbeats."""

    async def one(path: str) -> None:
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(max(0.1, target.left)), target.connected() as (reader, writer):
                writer.write(request(path))
                while await reader.read(1 << 16):
                    pass
        target.count("stream")

    sessions = [f"s{random.getrandbits(40)}" for _ in range(100)]
    paths = [f"/gradio_api/heartbeat/{session}" for session in sessions]
    paths += [f"/gradio_api/queue/data?session_hash={session}" for session in sessions]
    await asyncio.gather(*(one(path) for path in paths))


async def other_routes(target: Target) -> None:
    """The small routes of the page with what they do not expect."""
    for path, bodies in ROUTES.items():
        for body in bodies:
            await target.ask(path, body)


ROUTES: dict[str, Sequence[Any]] = {
    "/gradio_api/cancel": [
        {}, {"session_hash": CANARY, "fn_index": 5, "event_id": CANARY}, b"", b"[", [],
        {"session_hash": 1, "fn_index": "x", "event_id": []},
        {"session_hash": "", "fn_index": 2**70, "event_id": "\u0000"},
    ],
    "/gradio_api/reset": [{}, {"event_id": CANARY}, {"event_id": [1]}, b"\xff", b"null"],
    JOIN: [
        b"", b"{", b"[]", b"\xff" * 100, {"data": {}}, {"data": []},
        {"data": [], "session_hash": "x", "fn_index": 10**6},
    ],
    PREDICT: [b"", b"{", b"[]", {"data": {}}, {"data": []}, {"data": [], "fn_index": -1}, b"[" * 100_000],
    "/gradio_api/info": [None], "/config": [None], f"/gradio_api/queue/data?session_hash={'x' * 5000}": [None],
    "/gradio_api/queue/data": [None], "/gradio_api/heartbeat/a%2f..%2fb": [None], "/?__theme=dark&view=%00": [None],
    "/?__theme=" + "x" * 20_000: [None], "/gradio_api/upload": [b"x"], "/gradio_api/file=/etc/passwd": [None],
    "/gradio_api/proxy=http://127.0.0.1:9/": [None], "/gradio_api/stream/x": [b""],
    "/gradio_api/component_server": [{}],
}  # fmt: skip


def large_bodies() -> Iterator[Json]:
    """Each as long as a body may be."""
    text = {"role": "user", "metadata": None, "options": None, "content": [{"type": "text", "text": CANARY}]}
    yield {"data": [[text] * 60_000, *([1] * 10)], "session_hash": "large", "fn_index": 6, "trigger_id": None}
    yield {"data": ["x" * 7_000_000, []], "session_hash": "large", "fn_index": 0, "trigger_id": None}
    yield {"data": [[text | {"content": [{"type": "text", "text": "word " * 1_000_000}]}], "", *([1] * 9)],
           "session_hash": "large", "fn_index": 6, "trigger_id": None}  # fmt: skip


@cache
def encoded_large_bodies() -> list[bytes]:
    """The same as JSON."""
    return [json.dumps(body).encode() for body in large_bodies()]


async def large(target: Target) -> None:
    """Bodies of seven megabytes."""
    await target.ask(random.choice((JOIN, PREDICT)), random.choice(encoded_large_bodies()))
