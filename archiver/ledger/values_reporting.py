"""What the ledger says for the page that people read: volumes by day, reasons, and the recordings worth naming."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from archiver.recording import Status


@dataclass(frozen=True, slots=True)
class DayVolume:
    """An account's recordings of a day in one status, and their bytes; those that are not archived as the PBX says them.

    `day` is that of the call, else of its saving, its archiving or its first listing; None for a time no calendar has.
    """

    account_id: str
    day: date | None
    status: Status
    recordings: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many of an account's recordings that are not archived are so for a reason, which may be empty."""

    account_id: str
    status: Status
    reason: str
    recordings: int


@dataclass(frozen=True, slots=True)
class FlagCount:
    """How many of an account's archived recordings bear a flag; a recording may bear several."""

    account_id: str
    flag: str
    recordings: int


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why recordings are not archived, and what those that are were flagged with."""

    reasons: Sequence[ReasonCount]
    flags: Sequence[FlagCount]


@dataclass(frozen=True, slots=True)
class Noteworthy:
    """A recording that somebody may want to look at: it is not archived, or it is and bears flags.

    `dated_at` is as in `DayVolume`. `key` is empty unless it is archived; `metadata` are the PBX's bytes until then.
    """

    account_id: str
    recording_id: str
    status: Status
    dated_at: datetime | None
    attempts: int
    reason: str
    detail: str
    flags: Sequence[str]
    next_attempt_at: datetime | None
    key: str
    metadata: bytes
