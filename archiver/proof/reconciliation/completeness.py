"""How complete an archive is, by account and day: what reconciling reports, and the same as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from archiver.cells import harmless
from archiver.ledger.values import Outcome
from archiver.ledger.values_reconciling import CdrFile
from archiver.proof.reconciliation.classes import LEFT, CallRecord, Cause, Class
from archiver.proof.reconciliation.days import Day


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """How many, and their bytes: those archived, or else those that the PBX lists."""

    count: int
    bytes: int


class CdrPart(msgspec.Struct, frozen=True, kw_only=True):
    """An object with a day's CDRs; `new` when this run has put it there."""

    key: str
    rows: int
    size_bytes: int
    sha256: str
    new: bool


class DayStatement(msgspec.Struct, frozen=True, kw_only=True):
    """The completeness of an account's day.

    `whole`: all of the day was asked for, and over, and both listings came to their end. `recordings` counts each
    recording that is dated on this day, and each orphan object, once: it is the sum of `classes`, and that of
    `call_records`. `cdrs` are the day's legs as they are listed now, of which `without_recording` name none, by cause.
    """

    account_id: str
    day: str
    since: str
    until: str
    whole: bool
    cdrs_listed_whole: bool
    recordings_listed_whole: bool
    reasons: list[str]
    recordings: int
    classes: dict[Class, Count]
    call_records: dict[CallRecord, int]
    fetched: int
    cdrs: int
    without_recording: dict[str, int]
    cdrs_changed: int
    cdr_files: list[CdrPart]


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """A recording or an object that something is to be said about; `key` where it has an object."""

    account_id: str
    day: str
    recording_id: str
    key: str
    kind: Class
    call_record: CallRecord
    detail: str


class ReconcileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What reconciling has found; `noted` names every recording and object that is not simply archived with its CDR.

    `fetched` are recordings that CDRs alone named and that this run tried to fetch; of them `fetched_archived` came.
    """

    run_id: str
    outcome: Outcome
    since: str
    until: str
    accounts: list[str]
    complete: bool
    recordings: int
    classes: dict[Class, Count]
    call_records: dict[CallRecord, int]
    newly_missing: int
    fetched: int
    fetched_archived: int
    changed_at_source: int
    cdrs: int
    cdrs_archived: int
    days_whole: int
    days_incomplete: int
    days: list[DayStatement]
    noted: list[Noted]
    pages: int
    requests: int
    retries: int
    logins: int
    duration_s: float
    error: str | None


@dataclass(slots=True)
class OpenDay:
    """A day whose statement is not made yet."""

    account_id: str
    day: Day
    cdrs_failed: str = ""
    recordings_failed: str = ""
    classes: dict[Class, tuple[int, int]] = field(default_factory=lambda: dict.fromkeys(Class, (0, 0)))
    call_records: dict[CallRecord, int] = field(default_factory=lambda: dict.fromkeys(CallRecord, 0))
    fetched: int = 0
    cdrs: int = 0
    without_recording: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((*map(str, Cause), "none_named"), 0)
    )
    cdrs_changed: int = 0
    files: list[CdrFile] = field(default_factory=list)
    fresh: list[CdrFile] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def count(self, kind: Class, call_record: CallRecord, size_bytes: int) -> None:
        """Count one recording or object."""
        count, before_bytes = self.classes[kind]
        self.classes[kind] = (count + 1, before_bytes + size_bytes)
        self.call_records[call_record] += 1

    @property
    def listed_whole(self) -> bool:
        """Whether both listings came to their end."""
        return not (self.cdrs_failed or self.recordings_failed)

    def statement(self) -> DayStatement:
        """The day's statement."""
        failed = [f"CDRs: {self.cdrs_failed}"] if self.cdrs_failed else []
        failed += [f"recordings: {self.recordings_failed}"] if self.recordings_failed else []
        part = [] if self.day.whole else ["only a part of the day was looked at"]
        return DayStatement(
            account_id=self.account_id,
            day=self.day.day.isoformat(),
            since=_stamp(self.day.window.start_at),
            until=_stamp(self.day.window.end_at),
            whole=self.day.whole and self.listed_whole,
            cdrs_listed_whole=not self.cdrs_failed,
            recordings_listed_whole=not self.recordings_failed,
            reasons=[*failed, *self.reasons, *part],
            recordings=sum(self.call_records.values()),
            classes={kind: Count(count=count, bytes=size) for kind, (count, size) in self.classes.items()},
            call_records=dict(self.call_records),
            fetched=self.fetched,
            cdrs=self.cdrs,
            without_recording=dict(self.without_recording),
            cdrs_changed=self.cdrs_changed,
            cdr_files=[
                *(_part(file, new=False) for file in self.files),
                *(_part(file, new=True) for file in self.fresh),
            ],
        )


class Counted(NamedTuple):
    """One recording or object that a day counts besides."""

    kind: Class
    call_record: CallRecord
    size_bytes: int


def with_more(day: DayStatement, more: Sequence[Counted]) -> DayStatement:
    """A statement with what turned out to belong to its day."""
    if not more:
        return day
    classes, call_records = dict(day.classes), dict(day.call_records)
    for each in more:
        before = classes[each.kind]
        classes[each.kind] = Count(count=before.count + 1, bytes=before.bytes + each.size_bytes)
        call_records[each.call_record] += 1
    return msgspec.structs.replace(
        day, classes=classes, call_records=call_records, recordings=sum(call_records.values())
    )


def something_left(days: Iterable[DayStatement]) -> bool:
    """Whether anything in these days is still to be done; what became missing in this run is counted elsewhere."""
    return any(
        not day.cdrs_listed_whole or not day.recordings_listed_whole or any(day.classes[kind].count for kind in LEFT)
        for day in days
    )


def sums(days: Sequence[DayStatement]) -> tuple[dict[Class, Count], dict[CallRecord, int]]:
    """The days' classes and call records, added up."""
    classes = {
        kind: Count(
            count=sum(day.classes[kind].count for day in days), bytes=sum(day.classes[kind].bytes for day in days)
        )
        for kind in Class
    }
    return classes, {each: sum(day.call_records[each] for day in days) for each in CallRecord}


def as_csv(days: Iterable[DayStatement]) -> str:
    """One line for each account and day: dates, numbers and account ids, nothing that a caller could have written."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for day in days:
        writer.writerow([harmless(cell) for cell in _cells(day)])
    return out.getvalue()


_COLUMNS = (
    "account_id",
    "day",
    "since",
    "until",
    "whole",
    "cdrs_listed_whole",
    "recordings_listed_whole",
    "recordings",
    *(name for kind in Class for name in (kind.value, f"{kind.value}_bytes")),
    *(each.value for each in CallRecord),
    "fetched",
    "cdrs",
    "cdrs_archived",
    "cdr_files",
)


def _cells(day: DayStatement) -> Iterator[str]:
    yield from (day.account_id, day.day, day.since, day.until)
    for whole in (day.whole, day.cdrs_listed_whole, day.recordings_listed_whole):
        yield "yes" if whole else "no"
    yield str(day.recordings)
    for kind in Class:
        yield str(day.classes[kind].count)
        yield str(day.classes[kind].bytes)
    for each in CallRecord:
        yield str(day.call_records[each])
    yield from (str(day.fetched), str(day.cdrs), str(sum(part.rows for part in day.cdr_files)), str(len(day.cdr_files)))


def _part(file: CdrFile, *, new: bool) -> CdrPart:
    return CdrPart(
        key=file.key, rows=file.rows, size_bytes=file.fixity.size_bytes, sha256=file.fixity.sha256.hex(), new=new
    )


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
