"""HTTPS: a certificate and its key, and the handshake before the first byte of HTTP.

asyncio would hand a connection over only after its handshake, for which it waits a minute: whoever opens one and says
nothing would be counted nowhere. Here it is one of the crowd from its first packet.
"""

import asyncio
import ssl
from pathlib import Path

from serving.errors import InvalidRequest
from serving.http.crowd import Crowd


def tls_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """What a server proves itself with, from PEM files. key: None where it stands in the certificate's file.

    Raises InvalidRequest for files that cannot be read or do not belong together, and for a key behind a password.
    """

    def no_password() -> str:
        raise InvalidRequest(
            f"--ssl-keyfile {key or certificate} is encrypted: name one that is not, which only you may read."
        )

    for flag, file in (("--ssl-certfile", certificate), ("--ssl-keyfile", key)):
        if file is not None and not Path(file).is_file():
            raise InvalidRequest(f"{flag} {file} is not a file.")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, no_password)
    except OSError as error:  # ssl's own errors are such too
        with_key = f" and --ssl-keyfile {key}" if key else ""
        raise InvalidRequest(
            f"--ssl-certfile {certificate}{with_key} cannot be used ({error}): both must be PEM files, and the key the "
            "certificate's own."
        ) from error
    return context


class Handshake(asyncio.Protocol):
    """A connection until TLS is agreed on; from then on `behind` has it."""

    def __init__(self, crowd: Crowd, context: ssl.SSLContext, behind: asyncio.Protocol) -> None:
        self._crowd, self._context, self._behind = crowd, context, behind
        self._early = b""  # of a request that came with the end of the handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, as idle as it is, and shake hands."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if self._crowd.enter(self, str(peer[0]) if peer else ""):
            self._task = asyncio.get_running_loop().create_task(self._shake(transport))
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._crowd.leave(self)

    def data_received(self, data: bytes) -> None:
        """Some of a request already."""
        self._early += data

    def make_room(self) -> None:
        """End at once."""
        self._transport.abort()

    def sweep(self, now: float) -> None:
        """The handshake has a limit of its own."""

    async def _shake(self, transport: asyncio.Transport) -> None:
        try:
            agreed = await asyncio.get_running_loop().start_tls(
                transport, self, self._context, server_side=True, ssl_handshake_timeout=self._crowd.limits.head
            )
        except OSError:  # no TLS, or none that both know, or not in time
            agreed = None
        self._crowd.leave(self)
        if agreed is None or agreed.is_closing():
            transport.abort()
            return
        agreed.set_protocol(self._behind)
        self._behind.connection_made(agreed)
        if self._early:
            self._behind.data_received(self._early)
