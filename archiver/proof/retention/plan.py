"""The plan: what becomes of every recording, counted by rule and reason; memory stays flat however many there are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from archiver.cells import harmless
from archiver.proof.retention.decide import Decision, Policy, Reason, Verdict
from archiver.proof.retention.subjects import Subject

MOST_SHOWN = 200
"""So many recordings of each kind a plan names; the CSV has all of them."""
SOON = timedelta(days=30)
CSV_COLUMNS = (
    "account_id",
    "recording_id",
    "key",
    "call_date",
    "size_bytes",
    "verdict",
    "reason",
    "rule",
    "until",
    "holds",
    "locked_until",
)


class PlannedRecording(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of one recording; times in UTC, null where there is none."""

    account_id: str
    recording_id: str
    key: str
    call_date: str | None
    size_bytes: int
    verdict: Verdict
    reason: Reason
    rule: str
    until: str | None
    holds: list[str]
    locked_until: str | None


class PlannedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """All recordings of one verdict, reason and rule: how many, their bytes, the first of them by key.

    `next_until` is the earliest date still to come, and `soon` how many come within 30 days.
    """

    verdict: Verdict
    reason: Reason
    rule: str
    recordings: int
    bytes: int
    next_until: str | None
    soon: int
    first: list[PlannedRecording]


class RetentionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `retention plan` says; keep plus expire is everything that was looked at.

    `unreadable` counts the recordings whose metadata were needed and could not be read. `cdr_files` are days of
    archived CDRs, which are no recordings and in no other count.
    """

    at: str
    recordings: int
    bytes: int
    keep: int
    expire: int
    expire_bytes: int
    unreadable: int
    cdr_files: int
    cdr_files_expire: int
    rules: list[str]
    holds: list[str]
    groups: list[PlannedGroup]


@dataclass(frozen=True, slots=True)
class Planned:
    """A recording with its decision; `is_known` is false where metadata were needed and could not be read."""

    subject: Subject
    key: str
    size_bytes: int
    decision: Decision
    is_known: bool = True


@dataclass(slots=True)
class _Group:
    recordings: int = 0
    size_bytes: int = 0
    next_at: datetime | None = None
    soon: int = 0
    first: list[PlannedRecording] = field(default_factory=list)


class PlanTotals:
    """Takes decisions in, one by one, in the order of the keys, and keeps no more than what a plan shows."""

    def __init__(self, policy: Policy, now: datetime) -> None:
        self._policy = policy
        self._now = now
        self._groups: dict[tuple[Verdict, Reason, str], _Group] = {}
        self._unreadable = 0
        self._cdr_files = 0
        self._cdr_files_expire = 0

    def add(self, planned: Planned) -> None:
        """Count one."""
        decision = planned.decision
        group = self._groups.setdefault((decision.verdict, decision.reason, decision.rule), _Group())
        group.recordings += 1
        group.size_bytes += planned.size_bytes
        until_at = decision.until_at
        if until_at is not None and until_at > self._now:
            group.next_at = until_at if group.next_at is None else min(group.next_at, until_at)
            group.soon += until_at <= self._now + SOON
        if len(group.first) < MOST_SHOWN:
            group.first.append(shown(planned))
        self._unreadable += not planned.is_known

    def add_cdrs(self, decision: Decision) -> None:
        """Count a day's CDRs."""
        self._cdr_files += 1
        self._cdr_files_expire += decision.verdict is Verdict.EXPIRE

    def plan(self) -> RetentionPlan:
        """What was counted; groups in the order of verdict, reason and the rules."""
        order = {rule.name: place for place, rule in enumerate(self._policy.rules)}
        reasons, verdicts = list(Reason), [Verdict.EXPIRE, Verdict.KEEP]
        groups = sorted(
            self._groups.items(),
            key=lambda one: (verdicts.index(one[0][0]), reasons.index(one[0][1]), order.get(one[0][2], -1)),
        )
        going = [group for (verdict, _, _), group in groups if verdict is Verdict.EXPIRE]
        every = [group for _, group in groups]
        expire = sum(group.recordings for group in going)
        recordings = sum(group.recordings for group in every)
        return RetentionPlan(
            at=stamp(self._now),
            recordings=recordings,
            bytes=sum(group.size_bytes for group in every),
            keep=recordings - expire,
            expire=expire,
            expire_bytes=sum(group.size_bytes for group in going),
            unreadable=self._unreadable,
            cdr_files=self._cdr_files,
            cdr_files_expire=self._cdr_files_expire,
            rules=[rule.name for rule in self._policy.rules],
            holds=sorted(hold.name for hold in self._policy.holds if hold.is_active),
            groups=[
                PlannedGroup(
                    verdict=verdict,
                    reason=reason,
                    rule=rule,
                    recordings=group.recordings,
                    bytes=group.size_bytes,
                    next_until=_stamp(group.next_at),
                    soon=group.soon,
                    first=group.first,
                )
                for (verdict, reason, rule), group in groups
            ],
        )


def plan(subjects: Iterable[Subject], policy: Policy, now: datetime) -> Iterator[tuple[Subject, Decision]]:
    """Each subject with what becomes of it."""
    for subject in subjects:
        yield subject, policy.decide(subject, now)


def shown(planned: Planned) -> PlannedRecording:
    """One recording as a plan shows it."""
    subject, decision = planned.subject, planned.decision
    return PlannedRecording(
        account_id=subject.account_id,
        recording_id=subject.recording_id,
        key=planned.key,
        call_date=_stamp(subject.dated_at),
        size_bytes=planned.size_bytes,
        verdict=decision.verdict,
        reason=decision.reason,
        rule=decision.rule,
        until=_stamp(decision.until_at),
        holds=list(decision.holds),
        locked_until=_stamp(decision.lock_until_at),
    )


def csv_row(planned: Planned) -> list[str]:
    """One recording as a row of CSV_COLUMNS, with nothing in it that a spreadsheet would run."""
    found = shown(planned)
    values: Sequence[object] = (
        found.account_id,
        found.recording_id,
        found.key,
        found.call_date or "",
        found.size_bytes,
        found.verdict.value,
        found.reason.value,
        found.rule,
        found.until or "",
        " ".join(found.holds),
        found.locked_until or "",
    )
    return [harmless(str(value)) for value in values]


def stamp(at: datetime) -> str:
    """A time in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)
