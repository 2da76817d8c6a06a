"""Hurt the engine's process under a crowd, again and again, and show that nothing is lost.

    python -m tests.engine_faults FOLDER [--times 200] [--clients 32] [--seed 0]

Every round, clients ask over HTTP, some of them give up, and at a random moment the engine's process is killed
(SIGKILL), stopped (SIGSTOP), or refused any more memory for a second (RLIMIT_AS). It ends with an error unless every
request that was open ends within 15 seconds of that, with an answer or an error in words; the next request is answered;
and no place, thread or open file is lost. The tests do a short one; 200 rounds take about a quarter of an hour.
"""

import argparse
import http.client
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from serving.engine.process import EngineProcess
from serving.engine.watch import Patience
from tests.servers import api_served, asked

CHAT = "/v1/chat/completions"
ENDS_SECONDS = 15.0  # in which a request that was open has ended
TIMEOUT = 60.0  # of a client that waits; whoever reaches it was forgotten
TEXTS = ("tell me a story about a fox", "hi", "what is 17+25?", "word " * 400)
NEXT: Any = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 20}


def starve(pid: int) -> None:
    """Refuse a process any more memory, for a second."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), hard))
    time.sleep(1.0)
    with suppress(ProcessLookupError):  # it did not live without
        resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))


FAULTS: dict[str, Callable[[int], None]] = {
    "killed": lambda pid: os.kill(pid, signal.SIGKILL),
    "stopped": lambda pid: os.kill(pid, signal.SIGSTOP),
    "no memory": starve,
}


@dataclass(frozen=True)
class Ended:
    """How a client's request ended, and when."""

    how: str
    at: float


@dataclass(frozen=True)
class Round:
    """One fault. ends: how requests ended; seconds: until those that it ended had; health, after: how long /health took
    while it lasted, and the next answer once all had ended."""

    fault: str
    ends: Counter[str]
    seconds: float
    health: float
    after: float


def client(url: str, rng: random.Random) -> Ended:
    """Ask for something, and read it to its end, or go away in the middle."""
    body = {
        "model": "demo", "messages": [{"role": "user", "content": rng.choice(TEXTS)}], "temperature": 2,
        "n": rng.choice((1, 1, 1, 2, 4)), "max_tokens": rng.randint(1, 600), "stream": rng.random() < 0.7,
    }  # fmt: skip
    leaves_at = time.monotonic() + rng.uniform(0, 2) if rng.random() < 0.25 else float("inf")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)
    content = b""
    try:
        connection.request("POST", CHAT, json.dumps(body))
        if leaves_at < float("inf"):
            time.sleep(max(0.0, leaves_at - time.monotonic()))
            return Ended("gave up", time.monotonic())
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        return Ended(f"broken: {error!r}", time.monotonic())
    finally:
        connection.close()
    return Ended(_how(content), time.monotonic())


def _how(content: bytes) -> str:
    text = content.decode()
    last = text.rstrip().rsplit("data: ", 1)[-1]
    if last == "[DONE]":
        return "answered"
    said = json.loads(last)
    return str(said["error"]["code"]) if "error" in said else "answered"


def counted() -> tuple[Counter[str], int]:
    """The engine's threads in this process by name, and its open files."""
    names = Counter(thread.name for thread in threading.enumerate() if thread.name.startswith("engine"))
    return names, len(os.listdir("/proc/self/fd"))


def hurt(engine: EngineProcess, url: str, fault: str, clients: int, rng: random.Random) -> Round:
    """One round. Raises AssertionError where something is lost."""
    with ThreadPoolExecutor(clients + 1) as pool:
        crowd = [pool.submit(client, url, random.Random(rng.random())) for _ in range(clients)]
        time.sleep(rng.uniform(0.05, 1.5))
        pid, at = engine.pid, time.monotonic()
        assert pid, "the engine is not there before it is hurt"
        FAULTS[fault](pid)
        began = time.monotonic()
        status, _, _ = asked(url, "/health")
        health = time.monotonic() - began
        assert status in (200, 503)
        ended = [each.result(2 * TIMEOUT) for each in crowd]
        if fault != "no memory":  # it may live through that
            until = time.monotonic() + ENDS_SECONDS
            while engine.pid == pid:
                assert time.monotonic() < until, "the process has not been started again"
                time.sleep(0.01)
    ends = Counter(each.how for each in ended)
    assert not [how for how in ends if how.startswith("broken")], ends
    seconds = max([0.0, *(each.at - at for each in ended if each.how == "engine_stopped")])
    assert seconds <= ENDS_SECONDS, f"{seconds:.1f} s until the last open request ended"
    began = time.monotonic()
    status, _, content = asked(url, CHAT, NEXT)
    assert status == 200, content
    after = time.monotonic() - began
    until = time.monotonic() + ENDS_SECONDS
    while any(json.loads(asked(url, "/health")[2])["queue"].values()):
        assert time.monotonic() < until, "a place is lost"
        time.sleep(0.05)
    return Round(fault, ends, seconds, health, after)


def faults(
    folder: Path, kinds: Sequence[str], clients: int, seed: int, patience: Patience | None = None
) -> list[Round]:
    """Serve a model and have it hurt in these ways, one after another."""
    rng, rounds = random.Random(seed), []
    with EngineProcess.load(folder, patience=patience) as engine, api_served(engine) as url:
        for _ in range(2):  # so that all that is kept open is open
            with ThreadPoolExecutor(clients) as pool:
                list(pool.map(lambda _: asked(url, CHAT, NEXT), range(clients)))
        threads, files = counted()
        for number, kind in enumerate(kinds, 1):
            rounds.append(hurt(engine, url, kind, clients, rng))
            until = time.monotonic() + ENDS_SECONDS
            while counted()[0] != threads or counted()[1] > files:
                assert time.monotonic() < until, f"threads and files: {threads}, {files} before, {counted()} after"
                time.sleep(0.05)
            print(f"{number:4} {rounds[-1]}", file=sys.stderr, flush=True)
    return rounds


def table(rounds: Sequence[Round]) -> str:
    """What came of each kind of fault."""
    lines = [
        "| fault | times | answered | ended by it | refused | other errors | gave up | longest to the last end | "
        "longest `/health` | longest next answer |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    kinds: dict[str, list[Round]] = defaultdict(list)
    for each in rounds:
        kinds[each.fault].append(each)
    for kind, found in kinds.items():
        ends = sum((each.ends for each in found), Counter[str]())
        known = [ends.pop(how, 0) for how in ("answered", "engine_stopped", "busy", "gave up")]
        counts = (*known[:3], ends.total(), known[3])
        most = (max(getattr(each, name) for each in found) for name in ("seconds", "health", "after"))
        lines.append(
            f"| {kind} | {len(found)} | {' | '.join(map(str, counts))} | "
            + " | ".join(f"{seconds:.2f} s" for seconds in most)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Hurt it, a line for each time on stderr, and the table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    kinds = random.Random(flags.seed).choices(list(FAULTS), weights=(5, 2, 3), k=flags.times)
    print(table(faults(flags.folder, kinds, flags.clients, flags.seed)))


if __name__ == "__main__":
    main()
