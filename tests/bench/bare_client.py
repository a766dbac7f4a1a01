"""The barest client: `bare_client.py HOST PORT CONCURRENCY REQUESTS`, the last a JSON file with a list of request heads.

It keeps exactly so many requests in flight, one a connection, throws away what comes, and shows what a server can give. All
answers must be of one size, as those of the live PBX are.
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvloop


class Connection(asyncio.Protocol):
    """Asks for one after another until there is nothing left."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._size_bytes = 0
        self._got = b""
        self._got_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._got_bytes += len(data)
        if not self._size_bytes:
            self._got += data
            self._size_bytes = _size_bytes(self._got)
        if self._size_bytes and self._got_bytes >= self._size_bytes:
            self._got_bytes -= self._size_bytes
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(exc or ConnectionError("the server hung up"))

    def _ask(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
        elif not self.over.done():
            self.over.set_result(None)


def _size_bytes(got: bytes) -> int:
    """The size of an answer, head and body; 0 while its head is not all there."""
    head, blank, _ = got.partition(b"\r\n\r\n")
    if not blank:
        return 0
    told = re.search(rb"\r\nContent-Length: (\d+)", head)
    if not head.startswith(b"HTTP/1.1 200") or told is None:
        raise RuntimeError(f"no media: {head.decode('latin-1')}")
    return len(head) + 4 + int(told[1])


async def _run(host: str, port: int, concurrency: int, requests: Iterator[bytes]) -> None:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(requests), host, port) for _ in range(concurrency)]
    await asyncio.gather(*(connection.over for _, connection in made))


def main() -> None:
    host, port, concurrency, file = sys.argv[1:]
    heads: list[str] = json.loads(Path(file).read_text(encoding="ascii"))
    uvloop.run(_run(host, int(port), int(concurrency), iter([head.encode("ascii") for head in heads])))


if __name__ == "__main__":
    main()
