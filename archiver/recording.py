"""The words of the domain: a recording, its status, its fixity."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class Status(StrEnum):
    """Where a recording stands; a closed set, written to the ledger and to reports."""

    PENDING = "pending"
    ARCHIVED = "archived"
    MISSING = "missing"
    QUARANTINED = "quarantined"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Fixity:
    """Size in bytes and SHA-256 (32 raw bytes) of a recording's media."""

    size_bytes: int
    sha256: bytes


class Counted(Iterator[bytes]):
    """Chunks on their way; `fixity` is that of what went by."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    @property
    def fixity(self) -> Fixity:
        """Size and SHA-256."""
        return Fixity(self._size_bytes, self._digest.digest())

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._digest.update(chunk)
        self._size_bytes += len(chunk)
        return chunk


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording as the PBX lists it.

    `start_at` is the start of the call and `saved_at` when the PBX saved it (`pvt_created`), both aware UTC or None
    where the PBX sent nothing usable. `length_bytes` is the media's length when the metadata gives a positive one;
    `digest_md5` its 16 raw bytes when there is a digest. `extension` is the media type as a file extension without a
    dot. `metadata` is the JSON object byte for byte, empty when only a CDR named the recording. `doubt` says what in
    the metadata makes no sense (for instance a negative length): media that come along with it are quarantined.
    """

    account_id: str
    recording_id: str
    start_at: datetime | None
    saved_at: datetime | None
    duration_ms: int | None
    length_bytes: int | None
    digest_md5: bytes | None
    extension: str
    metadata: bytes
    doubt: str = ""

    @property
    def dated_at(self) -> datetime:
        """The instant the recording is filed under: start, else saved, else the month its id begins with, else 1970."""
        return filed_at(self.recording_id, self.start_at or self.saved_at)


def filed_at(recording_id: str, called_at: datetime | None) -> datetime:
    """The instant a recording is filed under: when the call was, where that is known, else the month its id begins with."""
    if called_at is not None:
        return called_at
    month = recording_id[:6]
    if recording_id[6:7] == "-" and month.isascii() and month.isdigit() and "01" <= month[4:] <= "12":
        year = int(month[:4])
        if 1990 <= year <= 2200:  # noqa: PLR2004 - any call recorder's lifetime
            return datetime(year, int(month[4:]), 1, tzinfo=UTC)
    return datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cdr:
    """What the archiver needs of a CDR: the recordings it names, and when the leg was.

    `billed_s` and `lasted_s` are its seconds of talk and of all, None where the PBX sends none; `hangup_cause` is in
    capitals, empty likewise. `metadata` is the CDR's JSON byte for byte.
    """

    account_id: str
    cdr_id: str
    at: datetime | None
    recording_ids: tuple[str, ...]
    billed_s: int | None = None
    lasted_s: int | None = None
    hangup_cause: str = ""
    metadata: bytes = b""
