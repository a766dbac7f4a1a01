"""Values of the ledger's promise that reconciling an archive needs; they cross its border like those in `base`."""

from dataclasses import dataclass
from datetime import date, datetime

from archiver.recording import Fixity, Status


@dataclass(frozen=True, slots=True)
class Standing:
    """How a recording stands in the ledger.

    `key` is that of its archived object, else empty, and `size_bytes` the object's size, else the listed length. `dated_at`
    is the call's start, or when it was saved, or None. `was_listed` is false for one that only a CDR ever named. `reason`
    is that of the last outcome.
    """

    recording_id: str
    status: Status
    key: str
    size_bytes: int
    dated_at: datetime | None
    was_listed: bool
    next_attempt_at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True)
class CdrFile:
    """A part of an account's archived CDRs of a day, 1-based; `day` in the archive's time zone, `rows` how many CDRs."""

    account_id: str
    day: date
    part: int
    key: str
    fixity: Fixity
    rows: int
    archived_at: datetime
