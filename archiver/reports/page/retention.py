"""Retention and holds on the page: what the rules come to, counted by account and day, so that no recording is read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo

from archiver.ledger.values_reporting import DayVolume
from archiver.ledger.values_retention import Hold
from archiver.proof.retention.decide import Decision, Policy, Reason, Verdict
from archiver.proof.retention.rules import Keep
from archiver.proof.retention.subjects import Subject
from archiver.recording import Status
from archiver.reports.page.values import HoldSummary, RetentionSummary, RuleSummary

_SUBJECTS = frozenset({Status.ARCHIVED, Status.QUARANTINED, Status.MISSING})
_MONTHS = 12
_LAST = timedelta(microseconds=1)


@dataclass(slots=True)
class _Counted:
    """What the days came to so far."""

    kept: Counter[str] = field(default_factory=Counter)
    next_at: dict[str, datetime] = field(default_factory=dict)
    reasons: Counter[Reason] = field(default_factory=Counter)
    due: int = 0

    def see(self, volume: DayVolume, decision: Decision) -> None:
        """The recordings of a day."""
        if decision.verdict is Verdict.EXPIRE:
            self.due += volume.recordings
            return
        self.reasons[decision.reason] += volume.recordings
        if decision.rule:
            self.kept[decision.rule] += volume.recordings
        if decision.reason is Reason.RULE and decision.until_at is not None:
            earliest = self.next_at.get(decision.rule, decision.until_at)
            self.next_at[decision.rule] = min(earliest, decision.until_at)


def retention_summary(policy: Policy, volumes: Iterable[DayVolume], now: datetime) -> RetentionSummary | None:
    """What the rules come to at `now`; None without rules.

    A day's recordings are dated at its last moment. What only metadata could tell (rules and holds with users or a
    direction, holds of single ids) is told as `undecided`: `retention plan` decides about each recording.
    """
    if not policy.rules:
        return None
    by_day = Policy(
        policy.rules, tuple(hold for hold in policy.holds if not (hold.users or hold.recording_ids)), policy.timezone
    )
    counted, undecided = _Counted(), 0
    for volume in volumes:
        if volume.status not in _SUBJECTS:
            continue
        subject = Subject(volume.account_id, "", _last_moment(volume, policy.timezone))
        if policy.needs_facts(subject):
            undecided += volume.recordings
        else:
            counted.see(volume, by_day.decide(subject, now))
    return RetentionSummary(
        rules=[
            RuleSummary(
                name=rule.name,
                keeps_for=_words(rule.keep) + (", of some calls" if rule.is_conditional else ""),
                recordings=counted.kept[rule.name],
                next_expires_at=counted.next_at.get(rule.name),
            )
            for rule in policy.rules
        ],
        without_rule=counted.reasons[Reason.NO_RULE] + counted.reasons[Reason.UNDATED],
        due=counted.due,
        held=counted.reasons[Reason.HELD],
        undecided=undecided,
    )


def hold_summaries(holds: Sequence[Hold]) -> list[HoldSummary]:
    """The active holds; whom one with user patterns is about stays out."""
    return [
        HoldSummary(
            name=hold.name,
            reason=hold.reason,
            reference=hold.reference,
            placed_by=hold.placed_by,
            placed_at=hold.placed_at,
            covers=_covers(hold),
            recordings=len(hold.recording_ids) or None,
        )
        for hold in holds
        if hold.is_active
    ]


def _covers(hold: Hold) -> str:
    said = []
    if hold.account_id:
        said.append(f"account {hold.account_id}")
    if hold.since_at is not None:
        said.append(f"calls from {hold.since_at:%Y-%m-%d %H:%M} UTC")
    if hold.until_at is not None:
        said.append(f"calls before {hold.until_at:%Y-%m-%d %H:%M} UTC")
    if hold.recording_ids:
        said.append("named recordings")
    if hold.users:
        said.append("calls of certain people")
    return ", ".join(said) or "everything"


def _words(keep: Keep) -> str:
    years, months = divmod(keep.months, _MONTHS)
    parts = [(years, "year"), (months, "month"), (keep.days, "day")]
    said = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in parts if count]
    return " and ".join(said) or "no time at all"


def _last_moment(volume: DayVolume, timezone: tzinfo) -> datetime | None:
    if volume.day is None:
        return None
    try:
        midnight = datetime.combine(volume.day + timedelta(days=1), time(), timezone)
    except OverflowError:
        return None
    return midnight.astimezone(UTC) - _LAST
