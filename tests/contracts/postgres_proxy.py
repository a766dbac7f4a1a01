"""A wire between a ledger and its PostgreSQL server that can be cut at a chosen moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import Any


class Cut(Enum):
    """What is lost of the next message with the word."""

    REQUEST = auto()
    """It never reaches the server."""
    REPLY = auto()
    """The server does it, and the answer is lost."""
    REST = auto()
    """It arrives, and then nothing more, as from a process that is stopped; the connection stays."""


class PostgresProxy:
    """Hands over bytes; `arm` cuts the connection at the next message that holds a word."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._armed: tuple[bytes, Cut] | None = None
        self._ways: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[Any]] = set()
        self.port = 0
        self.cuts = 0

    def arm(self, word: bytes, cut: Cut) -> None:
        self._armed = (word, cut)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ours, theirs = await asyncio.open_connection("127.0.0.1", self._server_port)
        deaf = asyncio.Event()
        ways = {
            asyncio.create_task(self._forward(reader, theirs, deaf)),
            asyncio.create_task(self._back(ours, writer, deaf)),
        }
        self._ways |= ways
        this = asyncio.current_task()
        if this is not None:
            self._connections.add(this)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._ways -= ways
        for side in (writer, theirs):
            side.close()
            with suppress(OSError):
                await side.wait_closed()

    async def end(self) -> None:
        """Cut what is still open."""
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._connections)

    async def _forward(self, reader: asyncio.StreamReader, theirs: asyncio.StreamWriter, deaf: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            if self._armed is not None and self._armed[0] in data:
                cut, self._armed = self._armed[1], None
                self.cuts += 1
                if cut is Cut.REQUEST:
                    return
                if cut is Cut.REST:
                    theirs.write(data)
                    await theirs.drain()
                    await asyncio.Event().wait()
                deaf.set()
            theirs.write(data)
            await theirs.drain()

    async def _back(self, ours: asyncio.StreamReader, writer: asyncio.StreamWriter, deaf: asyncio.Event) -> None:
        while data := await ours.read(1 << 16):
            if deaf.is_set():
                return
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def wire(server_port: int) -> AsyncIterator[PostgresProxy]:
    """A wire that is open for as long as the context lasts."""
    proxy = PostgresProxy(server_port)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        await proxy.end()
