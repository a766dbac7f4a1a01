"""The leading part of a reconciliation: it takes the reports of partitions together, and tells the orphans in the end.

However a job is divided, and in whatever order its parts are done, the same comes of it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from archiver.errors import ArchiverError, ExitCode, first_of
from archiver.keys import sidecar_key
from archiver.ledger.base import Ledger
from archiver.pipeline.run import Ended, Failure
from archiver.proof.reconciliation.classes import CallRecord, Class
from archiver.proof.reconciliation.completeness import Counted, DayStatement, Noted, with_more
from archiver.proof.reconciliation.found import Counts, DayFound, Loose, PartitionReport, Unnamed
from archiver.proof.reconciliation.job import Job
from archiver.proof.verification.inventory import expected_objects

_Place = tuple[int, str]
"""An account's number in the job, and when the day begins: the order in which one who does it all comes by."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Everything that was found, in the order of accounts and days, and how it ended."""

    days: list[DayStatement]
    noted: list[Noted]
    counts: Counts
    ended: Ended


async def lead(
    job: Job,
    reports: AsyncGenerator[PartitionReport, None],
    ledger: Ledger,
    *,
    stop: asyncio.Event,
    halt: asyncio.Event,
) -> Reconciled:
    """Take reports as they come, each partition's once, until there are no more.

    `halt` is set when `stop` is, or when something fatal has happened: whoever makes the reports then comes to an end, and
    still tells what was done. A fatal error is in the result.
    """
    merging = Merging(job)
    failure: Failure | None = None
    try:
        async with asyncio.TaskGroup() as group, aclosing(reports):
            passing = group.create_task(_pass_on(stop, halt))
            try:
                async for report in reports:
                    merging.take(report)
                    failure = failure or report.ended.error
                    if failure is not None:
                        halt.set()
            finally:
                passing.cancel()
        if failure is None and not stop.is_set():
            failure = merging.left_undone()
            if failure is None:
                await merging.tell_orphans(ledger)
    except* ArchiverError as errors:
        failure = failure or Failure.of(first_of(errors))
    return merging.reconciled(Ended(failure, stop.is_set()))


async def _pass_on(stop: asyncio.Event, halt: asyncio.Event) -> None:
    await stop.wait()
    halt.set()


class Merging:
    """Takes the reports of partitions in, in any order.

    In memory are the days' statements and notes, what is loose, and objects that no recording of their day names.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._accounts = {account_id: number for number, account_id in enumerate(job.account_ids)}
        self._days: dict[_Place, DayFound] = {}
        self._loose: dict[tuple[str, str], tuple[_Place, int, Loose]] = {}
        self._unnamed: dict[str, tuple[_Place, Unnamed]] = {}
        self._orphans: list[tuple[_Place, Unnamed]] = []
        self._counts = Counts()

    def take(self, report: PartitionReport) -> None:
        """Take one in."""
        self._counts += report.counts
        account_id = report.partition.account_id
        for found in report.days:
            place = (self._accounts[account_id], found.statement.since)
            self._days[place] = found
            for number, loose in enumerate(found.loose):
                known = self._loose.get((account_id, loose.recording_id))
                if known is None or place < known[0]:
                    self._loose[account_id, loose.recording_id] = (place, number, loose)
            for unnamed in found.unnamed:
                earlier = self._unnamed.get(unnamed.key)
                if earlier is None or place < earlier[0]:
                    self._unnamed[unnamed.key] = (place, unnamed)

    def left_undone(self) -> Failure | None:
        """What to say when a day is in no report, None when all are."""
        left = self._job.days_count - len(self._days)
        if not left:
            return None
        text = f"{left} of {self._job.days_count} days were left undone by whoever had them; reconcile once more"
        return Failure("left_undone", ExitCode.LEFT, text)

    async def tell_orphans(self, ledger: Ledger) -> None:
        """Of the objects that no recording of their day names, keep those that nothing in the whole ledger names.

        Raises:
            LedgerError.
        """
        if not self._unnamed:
            return
        for key in await ledger.damaged_keys():
            self._unnamed.pop(key, None)
            self._unnamed.pop(sidecar_key(key), None)
        async for batch in expected_objects(ledger, sidecars=True):
            for expected in batch:
                self._unnamed.pop(expected.key, None)
        self._orphans = sorted(self._unnamed.values(), key=lambda each: each[1].key)

    def reconciled(self, ended: Ended) -> Reconciled:
        """Everything taken in, put together."""
        more: defaultdict[_Place, list[Counted]] = defaultdict(list)
        loose_noted: defaultdict[_Place, list[Noted]] = defaultdict(list)
        for place, _, loose in sorted(self._loose.values(), key=lambda each: each[:2]):
            more[place].append(Counted(loose.kind, loose.call_record, loose.size_bytes))
            loose_noted[place] += [loose.noted] if loose.noted else []
        for place, orphan in self._orphans:
            more[place].append(Counted(Class.ORPHAN, CallRecord.IN_NEITHER, orphan.size_bytes))
        days = dict(sorted(self._days.items()))
        noted = [each for place, day in days.items() for each in (*day.noted, *loose_noted[place])]
        noted += [_note_of(days[place].statement, orphan) for place, orphan in self._orphans]
        statements = [with_more(day.statement, more[place]) for place, day in days.items()]
        return Reconciled(statements, noted, self._counts, ended)


def _note_of(day: DayStatement, orphan: Unnamed) -> Noted:
    return Noted(
        account_id=day.account_id,
        day=day.day,
        recording_id="",
        key=orphan.key,
        kind=Class.ORPHAN,
        call_record=CallRecord.IN_NEITHER,
        detail=f"{orphan.size_bytes} bytes",
    )
