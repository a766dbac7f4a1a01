"""What `doctor` may see of the PBX beyond the promise in `base`: answers as they came, as values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from archiver.errors import PbxError
from archiver.pbx.base import Retries
from archiver.recording import Cdr, Recording
from archiver.window import Window

Unit = Literal["s", "ms"]
BodyForm = Literal["text", "json", "html", "empty"]
TlsProblem = Literal["", "expired", "not_yet_valid", "other_host", "self_signed", "unknown_issuer", "other"]


@dataclass(frozen=True, slots=True)
class Question:
    """A page to ask for. Without a `page_size` that parameter is left out; `odd_parameter` adds one that nobody knows.

    `cursor_at` goes on from an instant, in the PBX's own count, where no cursor was given out.
    """

    account_id: str
    window: Window
    unit: Unit
    page_size: int | None
    cursor: str | None = None
    cursor_at: datetime | None = None
    odd_parameter: bool = False


@dataclass(frozen=True, slots=True)
class PageLook:
    """How a page was written; a text is empty where the page does not show it.

    `cursor_place`: `top`, `in_data` or `both`. `end`: how a page without a cursor says so: `absent`, `null` or `empty`.
    `empty`: what a page without rows holds in their place: `list` or `null`. `numbers`: the kinds met in fields that
    count, `number` and `text`. `attachments`: how many each row has. `digests`: how many rows have one. `clocks`: what a
    CDR's timestamp counts: `gregorian`, `unix`, `ms`.
    """

    cursor_place: str = ""
    end: str = ""
    empty: str = ""
    numbers: tuple[str, ...] = ()
    attachments: tuple[int, ...] = ()
    digests: int = 0
    clocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PageSeen:
    """A page, or the `refusal` that came in its place; of a listing of recordings `cdrs` is empty, and vice versa."""

    refusal: PbxError | None = None
    recordings: tuple[Recording, ...] = ()
    cdrs: tuple[Cdr, ...] = ()
    cursor: str | None = None
    unreadable: int = 0
    look: PageLook = PageLook()


@dataclass(frozen=True, slots=True)
class MediaSeen:
    """The head of an answer for media's first byte, or the `refusal` in its place; the body was not taken.

    `partial` says that one byte was going to come, and not all of them.
    """

    http_status: int
    refusal: PbxError | None = None
    content_type: str = ""
    partial: bool = False
    etag: bool = False
    content_disposition: bool = False


@dataclass(frozen=True, slots=True)
class TlsSeen:
    """The connection's TLS; with a `problem` the certificate was refused, and `said` is the library's word for it.

    Subject, issuer and expiry are of the server's own certificate, empty and None where it was refused.
    """

    problem: TlsProblem = ""
    said: str = ""
    protocol: str = ""
    subject: str = ""
    issuer: str = ""
    names: tuple[str, ...] = ()
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Signs:
    """What was met in all answers so far.

    `too_many` counts answers 429, `retry_after` those that said when to come back. `rate_headers` are the names of
    headers about a rate limit. `error_bodies` are the forms of bodies of refusals. `waits_s` holds how long each page
    took, in seconds.
    """

    requests: int = 0
    too_many: int = 0
    retry_after: int = 0
    rate_headers: tuple[str, ...] = ()
    error_bodies: tuple[BodyForm, ...] = ()
    waits_s: tuple[float, ...] = ()


class Probe(Protocol):
    """Asks what no run asks; through the same limits, sign-in and retries.

    A refusal that a repetition would not change (4xx, a redirect) is a value; everything else is raised as PbxError.
    """

    @property
    def signs(self) -> Signs:
        """What was met so far."""
        ...

    @property
    def retries(self) -> Retries:
        """How what may pass is tried again."""
        ...

    @property
    def token_lifetime_s(self) -> float | None:
        """How long the sign-in's token lives; None when it does not say."""
        ...

    @property
    def media_paths(self) -> tuple[str, ...]:
        """The address of media as it is set, and its other form if it has one."""
        ...

    async def tls(self) -> TlsSeen | None:
        """A TLS handshake by itself, nothing asked; None without TLS.

        Raises:
            PbxUnreachable, SettingsError.
        """
        ...

    async def recordings(self, question: Question) -> PageSeen:
        """A page of recordings."""
        ...

    async def cdrs(self, question: Question) -> PageSeen:
        """A page of CDRs."""
        ...

    async def media_head(self, account_id: str, recording_id: str, *, path: str, accept: str) -> MediaSeen:
        """The head of an answer for the first byte of media, at this form of the address."""
        ...
