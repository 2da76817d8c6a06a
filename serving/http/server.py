"""One HTTP server for page and API."""

import asyncio
import gc
import logging
import math
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from serving.errors import ServingError
from serving.http.connections import connections_of, loop_error, sweep
from serving.http.crowd import Crowd, Limits
from serving.http.problems import Problem
from serving.http.wrapper import Wrapper

# Seconds, once the server has been asked to end: for answers to come to their own end, for whatever is open to, and
# until it counts as ended whatever still runs in it.
_GRACE, _PATIENCE, _END = 1, 2, 3.5
_BACKLOG = 1024  # connections that the system keeps until they are accepted
_ACCEPTED = 16  # of them at a time: whoever is being served already goes on in between
# A short request passes ten times from thread to thread. Where another computes, each waits so long for the
# interpreter's lock; Python's own 5 ms would add up to what the answer takes.
_SWITCH_SECONDS = 0.0005
_SEND_BUFFER = 256 << 10  # bytes of the system's that a client may fill by not reading; the system would take megabytes


def make_app(routes: Sequence[BaseRoute], middleware: Sequence[Middleware] = ()) -> Starlette:
    """The application; whatever goes wrong in it is answered in the shape of its endpoint."""
    handlers: dict[Any, Any] = {Exception: refused, Problem: refused, ServingError: refused, HTTPException: _http}
    return Starlette(routes=list(routes), middleware=list(middleware), exception_handlers=handlers)


async def refused(request: Request, error: Exception) -> Response:
    """The answer to what went wrong."""
    return Problem.of(error).response(request.url.path)


async def _http(request: Request, error: HTTPException) -> Response:
    """Starlette's own errors: no such route, or not with this method."""
    messages = {
        404: f"there is nothing at {request.url.path}.",
        405: f"{request.url.path} does not take {request.method}.",
    }
    message = messages.get(error.status_code, str(error.detail))
    return Problem(error.status_code, message, headers=error.headers).response(request.url.path)


class Server:
    """An application being served in the background. port 0 takes a free one. limits: what connections may cost.

    tls: what it proves itself with, for HTTPS. Raises ServingError where the port cannot be had.
    """

    def __init__(
        self, app: Starlette, host: str, port: int, limits: Limits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        bare = host.strip("[]")
        self._socket = socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._socket.bind((bare, port))
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            raise ServingError(f"port {port} on {host} cannot be had ({error}): choose another with --port.") from error
        self.port = int(self._socket.getsockname()[1])
        shown = "localhost" if bare in ("0.0.0.0", "::") else f"[{bare}]" if ":" in bare else bare
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}/"
        self._crowd = Crowd(limits or Limits())
        config = uvicorn.Config(
            Wrapper(app),
            http=connections_of(self._crowd, tls),  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            log_config=None,
            log_level="critical",  # what it would log has been told by then, or has a conversation in it
            access_log=False,
            server_header=False,
            timeout_keep_alive=math.ceil(self._crowd.limits.idle),
            timeout_graceful_shutdown=_PATIENCE,
            backlog=_ACCEPTED,
            lifespan="on",
            proxy_headers=False,
        )
        self._server = uvicorn.Server(config)
        self._stopped_at = math.inf
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            self._ended.wait(0.01)
        if not self._server.started:
            self._socket.close()
            raise ServingError(f"the server at {self.url} did not start: {self._failure!r}.")
        self._socket.listen(_BACKLOG)  # asyncio has one number for both, and has set its own

    @property
    def serves(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Block until `stop` is called and no answer is being made any more, or has been for too long; or it fails."""
        while not self._ended.wait(0.25):
            if self._server.should_exit:
                self._ended.wait(_GRACE)
                return

    def stop(self) -> None:
        """Ask the server to end, from anywhere: a signal handler too, as no lock is taken."""
        self._stopped_at = min(self._stopped_at, time.monotonic())
        self._server.should_exit = True

    def close(self) -> None:
        """Stop listening, and end what is still being answered. What hangs is left behind, on a daemon's thread."""
        self.stop()
        self._thread.join(max(0.0, self._time_left()))
        self._socket.close()

    def _time_left(self) -> float:
        return self._stopped_at + _END - time.monotonic()

    def _serve(self) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        # To look through all modules for garbage takes a quarter of a second, in which nobody is served.
        gc.collect()
        gc.freeze()
        try:
            asyncio.run(self._watched())
        except BaseException as error:
            self._failure = error
        finally:
            sys.setswitchinterval(before)
            self._ended.set()

    async def _watched(self) -> None:
        logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to a client that has gone
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        sweeping = asyncio.create_task(sweep(self._crowd))
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            sweeping.cancel()
            for connection in self._crowd.members:  # whose clients read nothing, or whose handlers are blocked
                connection.make_room()
            await asyncio.sleep(0)

    def _on_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._server.should_exit:  # what comes too late for a server that ends is no news
            self._crowd.notes.note(loop_error(context))
