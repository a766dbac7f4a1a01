"""A recording's media on their way in: the address, the request as a block, and the body."""

import re
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from urllib.parse import quote

import aiohttp

from archiver.errors import TooSlow
from archiver.pbx.base import Framing, Traffic
from archiver.pbx.foreign import Translated

_TRANSLATED = Translated()
_PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+\Z")


class MediaRequest:
    """An async context manager around one body; leaving it early closes the connection.

    A class and not a decorated generator, which costs several times as much and is entered once per recording.
    """

    def __init__(self, opening: "Callable[[], Awaitable[HttpBody]]", traffic: Traffic) -> None:
        self._opening = opening
        self._traffic = traffic
        self._body: HttpBody | None = None

    async def __aenter__(self) -> "HttpBody":
        self._body = await self._opening()
        return self._body

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._body is not None:
            self._body.close()
            if kind is None:
                self._traffic.successes += 1


class HttpBody:
    """A body on its way in; keeps the promise of `base.MediaBody`."""

    def __init__(
        self, response: aiohttp.ClientResponse, waited_s: float, *, min_rate_bytes_per_s: float, rate_window_s: float
    ) -> None:
        self._response = response
        self._min_rate_bytes_per_s = min_rate_bytes_per_s
        self._rate_window_s = rate_window_s
        self._waiting_s = 0.0
        self._seen = 0
        self.waited_s = waited_s
        self.content_type = response.content_type.lower()
        self.content_length = response.content_length
        if response.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self.framing = Framing.CHUNKED
        else:
            self.framing = Framing.EOF if self.content_length is None else Framing.LENGTH

    def close(self) -> None:
        """A body read to its end gave its connection back already; any other closes it here."""
        self._response.close()

    async def read(self) -> bytes:
        """The next bytes as they come; empty at the end.

        Raises:
            BodyCut, PbxUnreachable, BadAnswer, TooSlow.
        """
        asked_at_s = time.monotonic()
        with _TRANSLATED:
            chunk = await self._response.content.readany()
        # Only waiting for the PBX counts: a slow disk or our own bandwidth limit is not its fault.
        self._waiting_s += time.monotonic() - asked_at_s
        self._seen += len(chunk)
        if chunk and self._waiting_s >= self._rate_window_s:
            if self._seen < self._min_rate_bytes_per_s * self._waiting_s:
                raise TooSlow(f"only {self._seen} bytes came in {self._waiting_s:.0f} s")
            self._waiting_s, self._seen = 0.0, 0
        return chunk


def in_path(recording_id: str) -> str:
    """A recording's id as a segment of an address."""
    if _PLAIN_ID.match(recording_id):
        return recording_id
    return quote(recording_id.encode("utf-8", "surrogatepass"), safe="")


def media_paths(path: str) -> tuple[str, ...]:
    """The configured address and its other form: singular and plural stand in the field side by side."""
    if "/recording/" in path:
        return path, path.replace("/recording/", "/recordings/")
    if "/recordings/" in path:
        return path, path.replace("/recordings/", "/recording/")
    return (path,)
