"""What crosses the ledger's border when it is rebuilt from the archive: objects as their sidecars describe them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from archiver.recording import Fixity, Recording


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """An archived object as its sidecar describes it, and which of its recording's versions it is."""

    recording: Recording
    version: int
    key: str
    fixity: Fixity
    sidecar_sha256: bytes
    archived_at: datetime
    run_id: str


class Entering(StrEnum):
    """What became of an object that was to be entered.

    KNOWN: the ledger has just that. DIFFERS: it has this version of the recording, but with another key, size or digest;
    what the ledger says stays. EXPIRED: retention has removed the recording.
    """

    ENTERED = "entered"
    KNOWN = "known"
    DIFFERS = "differs"
    EXPIRED = "expired"
