"""HTTP/1.1 as far as the simulator needs it: heads in, replies out, and replies that are bent on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.simulator.mp3 import MediaSource
    from archiver.simulator.wire import CutHow

Framing = Literal["content_length", "chunked", "close"]

BODY_LIMIT_BYTES: Final = 1_048_576
_FILLER: Final = b"\x00" * 65_536
_BODILESS: Final = frozenset((HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED))
_REQUEST_WORDS: Final = 3


class BadRequestHead(ValueError):
    """The client's head is not HTTP/1."""


@dataclass(slots=True)
class Request:
    """A request; header names in lower case, the path still percent-encoded."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    version: str
    body: bytes = b""

    @property
    def parameters(self) -> dict[str, str]:
        """The query's parameters; of one given twice, the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def account_id(self) -> str:
        """The account the client names, or nothing."""
        return self.headers.get("x-account-id", "")

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants the connection for its next request."""
        return self.version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"


@dataclass(slots=True)
class Bend:
    """How the delivery of a reply is broken.

    Offsets count bytes of the body; a negative one counts from its end, and one beyond the end means the end.
    """

    cut_after_bytes: int | None = None
    cut_fraction: float | None = None
    cut_how: CutHow = "fin"
    stall_after_bytes: int | None = None
    stall_s: float = 0.0
    drip_bytes: int = 0
    drip_interval_s: float = 0.0
    unannounced_bytes: int = 0

    def cut_at(self, length_bytes: int) -> int | None:
        """The offset at which a body of that length ends early."""
        if self.cut_fraction is not None:
            return int(length_bytes * self.cut_fraction)
        return _offset(self.cut_after_bytes, length_bytes)

    def stall_at(self, length_bytes: int) -> int | None:
        """The offset at which a body of that length stops for a while."""
        return _offset(self.stall_after_bytes, length_bytes)


@dataclass(slots=True)
class Reply:
    """An answer: either `body`, or the bytes `[first_byte, end_byte)` of `media`, which are never held as a whole."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    media: MediaSource | None = None
    first_byte: int = 0
    end_byte: int = 0
    framing: Framing = "content_length"
    announced_bytes: int | None = None
    wait_s: float = 0.0
    bend: Bend | None = None
    raw: bytes | None = None

    @property
    def length_bytes(self) -> int:
        """Size of the body."""
        return len(self.body) if self.media is None else self.end_byte - self.first_byte

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces."""
        if self.media is None:
            yield self.body
        else:
            yield from self.media.chunks(self.first_byte, self.end_byte)
        missing = self.bend.unannounced_bytes if self.bend else 0
        while missing > 0:
            yield _FILLER[:missing]
            missing -= len(_FILLER)

    def whole(self) -> bytes:
        """The body in memory."""
        return self.body if self.media is None else b"".join(self.media.chunks(self.first_byte, self.end_byte))

    def replace_body(self, body: bytes) -> None:
        """Send these bytes instead."""
        self.body, self.media = body, None

    def bent(self) -> Bend:
        """The reply's bend, made if there is none."""
        self.bend = self.bend or Bend()
        return self.bend

    def head(self, now: float, *, keeps_alive: bool) -> bytes:
        """Status line and headers, with the blank line."""
        phrase = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}", f"Date: {formatdate(now, usegmt=True)}"]
        if self.status not in _BODILESS:
            lines.append(f"Content-Type: {self.content_type}")
            if self.framing == "chunked":
                lines.append("Transfer-Encoding: chunked")
            elif self.framing == "content_length":
                announced = self.length_bytes if self.announced_bytes is None else self.announced_bytes
                lines.append(f"Content-Length: {announced}")
        if not keeps_alive:
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def parse_head(head: bytes) -> Request:
    """A request from its head.

    Raises:
        BadRequestHead: not a request line of HTTP/1.
    """
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != _REQUEST_WORDS or not words[2].startswith("HTTP/1."):
        raise BadRequestHead(lines[0][:80])
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    path, _, query = words[1].partition("?")
    return Request(words[0], path, query, headers, words[2])


def _offset(told: int | None, length_bytes: int) -> int | None:
    if told is None:
        return None
    return min(told, length_bytes) if told >= 0 else max(0, length_bytes + told)
