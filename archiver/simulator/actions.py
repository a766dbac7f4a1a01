"""What a fault does to an answer. Each action is a value; several in one fault are applied in order."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from archiver.simulator.http import Framing, Reply
from archiver.simulator.wire import CutHow

if TYPE_CHECKING:
    from collections.abc import Mapping

CutFraming = Literal["content_length", "chunked", "close", "gzip"]
BodyKind = Literal["html", "json_metadata", "wav", "empty", "other_recording"]

_HTML = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\n"
_WAV_HEADER_BYTES = 44


class Surroundings(Protocol):
    """What an action may ask of the PBX about the request it spoils."""

    def metadata(self) -> bytes:
        """The asked-for recording's metadata as JSON, in the listing's envelope."""

    def other_media(self) -> bytes:
        """The media of another recording of the same account; empty if there is none."""

    def expire_tokens(self) -> None:
        """Make every token issued so far invalid."""


class Action:
    """Base of all actions: does nothing."""

    __slots__ = ()

    def prepare(self, around: Surroundings) -> None:
        """Act before the PBX works out its answer."""

    def instead(self) -> Reply | None:
        """An answer in place of the PBX's own, which is then not worked out at all."""
        return None

    def bend(self, reply: Reply, around: Surroundings) -> None:
        """Change the answer or the way it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Action):
    """Answer with this status, headers and text."""

    code: int
    text: str = ""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] | None = None

    def instead(self) -> Reply:
        """The bare answer."""
        return Reply(self.code, self.text.encode(), self.content_type, list((self.headers or {}).items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(Action):
    """Send the client elsewhere."""

    location: str
    code: int = 307

    def instead(self) -> Reply:
        """The redirect."""
        return Reply(self.code, headers=[("Location", self.location)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop(Action):
    """Close without a byte of answer, as a server does that drops a kept connection just when it is used again."""

    how: CutHow = "fin"

    def instead(self) -> Reply:
        """Nothing at all."""
        reply = Reply(0, raw=b"")
        reply.bent().cut_how = self.how
        return reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw(Action):
    """Send these characters (as Latin-1) as the whole answer, status line included, and close."""

    text: str

    def instead(self) -> Reply:
        """Just these bytes."""
        return Reply(0, raw=self.text.encode("latin-1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(Action):
    """End the connection after so much of the body.

    Attributes:
        after_bytes: how much of it; negative counts from the end.
        fraction: the same as a share of the body, from 0 to 1; goes before after_bytes.
        how: with FIN (and close_notify), with RST, or by FIN without TLS's close_notify.
        framing: how the body is framed; None leaves it; `gzip` is compressed and ends with the connection.
    """

    after_bytes: int | None = None
    fraction: float | None = None
    how: CutHow = "fin"
    framing: CutFraming | None = None

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002 -- every action has this shape
        """Mark the place."""
        if self.framing == "gzip":
            _compress(reply)
            reply.framing = "close"
        elif self.framing is not None:
            reply.framing = self.framing
        bend = reply.bent()
        bend.cut_after_bytes = 0 if self.after_bytes is None else self.after_bytes
        bend.cut_fraction, bend.cut_how = self.fraction, self.how


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame(Action):
    """Frame the body this way, and leave it whole."""

    framing: Framing

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Change the framing."""
        reply.framing = self.framing


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(Action):
    """Stop for so many seconds after so much of the body; negative counts from its end."""

    after_bytes: int
    seconds: float

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Mark the place."""
        bend = reply.bent()
        bend.stall_after_bytes, bend.stall_s = self.after_bytes, self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip(Action):
    """Send the body so many bytes at a time, with so many seconds after each."""

    bytes: int
    interval_s: float

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Set the pace."""
        bend = reply.bent()
        bend.drip_bytes, bend.drip_interval_s = max(1, self.bytes), self.interval_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Body(Action):
    """Send another body with the answer's status and headers.

    Attributes:
        kind: a ready-made one; else `text` (as UTF-8), else `data`.
        right_length: fill up or cut off to the length of the body it replaces.
    """

    kind: BodyKind | None = None
    text: str | None = None
    data: bytes = b""
    right_length: bool = False

    def bend(self, reply: Reply, around: Surroundings) -> None:
        """Swap the body."""
        length = reply.length_bytes
        body = self._body(length, around)
        if self.right_length and body:
            filler = body if self.kind == "other_recording" else b" "
            body = (body + filler * (max(0, length - len(body)) // len(filler) + 1))[:length]
        reply.replace_body(body)

    def _body(self, length: int, around: Surroundings) -> bytes:
        match self.kind:
            case None:
                return self.data if self.text is None else self.text.encode("utf-8", "surrogatepass")
            case "html":
                return _HTML
            case "json_metadata":
                return around.metadata()
            case "wav":
                return _wav(length)
            case "empty":
                return b""
            case "other_recording":
                return around.other_media()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extra(Action):
    """Send more bytes than belong to the body; `announced` counts them into Content-Length, too."""

    bytes: int
    announced: bool = True

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Append them."""
        reply.bent().unannounced_bytes = self.bytes
        if self.announced:
            reply.announced_bytes = reply.length_bytes + self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentLength(Action):
    """Announce a length; `bytes` as it stands, else `plus` relative to the true one."""

    bytes: int | None = None
    plus: int = 0

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Announce it."""
        reply.announced_bytes = reply.length_bytes + self.plus if self.bytes is None else self.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentEncoding(Action):
    """Name a Content-Encoding: `gzip` really compresses, any other name leaves the bytes as they are."""

    name: str

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Encode, or pretend to."""
        if self.name == "gzip":
            _compress(reply)
        else:
            reply.headers.append(("Content-Encoding", self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Headers(Action):
    """Add headers to the answer."""

    values: Mapping[str, str]

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Add them."""
        reply.headers += self.values.items()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFlood(Action):
    """Add so many headers (cookies every other one) with values of so many bytes."""

    count: int
    value_bytes: int = 64

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Add them."""
        value = "x" * self.value_bytes
        reply.headers += [
            ("Set-Cookie", f"c{ordinal}={value}") if ordinal % 2 else (f"X-Flood-{ordinal}", value)
            for ordinal in range(self.count)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(Action):
    """Wait so many seconds before the first byte of the answer."""

    seconds: float

    def bend(self, reply: Reply, around: Surroundings) -> None:  # noqa: ARG002
        """Add the wait."""
        reply.wait_s += self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireToken(Action):
    """Make every token issued so far invalid, this request's included, just before it is looked at."""

    def prepare(self, around: Surroundings) -> None:
        """Expire them."""
        around.expire_tokens()


def _compress(reply: Reply) -> None:
    reply.replace_body(gzip.compress(reply.whole(), mtime=0))
    reply.headers.append(("Content-Encoding", "gzip"))


def _wav(length: int) -> bytes:
    """Silence as 8 kHz 16-bit WAV of exactly that many bytes; the header alone if they are fewer."""
    samples = max(0, length - _WAV_HEADER_BYTES)
    rate = 8000
    form = b"fmt " + (16).to_bytes(4, "little") + b"\x01\x00\x01\x00" + rate.to_bytes(4, "little")
    form += (2 * rate).to_bytes(4, "little") + b"\x02\x00\x10\x00"
    head = b"RIFF" + (samples + _WAV_HEADER_BYTES - 8).to_bytes(4, "little") + b"WAVE" + form
    return head + b"data" + samples.to_bytes(4, "little") + bytes(samples)
