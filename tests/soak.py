"""Days of use in an hour: requests of all kinds from many people, aborted, refused and retried ones among them.

    python -m tests.soak FOLDER --requests 100000 [--people 12] [--warm-up 3000]

FOLDER: the exported demo. Prints the memory of each of the server's processes as it goes, and at the end whether it is
as it was after the warm-up, which requests hung, and which ended otherwise than they should.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks.client import CHAT, COMPLETIONS, PATIENCE, RESPONSES, Target, request
from tests.attacks.page import JOIN, config_of, heard, question
from tests.attacks.program import Program
from tests.traffic import QUESTIONS, SYSTEMS

MOST_GROWTH = 0.05
MOST_TRIES = 100
Json = dict[str, Any]


@dataclass
class Soak:
    """What all people share: the server, what the page is made of, and what came of their requests so far."""

    target: Target
    page: Json
    kinds: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    tabs: dict[random.Random, str] = field(default_factory=dict)  # where each person has the page open

    async def ask(self, kind: str, path: str, body: Any, wanted: str = "200", says: bytes = b"") -> None:
        """Send until it is not refused for want of a place, as clients do; note what is not as it should be."""
        for _ in range(MOST_TRIES):
            outcome, content = await self.target.ask(path, body)
            if outcome != "503":
                break
            self.refused += 1
            await asyncio.sleep(0.2 + random.random() * 0.3)
        self.note(kind, outcome if says in content else f"{outcome} without {says!r}", wanted)

    def note(self, kind: str, outcome: str, wanted: str) -> None:
        """Count a request that has ended."""
        self.kinds[kind] += 1
        if outcome != wanted:
            self.wrong[f"{kind}: {outcome}"] += 1


def conversation(rng: random.Random) -> list[Json]:
    """A system prompt that others have too, some turns, and a question."""
    said = [{"role": "system", "content": system}] if (system := rng.choice(SYSTEMS)) else []
    for _ in range(rng.randrange(3)):
        said += [{"role": "user", "content": rng.choice(QUESTIONS)}, {"role": "assistant", "content": "I see."}]
    return [*said, {"role": "user", "content": rng.choice(QUESTIONS)}]


def body(rng: random.Random, **more: Any) -> Json:
    """A chat request."""
    drawn = {"temperature": rng.choice((0, 0.7, 1.2)), "max_tokens": rng.randrange(1, 40)}
    return {"model": "demo", "messages": conversation(rng), **drawn, **more}


async def whole(soak: Soak, rng: random.Random) -> None:
    await soak.ask("whole", CHAT, body(rng))


async def stream(soak: Soak, rng: random.Random) -> None:
    more: Json = {"logprobs": True, "top_logprobs": 5} if rng.random() < 0.3 else {}
    await soak.ask("stream", CHAT, body(rng, stream=True, **more), says=b"data: [DONE]")


async def responses(soak: Soak, rng: random.Random) -> None:
    asked = {"model": "demo", "input": rng.choice(QUESTIONS), "stream": True, "max_output_tokens": 20}
    await soak.ask("responses", RESPONSES, asked, says=b"event: response.")


async def several(soak: Soak, rng: random.Random) -> None:
    asked = {"model": "demo", "prompt": list(rng.sample(QUESTIONS, 2)), "n": rng.randrange(1, 9), "max_tokens": 12}
    await soak.ask("several", COMPLETIONS, asked)


async def grammar(soak: Soak, rng: random.Random) -> None:
    numbers = {f"n{rng.randrange(50)}": {"type": "integer", "minimum": 0, "maximum": rng.randrange(1, 10_000)}}
    schema = {"type": "object", "properties": numbers, "required": list(numbers), "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    await soak.ask("grammar", CHAT, body(rng, response_format=wanted, stream=rng.random() < 0.5))


async def tools(soak: Soak, rng: random.Random) -> None:
    function = {
        "name": f"f{rng.randrange(50)}",
        "parameters": {"type": "object", "properties": {"a": {"type": "boolean"}}},
    }
    called = [{"type": "function", "function": function}]
    # The demo's template knows of no tools: it says so.
    await soak.ask("tools", CHAT, body(rng, tools=called, tool_choice="required"), wanted="400")


async def wrong(soak: Soak, rng: random.Random) -> None:
    faults: list[Json] = [{"temperature": "warm"}, {"top_p": 2}, {"n": 17}, {"messages": []}, {"max_tokens": -5}]
    await soak.ask("wrong", CHAT, body(rng) | rng.choice(faults), wanted="400")


async def long(soak: Soak, rng: random.Random) -> None:
    asked = body(rng, messages=[{"role": "user", "content": "word " * rng.randrange(3000, 30_000)}])
    await soak.ask("too long", CHAT, asked, wanted="400")


async def aborted(soak: Soak, rng: random.Random) -> None:
    content = request(CHAT, body(rng, stream=rng.random() < 0.5, max_tokens=500, n=rng.randrange(1, 5)))
    outcome = "dropped"
    with suppress(ConnectionError):
        async with soak.target.connected() as (_, writer):
            writer.write(content[: rng.randrange(len(content)) if rng.random() < 0.2 else len(content)])
            await writer.drain()
            await asyncio.sleep(rng.random() * 0.3)
    soak.note("aborted", outcome, "dropped")


async def looks(soak: Soak, rng: random.Random) -> None:
    await soak.ask("looks", rng.choice(("/", "/config", "/theme.css", "/v1/models", "/health", "/metrics")), None)


async def page(soak: Soak, rng: random.Random) -> None:
    tab = soak.tabs.pop(rng, None) or f"s{rng.getrandbits(60)}"
    asked = question(soak.page, tab)
    asked["data"][0][0]["content"][0]["text"] = rng.choice(QUESTIONS)
    asked["data"][7] = rng.randrange(1, 40)
    for _ in range(MOST_TRIES):
        outcome, _ = await soak.target.ask(JOIN, asked)
        if outcome != "429":  # one client may not open tabs as fast as these people do at first
            break
        soak.refused += 1
        await asyncio.sleep(0.2 + random.random() * 0.3)
    if outcome == "200":
        leaves = rng.random() < 0.2
        said = await heard(soak.target, tab, 0.05 if leaves else PATIENCE)
        outcome = "200" if leaves or re.search(r'process_completed.*"success":true', said) else said[-200:]
        if not leaves:
            soak.tabs[rng] = tab
    soak.note("page", outcome, "200")


KINDS: Mapping[Callable[[Soak, random.Random], Awaitable[None]], int] = {
    whole: 20, stream: 25, responses: 8, several: 5, grammar: 8, tools: 3, wrong: 6, long: 1, aborted: 12, looks: 8,
    page: 4,
}  # fmt: skip


async def person(soak: Soak, seed: int, numbers: Iterator[int]) -> None:
    """Take requests until there are none left."""
    rng = random.Random(seed)
    for _ in numbers:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        await kind(soak, rng)


async def soaked(soak: Soak, people: int, count: int, seed: int) -> None:
    """So many requests from so many people at once."""
    numbers = iter(range(count))
    await asyncio.gather(*(person(soak, seed * 1000 + which, numbers) for which in range(people)))


def show(program: Program, soak: Soak, began: float) -> int:
    """One line; gives the memory of all processes."""
    held, done = program.memory_by_process(), sum(soak.kinds.values())
    each = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in sorted(held.items()))
    minutes = (time.monotonic() - began) / 60
    print(
        f"{done:>8,} requests, {minutes:5.1f} min, {done / minutes:,.0f} a minute; MiB: {each}; "
        f"{soak.refused} refused and retried; {soak.target.answers['no answer']} hung; "
        f"{sum(soak.wrong.values())} wrong",
        flush=True,
    )  # fmt: skip
    return sum(held.values())


def main() -> int:
    """Soak; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--warm-up", type=int, default=3000)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--parts", type=int, default=20, help="how many lines to print")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as work:
        program = Program(flags.folder, Path(work))
        try:
            target, began = Target(program.port, time.monotonic() + 10**6), time.monotonic()
            soak = Soak(target, asyncio.run(config_of(target)))
            asyncio.run(soaked(soak, flags.people, flags.warm_up, 0))
            warm = show(program, soak, began)
            for part in range(1, flags.parts + 1):
                if program.alive:
                    asyncio.run(soaked(soak, flags.people, flags.requests // flags.parts, part))
                    last = show(program, soak, began)
            errors, ended = program.errors, program.terminate() if program.alive else None
        finally:
            program.kill()
    growth, hung = last / warm - 1, target.answers["no answer"]
    kinds = json.dumps(soak.kinds)
    if errors:
        print(f"stderr:\n{errors[:5000]}")
    print(
        f"memory {growth:+.1%}; hung {hung}; SIGTERM took {ended} s; stderr {len(errors)} characters; {kinds}; "
        f"wrong: {dict(soak.wrong)}"
    )
    return int(growth > MOST_GROWTH or hung > 0 or bool(soak.wrong) or ended is None or "Traceback" in errors)


if __name__ == "__main__":
    sys.exit(main())
