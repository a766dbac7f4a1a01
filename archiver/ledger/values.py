"""The values that cross the ledger's border, but for those of single commands, which stand in `values_*` beside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from archiver.ledger.columns import from_milliseconds, from_seconds_or_none, original
from archiver.ledger.values_claims import Recovered
from archiver.ledger.values_retention import Tombstone
from archiver.recording import Fixity, Recording, Status
from archiver.window import Window


class WindowState(StrEnum):
    """Whether a window was listed whole."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"


class Outcome(StrEnum):
    """How a run ended, as the run report says it."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """A recording that this run has claimed and must bring to an outcome.

    `version` is the version to archive (1 unless the source served something else before). `was_known` says that an
    earlier run knew the recording, so that its media may already lie in the store. `retries_used` is how many rungs of
    the retry ladder are behind it and `due` whether its next attempt was due, so that a failure moves it one rung
    on; a try before `next_attempt_at` leaves ladder and time as they are.
    `attempts` counts tries of all runs so far.
    """

    entry_id: int
    recording: Recording
    version: int
    was_known: bool
    retries_used: int
    due: bool
    attempts: int
    quarantined_sha256: bytes | None = None
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PageResult:
    """What a page's rows came to: tasks to work on, and how many rows need no work, by status.

    Rows that this run has already claimed (windows overlap) are in none of them. `changed` counts archived recordings
    that the source now lists with another length or digest; their new version is among the tasks. `recovered` is what
    needs no work since an attempt of this run, which is lost, has settled it; it is not in `settled`.
    """

    tasks: Sequence[Task]
    settled: Mapping[Status, int]
    changed: int = 0
    recovered: Recovered = field(default_factory=Recovered)


@dataclass(frozen=True, slots=True)
class WindowProgress:
    """How far a window's listing has come: pages and rows so far, and the cursor the next page will be asked with."""

    pages: int
    rows: int
    cursor: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed try at a recording, 1-based over all runs; `reason` is a stable short word, `detail` a sentence."""

    number: int
    at: datetime
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Former:
    """A version that lies whole in the store and that the source has replaced since, before the ledger knew of it."""

    version: int
    key: str
    fixity: Fixity
    sidecar_sha256: bytes
    archived_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a task in this run; `failures` are the failed tries that went before.

    ARCHIVED carries `key`, `fixity`, `archived_at`, and the digest of its sidecar where there is one; `adopted` when
    nothing was downloaded because the bytes were there already. Other statuses carry `reason` and `detail`, and
    `next_attempt_at` unless there is none. `flags` are stable short words such as `weak_framing`; the `detail` of an
    archived one is the sentence that belongs to its flags. `formers` are versions that a killed run left whole in the
    store; the settlement is then of the version after them.
    """

    entry_id: int
    status: Status
    attempts: int
    failures: Sequence[Attempt] = ()
    key: str = ""
    fixity: Fixity | None = None
    sidecar_sha256: bytes | None = None
    archived_at: datetime | None = None
    adopted: bool = False
    reason: str = ""
    detail: str = ""
    next_attempt_at: datetime | None = None
    retries_used: int = 0
    flags: Sequence[str] = ()
    formers: Sequence[Former] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an account's calendar: disjoint windows, each with what the last look at it came to.

    `scanned_at` is when its listing began, None when it was asked for and never listed; `reason` says why it is
    incomplete.
    """

    window: Window
    state: WindowState
    scanned_at: datetime | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One invocation of `run`; `report` is its JSON report, empty while it goes on."""

    run_no: int
    run_id: str
    started_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None
    report: bytes = b""


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """What `status` shows of an account: recordings and bytes by status, coverage, the oldest pending call.

    `covered_through` is the instant up to which everything that was ever asked for is completely listed, None when
    nothing is. `pending_since` is when the pending recording that is known longest was first listed.
    """

    account_id: str
    recordings: Mapping[Status, int]
    bytes: Mapping[Status, int]
    covered_through: datetime | None
    incomplete: Sequence[Piece] = field(default=())
    oldest_pending_at: datetime | None = None
    pending_since: datetime | None = None
    next_attempt_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ArchivedEntry:
    """An archived object as the ledger knows it; the sidecar's digest where one was noted.

    `dated_at` is the call's start, or when it was saved, or when it was archived. `is_current` is False for an object
    that the source has replaced by a later version.
    """

    entry_id: int
    account_id: str
    recording_id: str
    version: int
    key: str
    fixity: Fixity
    archived_at: datetime
    dated_at: datetime
    sidecar_sha256: bytes | None = None
    is_current: bool = True


class ObjectRow(NamedTuple):
    """An archived object as it lies in its columns: Unix times, texts as the database holds them (keys have no escapes)."""

    entry_id: int
    version: int
    key: str
    size_bytes: int
    sha256: bytes
    sidecar_sha256: bytes | None
    archived_ms: int
    account_id: str
    recording_id: str
    dated_s: int | None
    is_current: int

    @property
    def entry(self) -> ArchivedEntry:
        """The same with its values."""
        archived_at = from_milliseconds(self.archived_ms)
        return ArchivedEntry(
            entry_id=self.entry_id,
            account_id=original(self.account_id),
            recording_id=original(self.recording_id),
            version=self.version,
            key=original(self.key),
            fixity=Fixity(self.size_bytes, self.sha256),
            archived_at=archived_at,
            dated_at=from_seconds_or_none(self.dated_s) or archived_at,
            sidecar_sha256=self.sidecar_sha256,
            is_current=bool(self.is_current),
        )


@dataclass(frozen=True, slots=True)
class Version:
    """An archived object of a recording, and the run that archived it.

    `damaged_at` when it was found so and replaced; `manifest_part` is the part of its day's manifest that names it.
    """

    version: int
    key: str
    fixity: Fixity
    sidecar_sha256: bytes | None
    archived_at: datetime
    run_id: str
    damaged_at: datetime | None = None
    manifest_part: int | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """A failed try and its run."""

    attempt: Attempt
    run_id: str


@dataclass(frozen=True, slots=True)
class History:
    """Everything known of a recording; `versions` are its archived objects, oldest first, `tries` the failed ones.

    `metadata` are the PBX's bytes until it is archived; from then on they stand in the sidecar alone. `tombstone` is what
    stands for an expired one; of that, `versions` are what was there.
    """

    account_id: str
    recording_id: str
    status: Status
    listed_at: datetime
    start_at: datetime | None
    saved_at: datetime | None
    duration_ms: int | None
    length_bytes: int | None
    digest_md5: bytes | None
    versions: Sequence[Version]
    tries: Sequence[Tried]
    tries_count: int
    reason: str
    detail: str
    flags: Sequence[str]
    next_attempt_at: datetime | None
    quarantined_sha256: bytes | None
    last_run_id: str
    metadata: bytes
    tombstone: Tombstone | None = None


LADDER: tuple[timedelta, ...] = (
    timedelta(minutes=5),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=4),
    timedelta(hours=24),
    timedelta(hours=72),
)
"""Pauses before a recording that is not there yet is tried again; after the last it is missing (issue 2, api-facts)."""
