"""Keep or expire: a pure decision, with its reason and its date. What can't be told is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from enum import StrEnum

from archiver.ledger.values_retention import Hold
from archiver.proof.retention.holds import covers
from archiver.proof.retention.rules import FOR_EVER, Rule
from archiver.proof.retention.subjects import Subject


class Verdict(StrEnum):
    """What is to become of a recording."""

    KEEP = "keep"
    EXPIRE = "expire"


class Reason(StrEnum):
    """Why.

    RULE: a rule says until when. NO_RULE: none is for it, so it is kept for ever. HELD: a legal hold covers it. LOCKED: its
    time is over, but the store's own lock still holds. UNDATED: nobody knows when the call was. UNREADABLE: whether a rule
    is for it only its metadata could tell, and they can't be read.
    """

    RULE = "rule"
    NO_RULE = "no_rule"
    HELD = "held"
    LOCKED = "locked"
    UNDATED = "undated"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a recording; `until_at` is what its rule says, None without one, or when that is never.

    `holds` are the names of those that cover it; `lock_until_at` is the store's lock, None where it has no end or no lock.
    """

    verdict: Verdict
    reason: Reason
    rule: str = ""
    until_at: datetime | None = None
    holds: tuple[str, ...] = ()
    lock_until_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in their order, the holds, and the zone that calendar years and months are counted in."""

    rules: tuple[Rule, ...]
    holds: tuple[Hold, ...]
    timezone: tzinfo

    def needs_facts(self, subject: Subject) -> bool:
        """Whether the metadata could change what is decided or the date that is told, so that they have to be read."""
        if any(hold.users and covers(hold, subject) is not False for hold in self.holds):
            return True
        asking = [rule for rule in self.rules if rule.is_conditional and _matches(rule, subject) is not False]
        if not asking or subject.dated_at is None:
            return False
        plain = [rule for rule in self.rules if not rule.is_conditional and _matches(rule, subject)]
        longest = max((self._until(rule, subject.dated_at) for rule in plain), default=None)
        return longest is None or any(self._until(rule, subject.dated_at) > longest for rule in asking)

    def decide(self, subject: Subject, now: datetime) -> Decision:
        """Keep or expire."""
        holding = tuple(hold.name for hold in self.holds if covers(hold, subject) is not False)
        decision = self._by_rule(subject, now)
        if holding:
            return Decision(Verdict.KEEP, Reason.HELD, decision.rule, decision.until_at, holding)
        if decision.verdict is Verdict.EXPIRE and subject.lock is not None:
            until_at = subject.lock.until_at
            if until_at is None or until_at > now:
                return Decision(Verdict.KEEP, Reason.LOCKED, decision.rule, decision.until_at, (), until_at)
        return decision

    def _by_rule(self, subject: Subject, now: datetime) -> Decision:
        dated_at = subject.dated_at
        if dated_at is None:
            return Decision(Verdict.KEEP, Reason.UNDATED)
        said = [(rule, _matches(rule, subject)) for rule in self.rules]
        possible = [rule for rule, matches in said if matches is not False]
        if not possible:
            return Decision(Verdict.KEEP, Reason.NO_RULE)
        rule, until_at = possible[0], self._until(possible[0], dated_at)
        for other in possible[1:]:
            # Of rules that end alike the first one wins.
            end_at = self._until(other, dated_at)
            if end_at > until_at:
                rule, until_at = other, end_at
        shown = None if until_at == FOR_EVER else until_at
        if not any(matches for _, matches in said):
            return Decision(Verdict.KEEP, Reason.UNREADABLE, rule.name, shown)
        verdict = Verdict.EXPIRE if until_at <= now else Verdict.KEEP
        return Decision(verdict, Reason.RULE, rule.name, shown)

    def _until(self, rule: Rule, dated_at: datetime) -> datetime:
        return rule.keep.until(dated_at, self.timezone)


def decide(
    subject: Subject, rules: Sequence[Rule], holds: Sequence[Hold], now: datetime, *, timezone: tzinfo
) -> Decision:
    """What becomes of one recording at `now`."""
    return Policy(tuple(rules), tuple(holds), timezone).decide(subject, now)


def _matches(rule: Rule, subject: Subject) -> bool | None:
    return rule.matches(subject.account_id, subject.facts)
