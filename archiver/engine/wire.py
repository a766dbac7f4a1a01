"""Messages between a run's processes. Pickled: both ends are the same program, and nobody else can reach the socket."""

import asyncio
import pickle
import socket
from dataclasses import dataclass
from typing import Any, Self

from archiver.pbx.base import Traffic
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended
from archiver.pipeline.tally import Tally

_SIZE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Begin:
    """To a process: its share of the work, and of the limits."""

    share: Any
    part: float


@dataclass(frozen=True, slots=True)
class Given:
    """To a process: the partition it asked for, None when there are no more."""

    partition: Partition | None


@dataclass(frozen=True, slots=True)
class Part:
    """To a process: its share of the limits from now on."""

    part: float


@dataclass(frozen=True, slots=True)
class Lower:
    """To a process: another one has found that the PBX has too much to do."""


@dataclass(frozen=True, slots=True)
class Stop:
    """To a process: end in good order."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """From a process: it asks for a partition."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A recording that was not archived, for the log."""

    account_id: str
    recording_id: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class News:
    """From a process: its counts since it began, bytes that came, and what was not archived since the last news.

    `lowered` is how often it has lowered what it asks for at a time.
    """

    tally: Tally
    traffic: Traffic
    bytes_came: int
    lowered: int
    unsettled: tuple[Unsettled, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """From a process: its work is over, and everything is durable."""

    ended: Ended


@dataclass(frozen=True, slots=True)
class Crashed:
    """From a process: a bug, with its traceback."""

    traceback: str


class Wire:
    """Whole messages over one end of a socket pair."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Take over one end."""
        end.setblocking(False)
        return cls(*await asyncio.open_connection(sock=end))

    async def send(self, message: object) -> None:
        """Send a message; waits while the other end is far behind.

        Raises:
            ConnectionError: the other end is gone.
        """
        if self._writer.is_closing():
            # The other end may be gone without our having read so yet; uvloop's own error for this is no ConnectionError.
            raise ConnectionResetError("the wire is closed")
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        self._writer.write(len(data).to_bytes(_SIZE_BYTES, "big") + data)
        await self._writer.drain()

    async def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError, ConnectionError: the other end is gone.
        """
        size_bytes = int.from_bytes(await self._reader.readexactly(_SIZE_BYTES), "big")
        return pickle.loads(await self._reader.readexactly(size_bytes))  # noqa: S301 - our own process wrote it

    def close(self) -> None:
        """Let go; the other end sees the end."""
        self._writer.close()
