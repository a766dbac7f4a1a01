"""Retention rules: how long what they match is kept, counted from the call's date by the calendar."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from archiver.proof.retention.subjects import Facts, matches_any

FOR_EVER = datetime.max.replace(tzinfo=UTC)
"""A date that no calendar holds."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How long: so many calendar months and days."""

    months: int = 0
    days: int = 0

    def until(self, dated_at: datetime, timezone: tzinfo) -> datetime:
        """The end, in UTC: the same time of day, so many months and days later in `timezone`; never too early.

        Where that month has no such day it is the next month's first, an hour that a change of clocks leaves out is
        moved behind it, and one that comes twice is the second.
        """
        try:
            local = dated_at.astimezone(timezone)
            month = local.month - 1 + self.months
            year, month = local.year + month // 12, month % 12 + 1
            try:
                end = date(year, month, local.day)
            except ValueError:
                end = date(year + month // 12, month % 12 + 1, 1)
            return _latest(end + timedelta(days=self.days), local.time(), timezone)
        except (OverflowError, ValueError):
            return FOR_EVER


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the settings; empty conditions match everything, `users` are glob patterns in any case."""

    name: str
    keep: Keep
    account_ids: tuple[str, ...] = ()
    direction: str = ""
    users: tuple[str, ...] = ()

    @property
    def is_conditional(self) -> bool:
        """Whether it asks for what only the metadata tell."""
        return bool(self.direction or self.users)

    def matches(self, account_id: str, facts: Facts) -> bool | None:
        """Whether it is for this recording; None when that can't be told."""
        if self.account_ids and account_id not in self.account_ids:
            return False
        said: set[bool | None] = {True}
        if self.direction:
            said.add(facts.direction.casefold() == self.direction.casefold() if facts.direction else None)
        if self.users:
            said.add(matches_any(self.users, facts.users))
        return False if False in said else None if None in said else True


def _latest(day: date, clock: time, timezone: tzinfo) -> datetime:
    """The instant of a local time; of two the later one."""
    local = datetime.combine(day, clock, timezone)
    first, second = local.replace(fold=0).astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    return max(second, first)
