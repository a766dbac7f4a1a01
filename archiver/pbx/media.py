"""A recording's media on their way in: the address, the request as a block, and the body."""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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
        self.framing = _framing(response)

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


@dataclass(frozen=True, slots=True)
class Peeked:
    """An answer as it is: `headers` as pairs in the order they came, `body` as much of it as was asked for."""

    http_status: int
    headers: tuple[tuple[str, str], ...]
    content_type: str
    framing: Framing
    body: bytes
    waited_s: float

    def header(self, name: str) -> str:
        """The first header of that name, empty when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


async def peeked(response: aiohttp.ClientResponse, waited_s: float, *, most_bytes: int) -> Peeked:
    """Look at an answer; of a body that is longer nothing more is taken, and its connection is closed."""
    body = b""
    while len(body) < most_bytes and (chunk := await response.content.read(most_bytes - len(body))):
        body += chunk
    if not response.content.at_eof():
        response.close()
    headers = tuple((str(key), value) for key, value in response.headers.items())
    return Peeked(response.status, headers, response.content_type.lower(), _framing(response), body, waited_s)


def _framing(response: aiohttp.ClientResponse) -> Framing:
    if response.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return Framing.CHUNKED
    return Framing.EOF if response.content_length is None else Framing.LENGTH


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
