"""What has come of a partition: values that can go from one process to another, in which nothing is anybody's twice.

What no date ties to a day is told apart from the day's statement: several partitions may know of it, and only who has the
reports of all of them can tell which day was the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import add, sub
from typing import NamedTuple, Self

from archiver.ledger.values_claims import Recovered
from archiver.pbx.base import Traffic
from archiver.pipeline.run import Ended
from archiver.pipeline.tally import Tally
from archiver.proof.reconciliation.classes import CallRecord, Class
from archiver.proof.reconciliation.completeness import DayStatement, Noted
from archiver.proof.reconciliation.job import AccountDays


@dataclass(frozen=True, slots=True)
class Loose:
    """A recording without a date, as the day that showed it would count it; `noted` where something is to be said."""

    recording_id: str
    kind: Class
    call_record: CallRecord
    size_bytes: int
    noted: Noted | None


class Unnamed(NamedTuple):
    """An object in a day's folder that no recording of the day names: perhaps an orphan."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DayFound:
    """A day's statement and notes, without what is loose or may be an orphan."""

    statement: DayStatement
    noted: tuple[Noted, ...]
    loose: tuple[Loose, ...]
    unnamed: tuple[Unnamed, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """What was fetched and asked of the PBX."""

    fetched: int = 0
    fetched_archived: int = 0
    newly_missing: int = 0
    changed_at_source: int = 0
    pages: int = 0
    requests: int = 0
    retries: int = 0
    logins: int = 0

    @classmethod
    def of(cls, tally: Tally, traffic: Traffic) -> Self:
        """Those of live counts just now."""
        return cls(
            fetched=tally.claimed,
            fetched_archived=tally.archived,
            newly_missing=tally.newly_missing,
            changed_at_source=tally.changed,
            pages=traffic.pages,
            requests=traffic.requests,
            retries=traffic.retries,
            logins=traffic.logins,
        )

    @classmethod
    def of_recovered(cls, recovered: Recovered) -> Self:
        """What attempts of this run fetched whose own counts are lost."""
        missing = len(recovered.missing_ids)
        return cls(fetched=recovered.archived + missing, fetched_archived=recovered.archived, newly_missing=missing)

    def __add__(self, other: "Counts") -> "Counts":
        return self._with(other, add)

    def __sub__(self, other: "Counts") -> "Counts":
        return self._with(other, sub)

    def _with(self, other: "Counts", made: Callable[[int, int], int]) -> "Counts":
        return Counts(*(made(getattr(self, each.name), getattr(other, each.name)) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """A partition's days as far as they were come to; what is said of them is durable."""

    partition: AccountDays
    days: tuple[DayFound, ...]
    counts: Counts
    ended: Ended
