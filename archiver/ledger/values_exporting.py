"""Values of the ledger's promise that an export needs; they cross its border like those in `base`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from archiver.ledger.values import Version
from archiver.recording import Status
from archiver.window import Window


@dataclass(frozen=True, slots=True)
class Sought:
    """Which recordings of the ledger are looked through: all that fit everything that is given; nothing given is all."""

    account_ids: Sequence[str] = ()
    period: Window | None = None
    recording_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KnownRecording:
    """A recording as the ledger has it, whatever its status, with all its archived objects, oldest first.

    `objects` are none once retention has expired it, and never those that were found damaged and replaced. `called_at` is
    the call's start, or when it was saved, or None; `dated_at` likewise, or when it was archived, or first listed.
    `metadata` are the PBX's bytes as long as no sidecar has them.
    """

    account_id: str
    recording_id: str
    status: Status
    called_at: datetime | None
    dated_at: datetime
    duration_ms: int | None
    reason: str
    flags: str
    metadata: bytes
    objects: Sequence[Version]
