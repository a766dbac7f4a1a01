"""Examines the PBX for `doctor`: the sign-in, the clock, a page of the listing, and one recording's media.

How it lists (what its time filter means, what its cursor does) is not tried out here.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from archiver.check import Check, failed
from archiver.errors import (
    ArchiverError,
    BadSignInReply,
    Contradiction,
    MediaNotThere,
    PbxError,
    Severity,
    SignInRefused,
)
from archiver.pbx.base import Pbx
from archiver.pipeline.checks import Announced, check_media
from archiver.recording import Fixity, Recording
from archiver.window import Window

_ODD_SKEW_S = 60
_DAYS = (1, 7)
"""The last day; on a quiet one the last week."""
_MOST_ROWS = 200
_MOST_TRIES = 3
_MOST_BYTES = 32 << 20
_HEAD_BYTES = 64 << 10


class OpenPbx(Pbx, Protocol):
    """A PBX that can be signed in to without asking it for anything."""

    @property
    def skew_s(self) -> float | None:
        """How far this machine's clock is ahead of the PBX's; None before the sign-in, or when it does not tell."""
        ...

    async def sign_in(self) -> None:
        """Sign in now.

        Raises:
            PbxError.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Received:
    """A body in memory; nothing of it is stored."""

    body: bytes

    @property
    def fixity(self) -> Fixity:
        return Fixity(len(self.body), hashlib.sha256(self.body).digest())

    @property
    def md5(self) -> bytes:
        return hashlib.md5(self.body, usedforsecurity=False).digest()

    @property
    def head(self) -> bytes:
        return self.body[:_HEAD_BYTES]

    def chunks(self) -> Iterator[bytes]:
        yield self.body

    def part(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self.body[offset_bytes : offset_bytes + size_bytes]

    def discard(self) -> None:
        """Nothing to give back."""


async def examine(pbx: OpenPbx, base_url: str, account_ids: Sequence[str], *, now: datetime) -> tuple[Check, ...]:
    """Sign in, compare clocks, list a page of the first account, fetch one recording. Stops where the rest says nothing.

    Raises:
        ArchiverError: only settings that can't be used, such as a `pbx.ca_file` that is none.
    """
    by = "TLS with a certificate that is trusted" if base_url.startswith("https:") else "plain HTTP on loopback"
    reached = Check("reachable", "ok", f"{base_url} answers, {by}")
    try:
        await pbx.sign_in()
    except (SignInRefused, BadSignInReply) as error:
        return (reached, _clock(pbx), failed("sign_in", error))
    except PbxError as error:
        return (failed("reachable", error),)
    checks = [reached, _clock(pbx), Check("sign_in", "ok", "the PBX takes the user and the password")]
    try:
        listing, rows = await _listing(pbx, account_ids[0], now)
    except PbxError as error:
        return (*checks, failed("listing", error))
    return (*checks, listing, await _media(pbx, rows))


def _clock(pbx: OpenPbx) -> Check:
    if pbx.skew_s is None:
        return Check("clock", "weak", "the PBX does not tell its time")
    if abs(pbx.skew_s) > _ODD_SKEW_S:
        advice = "set both (NTP): what was just recorded may be listed a night late"
        return Check("clock", "weak", f"this machine's clock is {pbx.skew_s:+.0f} s off the PBX's", advice)
    return Check("clock", "ok", f"within {_ODD_SKEW_S} s of the PBX's")


async def _listing(pbx: Pbx, account_id: str, now: datetime) -> tuple[Check, Sequence[Recording]]:
    """One page, of the last day that had calls."""
    for days in _DAYS:
        window = Window(now - timedelta(days=days), now)
        page = await pbx.recordings_page(account_id, window, page_size=_MOST_ROWS, cursor=None)
        if page.unreadable:
            said = f"{page.unreadable} rows of account {account_id} have no usable id: such windows stay incomplete"
            return Check("listing", "weak", said, "ask whoever runs the PBX"), page.rows
        if page.rows:
            more = ", and there are more" if page.cursor is not None else ""
            said = f"account {account_id}: {len(page.rows)} recordings on a page of the last {24 * days} hours{more}"
            return Check("listing", "ok", said), page.rows
    said = f"account {account_id}: the listing answers, without a recording in the last {_DAYS[-1]} days"
    return Check("listing", "weak", said, "check that pbx.account_ids names accounts whose calls are recorded"), ()


async def _media(pbx: Pbx, rows: Sequence[Recording]) -> Check:
    """One recording from end to end; the oldest have their media most surely, and small ones cost the PBX little."""
    fitting = sorted((row for row in rows if (row.length_bytes or 0) <= _MOST_BYTES), key=lambda row: row.dated_at)
    error: ArchiverError | None = None
    for recording in fitting[:_MOST_TRIES]:
        try:
            return await _fetched(pbx, recording)
        except (PbxError, Contradiction) as caught:
            if caught.severity is Severity.FATAL:
                return failed("media", caught)
            error = caught
    if error is None:
        return Check("media", "weak", "nothing was listed that could be fetched", "try again when there were calls")
    if isinstance(error, MediaNotThere | Contradiction):
        # What one recording lacks is no fault of the setup: a run keeps account of it and goes on.
        return Check("media", "weak", str(error), "`archiver run` tells which recordings it can't archive, and why")
    return failed("media", error)


async def _fetched(pbx: Pbx, recording: Recording) -> Check:
    limit_bytes = _MOST_BYTES if recording.length_bytes is None else recording.length_bytes + 1
    body = bytearray()
    async with pbx.media(recording.account_id, recording.recording_id) as media:
        announced = Announced(media.framing, media.content_length, media.content_type)
        while len(body) < limit_bytes and (chunk := await media.read()):
            body += chunk
    if recording.length_bytes is None and len(body) >= limit_bytes:
        return Check("media", "ok", f"the first {len(body)} bytes of a recording came, the rest was not asked for")
    check_media(recording, _Received(bytes(body)), announced)
    return Check("media", "ok", f"a recording of {len(body)} bytes came whole and passed the checks; it was not kept")
