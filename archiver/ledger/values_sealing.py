"""What the ledger says of evidence: archived objects that no manifest names yet, and how far the audit trail has come."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Sealable(StrEnum):
    """Where an archived object stands in the ledger."""

    ENTRY = "entry"
    FORMER = "former"
    CDRS = "cdrs"
    TOMBSTONE = "tombstone"


@dataclass(frozen=True, slots=True)
class Unsealed:
    """An archived object that no manifest names yet, with the digest of its sidecar where there is one.

    `called_at` is the call's date, from which retention counts, None where nobody knows it. A file of CDRs has a `day`
    (YYYY-MM-DD) instead, and no recording; for the others `day` is empty.
    """

    where: Sealable
    entry_id: int
    version: int
    account_id: str
    recording_id: str
    called_at: datetime | None
    key: str
    sha256: bytes
    sidecar_sha256: bytes | None = None
    day: str = ""


@dataclass(frozen=True, slots=True)
class Sealed:
    """An object with the part of its day's manifest that names it, 1-based."""

    unsealed: Unsealed
    part: int


class TrailMarkName(StrEnum):
    """What a mark of the audit trail says: its last record, or the last one that was put into the store."""

    HEAD = "audit_head"
    PUT = "audit_put"


@dataclass(frozen=True, slots=True)
class TrailMark:
    """A record of the audit trail: its number, and the SHA-256 (hex) of its line with the newline."""

    seq: int
    sha256: str
