"""Fetches one recording from end to end, as a run does; nothing of it is stored."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from archiver.check import Check, failed
from archiver.errors import ArchiverError, Contradiction, MediaNotThere, PbxError, Severity
from archiver.pbx.base import Framing, Pbx, Retries
from archiver.pipeline.checks import Announced, check_media
from archiver.recording import Fixity, Recording

_MOST_TRIES = 3
_MOST_BYTES = 32 << 20
_INSTANT_S = 1e-6
_HEAD_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Fetched:
    """How it went; without a `framing` no body came, and `recording` is one that is listed, if any.

    `waited_s` is how long the body took to begin, and `bytes_per_s` how fast it came, that wait included.
    """

    check: Check
    recording: Recording | None = None
    framing: Framing | None = None
    waited_s: float = 0.0
    bytes_per_s: float = 0.0


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


async def fetch_one(pbx: Pbx, rows: Sequence[Recording], retries: Retries) -> Fetched:
    """One recording from end to end; the oldest have their media most surely, and small ones cost the PBX little."""
    fitting = sorted((row for row in rows if (row.length_bytes or 0) <= _MOST_BYTES), key=lambda row: row.dated_at)
    error: PbxError | None = None
    for recording in fitting[:_MOST_TRIES]:
        try:
            return await _retried(pbx, recording, retries)
        except PbxError as caught:
            if caught.severity is Severity.FATAL:
                return Fetched(failed("media", caught), recording)
            error = caught
    if error is None:
        check = Check("media", "weak", "nothing was listed that could be fetched", "try again when there were calls")
        return Fetched(check)
    if isinstance(error, MediaNotThere):
        return Fetched(_lacking(error), fitting[0])
    return Fetched(failed("media", error), fitting[0])


async def _retried(pbx: Pbx, recording: Recording, retries: Retries) -> Fetched:
    async for attempt in retries.attempts():
        with attempt:
            return await _fetched(pbx, recording)
    raise AssertionError("unreachable")


async def _fetched(pbx: Pbx, recording: Recording) -> Fetched:
    limit_bytes = _MOST_BYTES if recording.length_bytes is None else recording.length_bytes + 1
    body = bytearray()
    async with pbx.media(recording.account_id, recording.recording_id) as media:
        announced = Announced(media.framing, media.content_length, media.content_type)
        begun_s = time.monotonic()
        while len(body) < limit_bytes and (chunk := await media.read()):
            body += chunk
        took_s = media.waited_s + time.monotonic() - begun_s
        came = partial(
            Fetched,
            recording=recording,
            framing=media.framing,
            waited_s=media.waited_s,
            bytes_per_s=len(body) / max(took_s, _INSTANT_S),
        )
    if recording.length_bytes is None and len(body) >= limit_bytes:
        said = f"the first {len(body)} bytes of a recording came, the rest was not asked for"
        return came(Check("media", "ok", said))
    try:
        check_media(recording, _Received(bytes(body)), announced)
    except Contradiction as error:
        return came(_lacking(error))
    said = f"a recording of {len(body)} bytes came whole and passed the checks; it was not kept"
    return came(Check("media", "ok", said))


def _lacking(error: ArchiverError) -> Check:
    """What one recording lacks is no fault of the setup: a run keeps account of it and goes on."""
    return Check("media", "weak", str(error), "`archiver run` tells which recordings it can't archive, and why")
