"""Putting a reply on the wire: in one write where it is small, in paced and broken pieces where it is told to be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from archiver.simulator.http import Bend, Reply

if TYPE_CHECKING:
    from archiver.simulator.wire import Wire

_ONE_WRITE_BYTES: Final = 262_144
_PACE_BYTES: Final = 16_384
_NO_BEND: Final = Bend()


async def deliver(wire: Wire, reply: Reply, *, now: float, keeps_alive: bool, bytes_per_s: float) -> tuple[int, bool]:
    """Send a reply; returns the body bytes sent and whether the connection can carry another request.

    Args:
        wire: where to.
        reply: what to send, and how it is bent.
        now: Unix seconds, for the Date header.
        keeps_alive: whether the client asked to keep the connection.
        bytes_per_s: the most of a streamed body to send in a second; 0 for no limit.

    Raises:
        WireClosed: the client went away.
    """
    keeps_alive = keeps_alive and reply.framing != "close"
    if reply.raw is not None:
        await wire.write(reply.raw)
        await wire.cut(reply.bend.cut_how if reply.bend else "fin")
        return len(reply.raw), False
    head = reply.head(now, keeps_alive=keeps_alive)
    is_plain = reply.bend is None and reply.framing != "chunked" and not bytes_per_s
    if is_plain and reply.length_bytes < _ONE_WRITE_BYTES and reply.announced_bytes is None:
        await wire.write(head + reply.whole())
        return reply.length_bytes, keeps_alive
    await wire.write(head)
    stream = _Stream(wire, reply, bytes_per_s)
    if await stream.send():
        return stream.sent_bytes, keeps_alive and reply.announced_bytes in {None, stream.sent_bytes}
    await wire.cut(stream.bend.cut_how)
    return stream.sent_bytes, False


class _Stream:
    """A body on its way."""

    __slots__ = (
        "_begun_at",
        "_bytes_per_s",
        "_chunked",
        "_pieces",
        "_wire",
        "bend",
        "cut_at",
        "sent_bytes",
        "stall_at",
    )

    def __init__(self, wire: Wire, reply: Reply, bytes_per_s: float) -> None:
        self._wire = wire
        self._bytes_per_s = bytes_per_s
        self._chunked = reply.framing == "chunked"
        self._pieces = reply.pieces()
        self._begun_at = asyncio.get_running_loop().time()
        self.bend = reply.bend or _NO_BEND
        self.cut_at = self.bend.cut_at(reply.length_bytes)
        self.stall_at = self.bend.stall_at(reply.length_bytes)
        self.sent_bytes = 0

    async def send(self) -> bool:
        """Send it; False when it is to end here, unfinished."""
        if await self._ends_here():
            return False
        for piece in self._pieces:
            begin = 0
            while begin < len(piece):
                part = piece[begin : begin + self._room(len(piece) - begin)]
                begin += len(part)
                await self._write(part)
                if await self._ends_here():
                    return False
        if self._chunked:
            await self._wire.write(b"0\r\n\r\n")
        return True

    def _room(self, wanted: int) -> int:
        """How many bytes can go at once before something has to happen."""
        limits = [wanted]
        limits += [mark - self.sent_bytes for mark in (self.cut_at, self.stall_at) if mark is not None]
        limits.append(self.bend.drip_bytes or wanted)
        if self._bytes_per_s:
            limits.append(_PACE_BYTES)
        return min(limit for limit in limits if limit > 0)

    async def _write(self, part: bytes) -> None:
        self.sent_bytes += len(part)
        if self._bytes_per_s:
            due_at = self._begun_at + self.sent_bytes / self._bytes_per_s
            await asyncio.sleep(due_at - asyncio.get_running_loop().time())
        await self._wire.write(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part)
        # At least one round of the loop: a body without an end must not keep everybody else from theirs.
        await asyncio.sleep(self.bend.drip_interval_s if self.bend.drip_bytes else 0)

    async def _ends_here(self) -> bool:
        if self.sent_bytes == self.stall_at:
            self.stall_at = None
            await self._wire.flush()
            await asyncio.sleep(self.bend.stall_s)
        return self.sent_bytes == self.cut_at
