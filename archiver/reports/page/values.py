"""The facts that the page is made of. Texts of the PBX stand in them as they are; the page makes them harmless."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec

from archiver.ledger.values import Piece
from archiver.ledger.values_reporting import DayVolume, FlagCount, ReasonCount
from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import Level
from archiver.recording import Status
from archiver.reports.fixity import Extent
from archiver.reports.status import Alarm


class RuleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A retention rule: how long it keeps in words, how many recordings it keeps, and when the next of them expires."""

    name: str
    keeps_for: str
    recordings: int
    next_expires_at: datetime | None = None


class RetentionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the retention rules come to, counted by account and day.

    `due` would expire now, unless the store has locked them; `held` are under a hold, `without_rule` kept for ever.
    About `undecided` only their metadata can tell.
    """

    rules: Sequence[RuleSummary]
    without_rule: int
    due: int
    held: int
    undecided: int = 0


class HoldSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An active hold. `covers` says in words what it covers, without phone numbers; `recordings` where it was counted."""

    name: str
    reason: str
    reference: str
    placed_by: str
    placed_at: datetime
    covers: str
    recordings: int | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days of the archive's zone, half open; never empty."""

    since: date
    until: date

    @property
    def days(self) -> int:
        """How many."""
        return (self.until - self.since).days


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An account: its calendar, and what `status` says of it. `expected` when it is in the settings."""

    account_id: str
    expected: bool
    pieces: Sequence[Piece]
    recordings: Mapping[Status, int]
    bytes: Mapping[Status, int]
    covered_through: datetime | None


@dataclass(frozen=True, slots=True)
class Parties:
    """Who spoke with whom, number and name together; empty where the metadata say nothing."""

    caller: str = ""
    callee: str = ""


@dataclass(frozen=True, slots=True)
class NamedRecording:
    """A recording under the problems: not archived, or archived and flagged. `parties` only when they were asked for."""

    account_id: str
    recording_id: str
    status: Status
    called_at: datetime | None
    attempts: int
    reason: str
    detail: str
    flags: Sequence[str]
    next_attempt_at: datetime | None
    parties: Parties | None = None


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """What a verification found and nothing has mended or taken back: the deepest level that found it."""

    kind: Kind
    key: str
    level: Level
    parties: Parties | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """A verification as the audit trail has it; counts are None where it has none."""

    at: datetime
    level: Level
    extent: Extent
    complete: bool
    objects: int | None
    bytes: int | None
    findings: int | None


class RunKind(StrEnum):
    """What a run was, as far as its report tells."""

    RUN = "run"
    RECONCILE = "reconcile"
    OTHER = "repair or rebuild"


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run; `outcome` is empty while it goes on and when it was killed, counts are None where its report has none."""

    run_id: str
    kind: RunKind
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    listed: int | None = None
    archived: int | None = None
    left: int | None = None
    bytes_archived: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class PageFacts:
    """All that the page shows, at `made_at`, with its days and times in `zone`.

    `good_since` is the start of the unbroken row of good runs that reaches up to now, None when the last one was not good;
    `last_good_at` when a run last left nothing undone. `retention` is None where no rules are set. Of `named` and
    `findings` at most a few hundred are given; their totals stand in `reasons`, `flags` and `findings_total`.
    `fixity_known` is False when the audit trail could not be read.
    """

    made_at: datetime
    zone: ZoneInfo
    version: str
    archive: str
    period: Period
    ledger_is_there: bool
    accounts: Sequence[AccountFacts] = ()
    volumes: Sequence[DayVolume] = ()
    reasons: Sequence[ReasonCount] = ()
    flags: Sequence[FlagCount] = ()
    named: Sequence[NamedRecording] = ()
    alarms: Sequence[Alarm] = ()
    runs: Sequence[RunFacts] = ()
    good_since: datetime | None = None
    last_good_at: datetime | None = None
    fixity_known: bool = True
    findings: Sequence[OpenFinding] = ()
    findings_total: Mapping[Kind, int] = field(default_factory=dict)
    verifications: Sequence[Verification] = ()
    verified_at: Mapping[tuple[Level, Extent], datetime] = field(default_factory=dict)
    retention: RetentionSummary | None = None
    holds: Sequence[HoldSummary] = ()
    with_parties: bool = False
