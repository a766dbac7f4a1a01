"""One TCP connection, plain or TLS, that can also be ended in every rude way there is."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, Literal, cast

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

CutHow = Literal["fin", "rst", "tls_no_close_notify"]

_HEAD_LIMIT_BYTES: Final = 65_536
_BUFFER_LIMIT_BYTES: Final = 262_144
_HANDSHAKE_TIMEOUT_S: Final = 10.0
_FLUSH_POLL_S: Final = 0.001


class WireClosed(ConnectionError):
    """The connection has ended."""


class HeadTooLarge(ValueError):
    """The client sent more than 64 KiB without an end of its request head."""


class Wire(asyncio.Protocol):
    """Reads request heads and bodies, writes bytes, and ends as told.

    The connection starts plain even for TLS and is upgraded by `start_tls`: that leaves the raw transport in hand,
    whose buffer must be empty before a TLS stream is cut without its close_notify.
    """

    def __init__(self, opened: Callable[[Wire], None], closed: Callable[[Wire], None], *, paused: bool) -> None:
        self._opened = opened
        self._closed = closed
        self._paused = paused
        self._buffer = bytearray()
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._raw: asyncio.Transport
        self._transport: asyncio.Transport
        self.is_closed = False
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client connected."""
        # A cast and no check: uvloop's transports are no asyncio.Transport by inheritance.
        self._raw = self._transport = cast("asyncio.Transport", transport)
        if self._paused:
            self._raw.pause_reading()
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        self._opened(self)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Take the connection to TLS as the server.

        Raises:
            OSError: the handshake failed (ssl.SSLError is one).
        """
        loop = asyncio.get_running_loop()
        upgraded = await loop.start_tls(
            self._raw, self, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S
        )
        if upgraded is None or self.is_closed:
            raise WireClosed
        self._transport = upgraded

    def data_received(self, data: bytes) -> None:
        """More of a request is in."""
        self._buffer += data
        if len(self._buffer) > _BUFFER_LIMIT_BYTES:
            self._transport.pause_reading()
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._writable is None:
            self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The client caught up."""
        waiter, self._writable = self._writable, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the protocol has it
        """The connection ended, however it did."""
        self.is_closed = True
        self.resume_writing()
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)
        self._closed(self)

    async def read_head(self) -> bytes:
        """The next request's head without its blank line.

        Raises:
            WireClosed: the client is gone.
            HeadTooLarge: no end within 64 KiB.
        """
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _HEAD_LIMIT_BYTES:
                raise HeadTooLarge
            await self._more()
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    async def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            WireClosed: the client went away before.
        """
        while len(self._buffer) < count:
            await self._more()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _more(self) -> None:
        if self.is_closed:
            raise WireClosed
        if not self._transport.is_reading():
            self._transport.resume_reading()
        self._readable = asyncio.get_running_loop().create_future()
        try:
            await self._readable
        finally:
            self._readable = None

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the client reads too slowly.

        Raises:
            WireClosed: the client is gone.
        """
        # A transport whose send failed says so at once, and tells its protocol only in the loop's next round.
        if self.is_closed or self._transport.is_closing():
            raise WireClosed
        self._transport.write(data)
        if self._writable is not None:
            await asyncio.shield(self._writable)

    async def flush(self) -> None:
        """Wait until every byte written has gone to the kernel.

        Raises:
            WireClosed: the client is gone.
        """
        while self._transport.get_write_buffer_size() or self._raw.get_write_buffer_size():
            if self.is_closed:
                raise WireClosed
            await asyncio.sleep(_FLUSH_POLL_S)

    async def cut(self, how: CutHow) -> None:
        """End the connection after what was written: properly, with a reset, or without TLS's close_notify."""
        await self.flush()
        if how == "fin":
            self._transport.close()
            return
        sock = self._raw.get_extra_info("socket")
        if how == "rst" and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()

    def close(self) -> None:
        """End properly, once what was written is sent."""
        self._transport.close()

    def abort(self) -> None:
        """End at once; what is not yet sent is lost."""
        self._transport.abort()
