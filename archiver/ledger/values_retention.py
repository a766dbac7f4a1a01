"""What crosses the ledger's border for retention: holds, what a recording still has, tombstones."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from archiver.recording import Fixity, Status


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: nothing that it covers expires while it is active. A name is used once.

    It covers what meets each condition that is given: the account, the call's date in the half-open period, one of the
    ids, one of the user patterns; without any it covers everything. Times are aware UTC. `released_by` is empty while it
    is active.
    """

    name: str
    reason: str
    reference: str
    placed_by: str
    placed_at: datetime
    account_id: str = ""
    since_at: datetime | None = None
    until_at: datetime | None = None
    recording_ids: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    released_by: str = ""
    released_at: datetime | None = None
    release_reason: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it still holds."""
        return self.released_at is None


@dataclass(frozen=True, slots=True)
class KnownHold:
    """A hold with its number: one that was placed later has a greater one."""

    number: int
    hold: Hold


@dataclass(frozen=True, slots=True)
class KeptObject:
    """Media that lie in the store, damaged ones too; `has_sidecar` says that the ledger knows of one beside them."""

    key: str
    fixity: Fixity
    has_sidecar: bool


@dataclass(frozen=True, slots=True)
class RetentionRow:
    """A recording as retention sees it.

    `called_at` is the call's start, or when it was saved; `archived_at` is None for what was never archived.
    `objects` are its versions, oldest first; `metadata` are the PBX's bytes where the ledger still has them.
    """

    entry_id: int
    account_id: str
    recording_id: str
    status: Status
    called_at: datetime | None
    archived_at: datetime | None
    extension: str
    objects: tuple[KeptObject, ...]
    metadata: bytes = b""

    @property
    def size_bytes(self) -> int:
        """Of all that lies in the store."""
        return sum(each.fixity.size_bytes for each in self.objects)


class TombstoneKind(StrEnum):
    """Why a recording is gone: by a rule, or because somebody asked for it."""

    EXPIRED = "expired"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Expiry:
    """What becomes of an entry: its tombstone's key and bytes, and why; `versions` is how many objects were looked at."""

    entry_id: int
    key: str
    body: bytes
    fixity: Fixity
    kind: TombstoneKind
    rule: str
    reference: str
    expired_at: datetime
    versions: int


class Expiring(StrEnum):
    """What became of an expiry. HELD: a hold came in between. CHANGED: the entry is not what it was any more."""

    EXPIRED = "expired"
    HELD = "held"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An expiry whose objects may still lie there; `body` is its tombstone's."""

    entry_id: int
    account_id: str
    recording_id: str
    key: str
    body: bytes
    kind: TombstoneKind
    called_at: datetime | None


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What the ledger knows of a recording that is gone; `removed_at` is None while something of it may lie there."""

    key: str
    kind: TombstoneKind
    rule: str
    reference: str
    expired_at: datetime
    removed_at: datetime | None
    run_id: str


class TombstoneRow(NamedTuple):
    """A tombstone that must lie in the store, as it lies in its columns."""

    entry_id: int
    key: str
    size_bytes: int
    sha256: bytes
    expired_ms: int
    account_id: str
    recording_id: str
    dated_s: int | None


@dataclass(frozen=True, slots=True)
class StoredTombstone:
    """A tombstone as it was found in a store; `is_alone` when nothing of the recording lies there any more."""

    account_id: str
    recording_id: str
    key: str
    body: bytes
    fixity: Fixity
    kind: TombstoneKind
    rule: str
    reference: str
    expired_at: datetime
    called_at: datetime | None
    size_bytes: int
    run_id: str
    is_alone: bool
