"""HTTP/1.1 on one connection, by uvicorn and h11, with what they leave out: limits of time, and half-closed clients."""

import asyncio
import json
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.http.crowd import Crowd
from serving.http.problems import Problem
from serving.http.tls import Handshake
from serving.http.wrapper import HEADERS, REQUEST_ID, id_of, told

SWEEP_SECONDS = 1.0
# A client that has sent all and says that it sends no more may wait for its answer, or may have gone: the first
# packet that it is sent tells. Most answers come sooner than that.
_PROBE_SECONDS, _REPLY_SECONDS, _NEXT_PROBE_SECONDS = 0.2, 0.1, 1.0
_RECEIVED = (
    1 << 16
)  # bytes at a time, as many as uvicorn takes before it waits; asyncio's own 256 KiB are read and kept
_MOST_HEAD = 1 << 16  # bytes of a request's headers
_ANY_CHUNKS, _SMALL_CHUNK = 1000, 32  # so many chunks of a body may be of any size; of more, so many bytes on average
_CROSSING_SECONDS = 0.05  # an end that comes this soon after the request may have been sent before the answer was seen


class _Requests(h11.Connection):
    """h11's, but for bodies in crumbs: to read a chunk of one byte takes as long as to read kilobytes of one."""

    _chunks = _size = 0  # of the body that is being read, and in bytes

    def next_event(self) -> Any:
        """What has come next. Raises RemoteProtocolError."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._size = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_end
            self._size += len(event.data)
            if self._chunks > _ANY_CHUNKS and self._size < self._chunks * _SMALL_CHUNK:
                raise h11.RemoteProtocolError("the body comes in crumbs")
        return event


class Connection(H11Protocol):
    """One client's connection. `crowd` is set by `connections_of`."""

    crowd: Crowd

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = _Requests(h11.SERVER, _MOST_HEAD)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or tell it that there is no room."""
        super().connection_made(transport)
        transport.max_size = _RECEIVED  # type: ignore[attr-defined]
        self._since, self._received, self._answered_at = self.loop.time(), 0, 0.0
        self._begun = False  # whether a request's first byte has come
        self._stalled_since, self._unsent = 0.0, 0
        self._half_closed = False
        self._probing: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None  # what is to begin when its turn has come
        if not self.crowd.enter(self, self.client[0] if self.client else ""):
            self._refuse(Problem(503, "too many connections: try again in a moment.", "busy"))

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self.crowd.leave(self)
        for each in (self._probing, self._later):
            if each:
                each.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        if self.transport.is_closing():
            return
        if self._waits_for_head() and not self._begun:
            self._begun, self._since = True, self.loop.time()
            if wait := self.crowd.turn(self.client[0] if self.client else "", self._since):
                self.flow.pause_reading()
                self._later = self.loop.call_later(wait, self._go_on, data)
                return
        self._received += len(data)
        super().data_received(data)

    def _go_on(self, data: bytes) -> None:
        self.flow.resume_reading()
        self.data_received(data)

    def handle_events(self) -> None:
        """Take what has come."""
        waited = self._waits_for_head()
        super().handle_events()
        if waited != self._waits_for_head():  # a head has come, or all of a body that was answered before
            self._begun, self._since, self._received = False, self.loop.time(), 0
        self.crowd.set_idle(self, not (self._answering() and self._request_came()))

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one's body."""
        self._answered_at = self._since = self.loop.time()
        self._begun = self.conn.their_state is h11.DONE and bool(self.conn.trailing_data[0])
        super().on_response_complete()
        self.crowd.set_idle(self, not (self._answering() and self._request_came()))
        if self._half_closed and not self._answering():
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. Whoever has asked, and has seen nothing yet, may still wait for an answer."""
        waits = self._answering() and self._request_came()
        started = waits and self.cycle.response_started
        self._half_closed = waits and not (started and self.loop.time() - self._since > _CROSSING_SECONDS)
        if started and not self._half_closed:
            self.transport.abort()  # what it has not read it will not read
        if self._half_closed and not started and self.scope["http_version"] != "1.0":  # which knows no interim answers
            self._probing = self.loop.create_task(self._probe())
        return self._half_closed

    def send_400_response(self, msg: str) -> None:
        """What cannot be read as HTTP is refused like everything else, and the connection closed."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if self._answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self._answering() and self.cycle.response_started:
            return self.transport.close()
        self._refuse(Problem(status, "this is no HTTP/1.1 request that can be read.", "invalid_request"))

    def shutdown(self) -> None:
        """The server ends: so does whatever is not being answered."""
        if self._answering():
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    def make_room(self) -> None:
        """End at once."""
        self.transport.abort()

    def sweep(self, now: float) -> None:
        """End it if it has taken longer than it may."""
        limits = self.crowd.limits
        if self._is_stalled(now):
            why = f"their clients read nothing for {limits.stalled:g} s"
        elif self._waits_for_head():
            most = limits.head if self._begun or not self._answered_at else limits.idle
            if now - self._since <= most:
                return
            if not self._begun and self._answered_at:
                return self.transport.close()
            why = f"no request came within {limits.head:g} s"
        elif not self._request_came():
            answered = self.cycle.response_complete
            most = limits.lingering if answered else limits.body + self._received / limits.body_rate
            if now - (self._answered_at if answered else self._since) <= most:
                return
            why = "the rest of a body did not come in time"
        else:
            return
        self.crowd.notes.note(f"connections ended: {why}")
        self.transport.abort()

    def _is_stalled(self, now: float) -> bool:
        unsent, limits = self.transport.get_write_buffer_size(), self.crowd.limits
        if not unsent or not self._unsent or unsent > self._unsent or unsent <= self._unsent - limits.progress:
            self._stalled_since, self._unsent = now, unsent
        return bool(unsent) and now - self._stalled_since > limits.stalled

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _waits_for_head(self) -> bool:
        return self.conn.their_state is h11.IDLE

    def _request_came(self) -> bool:
        return self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)

    def _refuse(self, problem: Problem) -> None:
        body = json.dumps(problem.body).encode()
        headers = {**HEADERS, REQUEST_ID: id_of(), "content-type": "application/json", "content-length": str(len(body))}
        lines = [f"HTTP/1.1 {problem.status} Refused", *(f"{name}: {value}" for name, value in headers.items())]
        self.transport.write("\r\n".join([*lines, "connection: close", "", ""]).encode() + body)
        self.transport.close()

    async def _probe(self) -> None:
        await asyncio.sleep(_PROBE_SECONDS)
        sock = self.transport.get_extra_info("socket")
        while self._answering() and not self.cycle.response_started and not self.transport.is_closing():
            self.transport.write(self.conn.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            await asyncio.sleep(_REPLY_SECONDS)
            if sock is None or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self.transport.abort()
            await asyncio.sleep(_NEXT_PROBE_SECONDS)


def connections_of(crowd: Crowd, tls: ssl.SSLContext | None = None) -> Callable[..., asyncio.Protocol]:
    """What makes connections that belong to one crowd, in TLS where there is a context for it."""
    kind = type("Connection", (Connection,), {"crowd": crowd})
    return (lambda **parts: Handshake(crowd, tls, kind(**parts))) if tls else kind


async def sweep(crowd: Crowd) -> None:
    """End connections that take too long, for as long as the server runs."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = asyncio.get_running_loop().time()
        for member in crowd.members:
            member.sweep(now)


def loop_error(context: dict[str, Any]) -> str:
    """What to say of an error that asyncio meets. A callback's arguments may have a conversation in them."""
    message = str(context.get("message", "an error")).partition("Exception in callback ")
    error = context.get("exception")
    return f"{message[0] or 'a callback failed'} ({told(error) if error else 'no error'})"
