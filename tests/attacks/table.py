"""Every attack: its name, what is sent, how often, and to what kind of server."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from shutil import copytree
from typing import Any
from urllib.parse import urlencode

from tests.attacks import page, sockets
from tests.attacks.bodies import FIELDS, GRAMMARS, JSON_TEXTS, PROMPTS
from tests.attacks.client import CANARY, CHAT, COMPLETIONS, RESPONSES, Target, chat, encoded
from tests.attacks.measure import Attack, Send

KEY = "a-key-that-is-right"
WITH_KEY = ("--api-key", KEY)
LIMITED = ("--client-limit", "9")  # what a server that others can reach has


def posting(path: str, make: Any) -> Send:
    """One go: this body, made and encoded at the first."""

    @cache
    def content() -> bytes:
        body = make()
        return body if isinstance(body, bytes) else encoded(body)

    async def send(target: Target) -> None:
        await target.ask(path, content())

    return send


# Each is chosen by what the last message begins with, so that a neighbour's questions are answered. Jinja computes
# constants when it compiles a template: hence the variable.
TEMPLATES = {
    "a loop of a billion": "{% for i in range(n) %}x{% endfor %}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{{ i * j }}{% endfor %}{% endfor %}",
    "a loop as long as the request says": "{% for i in range(steps) %}{{ word }}{% endfor %}",
    "a text of a billion": "{{ 'x' * n }}",
    "a text of ten billion, padded": "{{ 'x'.ljust(10 * n) }}{{ '%*d' % (10 * n, 1) }}",
    "a list of a billion": "{{ [0] * n }}",
    "a number of a billion bits": "{{ 2 ** n }}",
    "a macro that calls itself": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "doubling text": (
        "{% set ns = namespace(t='xx') %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}"
    ),
    "the way to the interpreter": (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.environ }}"
    ),
    "filters that never end": (
        "{{ range(99999) | map('string') | join | length }}{{ ('x' * 9999) | center(n) | wordcount }}"
    ),
    "an error with what was said": "{{ raise_exception(messages[-1]['content']) }}",
}


def with_hostile_template(folder: Path, empty: Path) -> Path:
    """The demo with a chat template that does all of this, where the last message asks for it."""
    model = copytree(folder, empty / "demo")
    file = model / "chat_template.jinja"
    branches = "".join(
        f"{{%- if messages and messages[-1]['content'].startswith('{CANARY} {name}:') -%}}{content}{{%- endif -%}}"
        for name, content in TEMPLATES.items()
    )
    file.write_text("{%- set n = 1000000000 if messages else 0 -%}" + branches + file.read_text())
    (model / "manifest.json").unlink()
    return model


def rendering(name: str) -> Send:
    """A request that has this part of the template rendered."""
    return posting(
        CHAT, lambda: chat(f"{CANARY} {name}:") | {"chat_template_kwargs": {"steps": 10**9, "word": "w" * 999}}
    )


async def wrong_key(target: Target) -> None:
    """A key that is not one."""
    await target.ask("/v1/models", headers={"authorization": f"Bearer {CANARY}{random.random()}"})


async def wrong_login(target: Target) -> None:
    """A password that is not one."""
    form = urlencode({"user": "chat", "password": f"{CANARY}{random.random()}"}).encode()
    await target.ask("/login", form, {"content-type": "application/x-www-form-urlencoded"})


async def random_aborts(target: Target) -> None:
    """Requests of all kinds, most of which their clients do not wait for."""
    await random.choice((sockets.asked_and_dropped, sockets.dropped_in_the_body, sockets.half_closed))(target)


LOGIN_BODIES = {
    "a login of 7 MiB": b"user=chat&password=" + b"x" * (7 << 20),
    "a login of a million fields": b"&".join([b"a=b"] * 1_000_000),
    "a login of escapes": b"user=chat&password=" + b"%41" * (2 << 20),
    "a login of 9 MiB": b"user=chat&password=" + b"x" * (9 << 20),
}

OVERLOAD: dict[str, tuple[Send, int]] = {
    "16 answers each": (posting(CHAT, lambda: chat(n=16, temperature=1.5)), 24),
    "16 streams each": (posting(CHAT, lambda: chat(n=16, stream=True, logprobs=True, top_logprobs=20)), 24),
    "40 prompts": (posting(COMPLETIONS, lambda: {"model": "demo", "prompt": [CANARY] * 40, "max_tokens": 500}), 4),
    "long prompts, short answers": (posting(CHAT, lambda: chat("word " * 1500, max_tokens=1)), 24),
    "aborts at random": (random_aborts, 24),
    "long answers, dropped": (sockets.asked_and_dropped, 24),
    "one after the other": (posting(RESPONSES, lambda: {"model": "demo", "input": CANARY}), 32),
}

ATTACKS: Sequence[Attack] = (
    *(
        Attack(name, posting(path, make))
        for bodies in (GRAMMARS, FIELDS, JSON_TEXTS, PROMPTS)
        for name, (path, make) in bodies.items()
    ),
    *(Attack(f"template: {name}", rendering(name), model=with_hostile_template) for name in TEMPLATES),
    *(Attack(f"overload: {name}", send, attackers) for name, (send, attackers) in OVERLOAD.items()),
    *(Attack(f"overload, limited: {name}", send, n, flags=LIMITED) for name, (send, n) in OVERLOAD.items()),
    Attack("overload: /metrics, /health, /config", sockets.pipelined, 8),
    Attack("500 idle connections", sockets.idle_crowd, 1, 1),
    Attack("500 halves of requests", sockets.half_a_request, 1, 1),
    Attack("500 connections kept alive", sockets.kept_alive, 1, 1),
    Attack("80 halves of bodies of 4 MiB", sockets.half_a_body, 4, 1),
    Attack("connections opened and dropped", sockets.opened_and_dropped, 16, 200),
    Attack("headers byte by byte", sockets.slow_headers, 100, 5),
    Attack("bodies byte by byte", sockets.slow_body, 100, 5),
    Attack("answers that nobody reads", sockets.slow_reader, 24, 1),
    Attack("pages that nobody reads", sockets.unread_pages, 24, 1),
    Attack("clients that close their side", sockets.half_closed, 8),
    Attack("pipelined requests", sockets.pipelined, 4),
    Attack("pipelined answers", sockets.pipelined_answers, 4),
    Attack("what is no request", sockets.malformed, 8),
    Attack("wrong keys", wrong_key, 24, flags=WITH_KEY, key=KEY),
    Attack("wrong logins", wrong_login, 24, flags=(*WITH_KEY, "--auth", "chat:x-y-z"), key=KEY),
    *(
        Attack(name, posting("/login", lambda body=body: body), 8, flags=(*WITH_KEY, "--auth", "chat:x-y-z"), key=KEY)
        for name, body in LOGIN_BODIES.items()
    ),
    Attack("page: every event", page.every_event, 4),
    Attack("page: other routes", page.other_routes, 2),
    Attack("page: answers joined and left", page.joined_and_left, 8, 5),
    Attack("page: streams and heartbeats in bulk", page.streams_in_bulk, 4, 2),
    Attack("page: bodies of 7 MB", page.large, 4, 40),
)  # fmt: skip
