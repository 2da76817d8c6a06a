"""One attack, measured: what the attacker gets, what a neighbour notices, and what is left of the server."""

import asyncio
import itertools
import json
import re
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.attacks.client import CANARY, CHAT, COMPLETIONS, PATIENCE, RESPONSES, Target, chat
from tests.attacks.neighbour import Neighbour, Wait
from tests.attacks.program import Program

MOST_WAITING, MOST_MEMORY, MOST_SECONDS_TO_END = 2.0, 1.1, 5.0  # the bar: two are ratios
ELSEWHERE = "127.0.0.2"  # where attackers come from: not the neighbour's address
SETTLING_SECONDS = 25.0
LEAST_ROUNDS = 5  # of ordinary use of a server, before its longest wait is known: it varies by twice

Send = Callable[[Target], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Attack:
    """What so many attackers do over and over until time is up, each `most` times at most, to a server with `flags`.

    key: what a rightful user sends. model: makes the folder to serve from the demo's, in an empty one.
    """

    name: str
    send: Send
    attackers: int = 4
    most: int = 400
    flags: tuple[str, ...] = ()
    key: str = ""
    model: Callable[[Path, Path], Path] | None = None
    source: str = ELSEWHERE


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an attack, in seconds: of a neighbour's longest wait, usual, beside one long request in each round
    that this server had so far; worst, beside the attack in each of its rounds. memory: after over before. end: whether
    it got a SIGTERM while it was attacked, and ended: the seconds that took.
    """

    name: str
    answers: Mapping[str, int]
    usual: Sequence[float]
    worst: Sequence[float]
    unheard: Mapping[str, int]
    memory: float
    peak: int
    traceback: bool
    leaked: bool
    seen: Sequence[str]
    files: bool
    alive: bool
    end: bool
    ended: float | None

    @property
    def waiting(self) -> float:
        """How many times longer a neighbour waits than beside one long request."""
        return statistics.median(self.worst) / statistics.median(self.usual) if self.usual else 0.0

    @property
    def faults(self) -> list[str]:
        """Where the bar was not reached; empty if it was."""
        failed = [code for code in self.answers if re.fullmatch(r"50[^3]( .*)?", code)]
        checks = {
            f"waits x{self.waiting:.1f}": self.waiting > MOST_WAITING,
            f"neighbour got {dict(self.unheard)}": bool(self.unheard),
            f"memory x{self.memory:.2f}": self.memory > MOST_MEMORY,
            f"answers {' '.join(failed)}": bool(failed),
            "traceback": self.traceback,
            "leak on stderr": self.leaked,
            f"gave {' '.join(sorted(set(self.seen)))} away": bool(self.seen),
            "wrote files": self.files,
            "dead": not self.alive,
            "SIGTERM": self.end and (self.ended is None or self.ended > MOST_SECONDS_TO_END),
        }
        return [name for name, holds in checks.items() if holds]


class Attackers(threading.Thread):
    """An attack under way, in an event loop of its own."""

    def __init__(self, attack: Attack, target: Target) -> None:
        super().__init__(daemon=True)
        self._attack, self._target = attack, target
        self.start()

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        tasks = [asyncio.create_task(self._one()) for _ in range(self._attack.attackers)]
        _, late = await asyncio.wait(tasks, timeout=self._target.left + PATIENCE)
        for task in late:
            self._target.answers["no answer"] += 1
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self) -> None:
        for _ in range(self._attack.most):
            if not self._target.left:
                break
            try:
                await self._attack.send(self._target)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                self._target.count("closed")
            await asyncio.sleep(0)


class Served:
    """A server for attacks of one kind, and a neighbour who uses it. It lives until it is closed.

    used: until its memory is what it is in use.
    """

    def __init__(self, attack: Attack, folder: Path, used: bool = True) -> None:
        self.kind = (attack.flags, attack.key, attack.model)
        self._temporary = tempfile.TemporaryDirectory(prefix="attack-")
        work = Path(self._temporary.name)
        for name in ("work", "model"):
            (work / name).mkdir()
        (work / "canary.txt").write_text("the words of a file that nobody may read")
        self.files = {
            str(work / "canary.txt"): (work / "canary.txt").read_text(),
            "/etc/passwd": Path("/etc/passwd").read_text().splitlines()[0],
        }
        self.headers = {"authorization": f"Bearer {attack.key}"} if attack.key else {}
        self.long = Attack("one long request", long_request(folder), attackers=1)
        self.program = Program(
            attack.model(folder, work / "model") if attack.model else folder, work / "work", attack.flags
        )
        self.neighbour = Neighbour(self.program.port, attack.key)
        self.usual: list[float] = []
        if used:
            asyncio.run(ordinary_use(self.target(60, "127.0.0.1", self.headers)))
            # KV caches stay, as large as they have become: they are not what an attack leaves. So they become as
            # many and as large as they can.
            full = Attack("long requests", long_request(folder, apart=True), attackers=8, most=4)
            Attackers(full, self.target(120, "127.0.0.1", self.headers)).join()
        while not well(self.neighbour):  # who waited for these has not been measured yet
            continue

    def target(self, seconds: float, source: str, headers: Mapping[str, str] | None = None) -> Target:
        """What attackers get for so many seconds."""
        return Target(self.program.port, time.monotonic() + seconds, source, headers or {}, self.files)

    def waits(self, attack: Attack, target: Target) -> list[Wait]:
        """How long the neighbour waited while this went on."""
        began = time.monotonic()
        Attackers(attack, target).join()
        return self.neighbour.between(began, time.monotonic())

    def use(self, span: float) -> None:
        """Be used as usual for so many seconds."""
        quiet = self.waits(self.long, self.target(span, "127.0.0.1", self.headers))
        self.usual.append(max(wait.seconds for wait in quiet))

    def takes(self, attack: Attack) -> bool:
        """Whether it is of the kind that an attack is for."""
        return self.kind == (attack.flags, attack.key, attack.model)

    def close(self) -> None:
        """End everything."""
        self.neighbour.close()
        self.program.kill()
        self._temporary.cleanup()


def measured(served: Served, attack: Attack, rounds: int, span: float, last: bool) -> Result:
    """Let attack and ordinary use alternate so many times, for `span` seconds each. last: with SIGTERM at the end.

    With no rounds at all there is only that.
    """
    program, answers, unheard = served.program, Counter[str](), Counter[str]()
    worst, seen, written = list[float](), list[str](), len(program.errors)
    before = 0 if rounds else program.memory()
    while rounds and len(served.usual) < LEAST_ROUNDS - rounds:
        served.use(span)
    for _ in range(rounds):
        served.use(span)
        before = before or program.memory()
        target = served.target(span, attack.source)
        beside = served.waits(attack, target)
        answers.update(target.answers)
        seen += target.seen
        worst.append(max((wait.seconds for wait in beside), default=PATIENCE))
        unheard.update(wait.outcome for wait in beside if wait.outcome != "good")
        if worst[-1] >= PATIENCE / 2 or not program.alive:
            break  # it is clear by now
    after = settled(program, before) if rounds else before
    alive = program.alive and not program.too_large and well(served.neighbour)
    ended: float | None = None
    if last and program.alive:
        Attackers(attack, served.target(1.5, attack.source))
        time.sleep(1.0)
        ended = program.terminate()
    errors = program.errors[written:]
    return Result(
        name=attack.name,
        answers=answers,
        usual=tuple(served.usual) if rounds else (),
        worst=worst,
        unheard=unheard,
        memory=after / before,
        peak=program.peak,
        traceback="Traceback" in errors,
        leaked=CANARY in errors + program.out,
        seen=seen,
        files=bool(program.written),
        alive=alive,
        ended=ended,
        end=last,
    )


def settled(program: Program, before: int) -> int:
    """The least memory of the next seconds, or the first that is what it was."""
    until, least = time.monotonic() + SETTLING_SECONDS, program.memory()
    while time.monotonic() < until and least > before * MOST_MEMORY:
        time.sleep(0.5)
        least = min(least, program.memory() or least)
    return least


def well(neighbour: Neighbour) -> bool:
    """Whether questions are answered again."""
    now = time.monotonic()
    time.sleep(0.5)
    return any(wait.outcome == "good" for wait in neighbour.between(now, time.monotonic()) if wait.began > now)


def long_request(folder: Path, apart: bool = False) -> Send:
    """The longest answer that the demo can give, streamed. apart: no conversation begins as another."""
    special = [token["id"] for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]]
    endless = {str(token): -100 for token in special}
    numbers = itertools.count()

    async def send(target: Target) -> None:
        question = (f"Story {next(numbers)}, please. " if apart else "") + "Tell me a story. " * 40
        await target.ask(CHAT, chat(question, stream=True, logit_bias=endless))

    return send


async def ordinary_use(target: Target) -> None:
    """A little of everything, so that memory is what it is in use."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string", "maxLength": 9}}}
    named = {"name": "n", "schema": {**schema, "required": ["a", "b"], "additionalProperties": False}}
    grammar = {"type": "json_schema", "json_schema": named}
    for _ in range(3):
        for path in ("/", "/config", "/theme.css", "/v1/models", "/health", "/metrics", "/openapi.json"):
            await target.ask(path)
        await target.ask(COMPLETIONS, {"model": "demo", "prompt": "Once", "max_tokens": 50, "logprobs": 20, "n": 4})
        await target.ask(CHAT, chat("tell me a story", n=16, max_tokens=300))
        await target.ask(RESPONSES, {"model": "demo", "input": "hello", "stream": True})
        await target.ask(CHAT, chat(response_format=grammar, max_tokens=60))
        await target.ask(CHAT, chat("word " * 50_000))
        await asyncio.gather(*(target.ask(CHAT, chat("tell me a story", stream=True)) for _ in range(8)))
