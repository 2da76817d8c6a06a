"""HTTP by hand: what no library would send, and what becomes of it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
CANARY = "Quagmire-zebra-7391"  # is in what attackers send: whoever reads it on stderr has found a leak
PATIENCE = 20.0  # seconds for an answer

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Target:
    """A server as its attackers see it. until: when they shall have ended (time.monotonic).

    source: the address that they come from. answers: status codes and other outcomes, counted.
    """

    port: int
    until: float
    source: str = "127.0.0.1"
    headers: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    seen: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds until the end, 0 at least."""
        return max(0.0, self.until - time.monotonic())

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """A connection, closed without a word when it is left."""
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.source, 0), limit=1 << 24), PATIENCE
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> tuple[str, bytes]:
        """Send one request and count its outcome, which is given back with the body."""
        return await self.send(request(path, body, {**self.headers, **(headers or {})}, method))

    async def send(self, content: bytes) -> tuple[str, bytes]:
        """Send these bytes and read until the server closes."""
        outcome, answer = "no answer", b""
        try:
            async with asyncio.timeout(PATIENCE), self.connected() as (reader, writer):
                writer.write(content)
                with suppress(ConnectionError):  # it may answer, and close, before all is sent
                    await writer.drain()
                outcome, answer = await answered(reader)
        except TimeoutError:
            pass
        except OSError:
            outcome = "closed"
        self.count(outcome, answer)
        return outcome, answer

    def count(self, outcome: str, answer: bytes = b"") -> None:
        """Note an outcome, and whether the answer holds what it must not."""
        self.answers[outcome] += 1
        for name, secret in self.files.items():
            if secret.encode() in answer:
                self.seen.append(name)


def request(path: str, body: Any = None, headers: Mapping[str, str] | None = None, method: str | None = None) -> bytes:
    """One request, after whose answer the server closes. A body that is not bytes goes as JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else encoded(body)
    named = {"host": "127.0.0.1", "connection": "close", "content-type": "application/json", **(headers or {})}
    if "transfer-encoding" not in named:
        named = {"content-length": str(len(content)), **named}
    lines = [
        f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1",
        *(f"{k}: {v}" for k, v in named.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def encoded(body: Any) -> bytes:
    """JSON, with the surrogates that Python can write and nobody can read."""
    return json.dumps(body).encode()


async def answered(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Outcome and body of what comes until the server closes."""
    try:
        status = "1"
        while status.startswith("1"):  # an interim answer: the real one follows
            head = await reader.readuntil(b"\r\n\r\n")
            status = head.split(b" ", 2)[1].decode()
        body = await reader.read(-1)
    except (asyncio.IncompleteReadError, ConnectionError, IndexError):
        return "closed", b""
    failed = status == "200" and b"event-stream" in head and (b'"error":{' in body or b'"success":false' in body)
    return f"{status} then an error" if failed else status, body


def chat(text: str = f"{CANARY}, tell me a story", **more: Any) -> dict[str, Any]:
    """A request for a chat completion."""
    return {"model": "demo", "messages": [{"role": "user", "content": text}], **more}
