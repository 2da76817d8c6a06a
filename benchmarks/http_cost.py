"""What HTTP costs: tokens/s through the API over the engine's own, and many clients at once.

    python -m benchmarks.http_cost FOLDER [--tokens 400] [--rounds 5] [--clients 1 8 32]

The server and the clients are processes of their own; `engine` asks the engine's process directly, from the server's
side of the pipe. Rounds of the two alternate, and medians are printed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from serving.engine.process import EngineProcess
from serving.http.access import Access
from serving.http.api import Api
from serving.http.server import Server, make_app
from serving.types import EngineSettings, Message, SamplingOptions

QUESTION = "tell me a story about a fox"
ROOT = Path(__file__).parent.parent


def engine_speed(engine: EngineProcess, tokens: int) -> float:
    """Tokens per second after the first, from the engine's process."""
    options = SamplingOptions(temperature=1.0, seed=1, max_tokens=tokens, logit_bias=forbidden(engine))
    times = [
        (time.perf_counter(), chunk.completion_tokens)
        for chunk in engine.generate([Message("user", QUESTION)], options)
        if chunk.completion_tokens
    ]
    return (times[-1][1] - times[0][1]) / (times[-1][0] - times[0][0])


def forbidden(engine: EngineProcess) -> tuple[tuple[int, float], ...]:
    """What keeps an answer from ending."""
    return tuple((token, -100.0) for token in sorted(engine.prompt.end_ids))


CLIENT = """
import asyncio, json, sys, time
from openai import AsyncOpenAI

async def ask(client, body, seed):
    sent, times, usage = time.perf_counter(), [], None
    async for chunk in await client.chat.completions.create(**body, seed=seed, stream=True, stream_options={"include_usage": True}):
        if chunk.choices and chunk.choices[0].delta.content:
            times.append(time.perf_counter())
        usage = chunk.usage or usage
    return {"first": times[0] - sent, "seconds": times[-1] - times[0], "whole": times[-1] - sent,
            "tokens": usage.completion_tokens}

async def main():
    url, body, clients = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
        await client.models.list()
        began = time.perf_counter()
        found = await asyncio.gather(*(ask(client, body, n + 1) for n in range(clients)), return_exceptions=True)
        wall = time.perf_counter() - began
    print(json.dumps({"wall": wall, "answers": [a for a in found if isinstance(a, dict)],
                      "errors": [repr(a) for a in found if not isinstance(a, dict)]}))

asyncio.run(main())
"""  # noqa: E501


def asked(url: str, body: dict[str, Any], clients: int) -> dict[str, Any]:
    """What clients in a process of their own have measured."""
    command = [sys.executable, "-c", CLIENT, url, json.dumps(body), str(clients)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--batch", action="store_true")
    flags = parser.parse_args()
    measured(flags)


def measured(flags: argparse.Namespace) -> None:
    """Serve, measure, print."""
    with EngineProcess.load(flags.folder, EngineSettings(queue=64, runtime="ort" if flags.batch else "oga")) as engine:
        server = Server(make_app(Api(engine, "m").routes(), Access().middleware()), "127.0.0.1", 0)
        body = {
            "model": "m",
            "messages": [{"role": "user", "content": QUESTION}],
            "temperature": 1.0,
            "top_p": 1.0,
            "max_tokens": flags.tokens,
            "logit_bias": {str(token): bias for token, bias in forbidden(engine)},
        }
        engine_speed(engine, flags.tokens)
        ours, theirs = [], []
        for _ in range(flags.rounds):
            ours.append(engine_speed(engine, flags.tokens))
            (answer,) = asked(f"{server.url}v1", body, 1)["answers"]
            theirs.append((answer["tokens"] - 1) / answer["seconds"])
        ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        print(f"engine {statistics.median(ours):.1f} tokens/s, HTTP {statistics.median(theirs):.1f}, ratio {ratio:.3f}")
        print(
            "| clients | errors | tokens/s, all | first token, median | first token, longest | whole answer, longest |"
        )
        print("|---|---|---|---|---|---|")
        for clients in flags.clients:
            found = asked(f"{server.url}v1", {**body, "max_tokens": min(flags.tokens, 100)}, clients)
            answers = found["answers"]
            first = [answer["first"] for answer in answers]
            total = sum(answer["tokens"] for answer in answers) / found["wall"]
            slowest = max(answer["whole"] for answer in answers)
            print(
                f"| {clients} | {len(found['errors'])} | {total:.0f} | {statistics.median(first):.2f} s | "
                f"{max(first):.2f} s | {slowest:.2f} s |"
            )
        server.close()


if __name__ == "__main__":
    main()
