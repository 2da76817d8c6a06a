"""What is done with connections rather than said on them. Each is one go of one attacker."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from tests.attacks.client import CANARY, CHAT, Connection, Target, answered, chat, request

STEP = 0.05  # seconds between the bytes of those who are slow
MOST_BYTES_SLOWLY = 200


async def crowd(target: Target, size: int, first: bytes = b"") -> None:
    """So many connections that say this and then nothing."""
    async with AsyncExitStack() as stack:
        for _ in range(size):
            _, writer = await stack.enter_async_context(target.connected())
            if first:
                writer.write(first)
            if not target.left:
                break
        await asyncio.sleep(target.left)
        target.count("held open")


async def idle_crowd(target: Target) -> None:
    """Connections that say nothing."""
    await crowd(target, 500)


async def half_a_request(target: Target) -> None:
    """Connections that stop in the middle of their headers."""
    await crowd(target, 500, request(CHAT, chat())[:60])


async def half_a_body(target: Target) -> None:
    """Connections that name a length of 4 MiB and send half of it."""
    await crowd(target, 20, request(CHAT, b"", {"content-length": str(4 << 20)}) + b" " * (2 << 20))


async def kept_alive(target: Target) -> None:
    """Connections that ask once and stay."""
    await crowd(target, 500, b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")


async def opened_and_dropped(target: Target) -> None:
    """A connection that goes at once."""
    async with target.connected():
        target.count("dropped")


async def asked_and_dropped(target: Target) -> None:
    """A long answer that is asked for and not waited for."""
    async with target.connected() as (_, writer):
        writer.write(request(CHAT, chat(stream=True, n=4)))
        await writer.drain()
        await asyncio.sleep(random.random() * 0.2)
        target.count("dropped")


async def dropped_in_the_body(target: Target) -> None:
    """A request that ends in the middle."""
    content = request(CHAT, chat("x" * 100_000))
    async with target.connected() as (_, writer):
        writer.write(content[: random.randrange(len(content))])
        await writer.drain()
        target.count("dropped")


async def slowly(target: Target, content: bytes, begin: int) -> None:
    """Bytes from `begin` on sent one at a time."""
    async with target.connected() as (reader, writer):
        writer.write(content[:begin])
        for at in range(begin, min(len(content), begin + MOST_BYTES_SLOWLY)):
            if not target.left or reader.at_eof() or writer.is_closing():
                break
            writer.write(content[at : at + 1])
            await asyncio.sleep(STEP)
        target.count("sent slowly")


async def slow_headers(target: Target) -> None:
    """Headers byte by byte."""
    await slowly(target, request(CHAT, chat(), {"x-long": "y" * 2000}), 10)


async def slow_body(target: Target) -> None:
    """A body byte by byte."""
    content = request(CHAT, chat("x" * 2000))
    await slowly(target, content, content.index(b"\r\n\r\n") + 4)


@asynccontextmanager
async def deaf(target: Target) -> AsyncIterator[Connection]:
    """A connection whose reader takes a few kilobytes and no more."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.bind((target.source, 0))
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", target.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def slow_reader(target: Target) -> None:
    """Large streamed answers that nobody reads."""
    async with deaf(target) as (_, writer):
        writer.write(request(CHAT, chat(stream=True, n=4, logprobs=True, top_logprobs=20)))
        await asyncio.sleep(target.left)
        target.count("not read")


async def unread_pages(target: Target) -> None:
    """Many large answers on one connection, none of them read."""
    async with deaf(target) as (_, writer):
        for path in ("/config", "/openapi.json", "/") * 20:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        await asyncio.sleep(target.left)
        target.count("not read")


async def half_closed(target: Target) -> None:
    """A client that closes its side once it has asked, and reads on."""
    async with target.connected() as (reader, writer):
        writer.write(request(CHAT, chat(max_tokens=20)))
        writer.write_eof()
        async with asyncio.timeout(10):
            target.count((await answered(reader))[0])


async def pipelined(target: Target) -> None:
    """A hundred requests at once on one connection."""
    one = b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
    await target.send(one * 100 + request("/health"))


async def pipelined_answers(target: Target) -> None:
    """Five long answers asked for at once on one connection."""
    content = request(CHAT, chat()).replace(b"connection: close", b"connection: keep-alive")
    await target.send(content * 5 + request("/health"))


CHUNKED = {"transfer-encoding": "chunked"}
MALFORMED: Sequence[bytes] = (
    request(CHAT, b"zz\r\nnot a chunk", CHUNKED),
    request(CHAT, b"-5\r\nhello\r\n0\r\n\r\n", CHUNKED),
    request(CHAT, b"FFFFFFFFFFFFFFFFFF\r\nx", CHUNKED),
    request(CHAT, b"5;" + b"x" * 100_000 + b"\r\nhello\r\n0\r\n\r\n", CHUNKED),
    request(CHAT, b"0\r\n" + b"trailer: x\r\n" * 5000 + b"\r\n", CHUNKED),
    request(CHAT, b"1\r\n \r\n" * 50_000 + b"0\r\n\r\n", CHUNKED),
    request(CHAT, b"{}", {**CHUNKED, "content-length": "2"}),
    request(CHAT, b"{}", {"content-length": "-1"}),
    request(CHAT, b"{}", {"content-length": "9" * 40}),
    request(CHAT, b"{}", {"content-length": "+2"}),
    request(CHAT, b"{}", {"content-type": "application/json; charset=utf-7"}),
    request(CHAT, b"{}", {"content-encoding": "gzip"}),
    request(CHAT, b"{}", {"expect": "100-continue"}),
    request("/", None, {"host": ""}),
    request("/", None, {"host": CANARY}),
    request("/", None, {"origin": f"http://{CANARY}", "x-forwarded-for": "127.0.0.1"}),
    request("/", None, {"upgrade": "websocket", "connection": "upgrade", "sec-websocket-version": "13",
                        "sec-websocket-key": "eA=="}),
    request("/", None, {"upgrade": "h2c", "connection": "upgrade, http2-settings", "http2-settings": "AA"}),
    request("/" + "a" * 60_000),
    request("/" + "a" * MOST_BYTES_SLOWLY * 10_000),
    request("/?" + "a=b&" * 20_000),
    request("/%00%ff%2e%2e/%2e%2e/etc/passwd"),
    request("/static/../../../../etc/passwd"),
    request("/assets/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd"),
    request("/static//etc/passwd"),
    request("/svelte/%2fetc%2fpasswd"),
    request("http://127.0.0.1:1/v1/models"),
    request("/v1/models/" + "%ff" * 1000),
    request("/v1/models/" + CANARY),
    request("/", None, {"x": "y" * 60_000}),
    request("/", None, {"x": "y" * 2_000_000}),
    request("/", None, {f"x{n}": "y" for n in range(10_000)}),
    request("/", None, {"cookie": "a=b; " * 10_000}),
    request("/", None, {"accept": "text/html," * 5000}),
    request("/", None, {"x": "\u00ff\u0100"}),
    request("/", None, {"x": "a\x00b"}),
    request("/", None, {"range": "bytes=" + "0-1," * 5000}),
    *(request(path, b"{}", method=method) for method in ("HEAD", "TRACE", "CONNECT", "OPTIONS", "DELETE", "BREW")
      for path in ("/", "/config", CHAT)),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 100,
    b"GET /\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\r\n" * 10_000,
    b"\x00" * 100_000,
    bytes(range(256)) * 100,
)  # fmt: skip


async def malformed(target: Target) -> None:
    """What is no request, or a strange one."""
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            await target.send(random.choice(MALFORMED))
