"""The two walks over a day: what the CDRs name, and what the listing shows.

A row without a time belongs to the first day that shows it. Windows reach into the days beside them, so whoever has only a
part of the days looks at the day before it, if there is such a row at all: that day shows it or it is ours.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from archiver.errors import PbxError, Severity
from archiver.ledger.base import Ledger
from archiver.ledger.values import Settlement, Task, WindowProgress
from archiver.pbx import listing
from archiver.pipeline.breaker import Breaker
from archiver.pipeline.run import Limits
from archiver.pipeline.tally import Tally
from archiver.pipeline.tools import Bench
from archiver.proof.reconciliation.cdr_files import DayOfCdrs, Tools
from archiver.proof.reconciliation.classes import Cause, cause_of
from archiver.proof.reconciliation.completeness import OpenDay
from archiver.proof.reconciliation.days import Day
from archiver.proof.reconciliation.job import AccountDays, Job
from archiver.recording import Cdr, Recording
from archiver.window import ListingWindow


@dataclass(frozen=True, slots=True)
class Kit:
    """What partitions are reconciled with, one after another; tally and breaker go on from one to the next.

    After `stop` is set, work ends with the recordings under way. `give_up` is called when they take too long.
    """

    bench: Bench
    cdr_tools: Tools
    ledger: Ledger
    limits: Limits
    tally: Tally
    breaker: Breaker
    stop: asyncio.Event
    on_settled: Callable[[Task, Settlement], None]
    give_up: Callable[[], None]


@dataclass(slots=True)
class Look:
    """What the two walks of a day show. The `any_` sets hold what their windows show beyond the day, too."""

    open_day: OpenDay
    cdrs: DayOfCdrs
    named: dict[str, datetime | None] = field(default_factory=dict)
    any_causes: dict[str, set[Cause | None]] = field(default_factory=dict)
    any_listed: set[str] = field(default_factory=set)
    undated: set[str] = field(default_factory=set)

    @property
    def account_id(self) -> str:
        """Whose day it is."""
        return self.open_day.account_id

    @property
    def day(self) -> Day:
        """The day."""
        return self.open_day.day


class Walks:
    """Walks the days of one partition, in their order."""

    def __init__(self, job: Job, partition: AccountDays, kit: Kit) -> None:
        self._job = job
        self._kit = kit
        self._account_id = partition.account_id
        self._day_before = job.day_before(partition)
        self._cdrs_shown = _Shown(self._cdrs_before)
        self._recordings_shown = _Shown(self._recordings_before)

    async def list(self, look: Look) -> None:
        """Both walks, side by side; a listing that is not whole is said in the open day.

        Raises:
            ArchiverError: a fatal one, in an exception group.
        """
        async with asyncio.TaskGroup() as group:
            cdrs = group.create_task(self._windows(look, self._walk_cdrs))
            recordings = group.create_task(self._windows(look, self._walk_recordings))
        look.open_day.cdrs_failed, look.open_day.recordings_failed = cdrs.result(), recordings.result()
        look.open_day.cdrs = len(look.cdrs)

    async def record(self, look: Look, rows: Sequence[Recording], progress: WindowProgress) -> Sequence[Task]:
        """Have the ledger know these recordings of the day; what of them is to be fetched."""
        kit = self._kit
        found = await kit.ledger.record_page(
            self._job.run, look.account_id, look.day.window, rows, progress, at=kit.bench.now()
        )
        kit.tally.changed += found.changed
        return found.tasks

    async def _windows(self, look: Look, walk: Callable[[Look, ListingWindow], Coroutine[Any, Any, None]]) -> str:
        """Walk a day's windows; why one of them could not be listed whole, empty when all were."""
        failed, kit = "", self._kit
        for window in self._job.windows(look.day.window):
            try:
                await walk(look, window)
            except PbxError as error:
                if error.severity is Severity.FATAL:
                    raise
                kit.tally.windows_incomplete += 1
                failed = failed or f"window {window.covers}: {error.code}: {error}"
                kit.breaker.look(error)
            else:
                kit.tally.windows_complete += 1
                kit.breaker.look(None)
        return failed

    async def _walk_cdrs(self, look: Look, window: ListingWindow) -> None:
        async for page in self._cdr_walk().pages(window.query):
            for row in page.rows:
                for recording_id in row.recording_ids:
                    look.any_causes.setdefault(recording_id, set()).add(cause_of(row, least_s=self._job.least_s))
            ours = await self._cdrs_shown.first(look, [row.cdr_id for row in page.rows if row.at is None])
            own = [row for row in page.rows if _is_of(look, row.at, row.cdr_id, ours)]
            for row in await self._kit.bench.threads.run(look.cdrs.add, own):
                self._name(look, row)

    def _name(self, look: Look, row: Cdr) -> None:
        for recording_id in row.recording_ids:
            look.named.setdefault(recording_id, row.at)
        if not row.recording_ids:
            look.open_day.without_recording[cause_of(row, least_s=self._job.least_s) or "none_named"] += 1

    async def _walk_recordings(self, look: Look, window: ListingWindow) -> None:
        rows_count = 0
        async for page in self._recording_walk().pages(window.query):
            look.any_listed.update(row.recording_id for row in page.rows)
            undated = [row.recording_id for row in page.rows if _dated(row) is None]
            ours = await self._recordings_shown.first(look, undated)
            look.undated |= ours
            rows_count += len(page.rows)
            own = [row for row in page.rows if _is_of(look, _dated(row), row.recording_id, ours)]
            # The ledger knows them then, so that the next run archives them; here they are told only.
            await self.record(look, own, WindowProgress(page.pages, rows_count, page.cursor))

    def _cdr_walk(self) -> listing.Walk[Cdr]:
        return listing.cdrs(self._kit.bench.pbx, self._account_id, page_size=self._job.page_size)

    def _recording_walk(self) -> listing.Walk[Recording]:
        return listing.recordings(self._kit.bench.pbx, self._account_id, page_size=self._job.page_size)

    async def _cdrs_before(self, shown: set[str]) -> None:
        for window in self._windows_before():
            async for page in self._cdr_walk().pages(window.query):
                shown.update(row.cdr_id for row in page.rows if row.at is None)

    async def _recordings_before(self, shown: set[str]) -> None:
        for window in self._windows_before():
            async for page in self._recording_walk().pages(window.query):
                shown.update(row.recording_id for row in page.rows if _dated(row) is None)

    def _windows_before(self) -> Sequence[ListingWindow]:
        return [] if self._day_before is None else list(self._job.windows(self._day_before.window))


class _Shown:
    """Rows without a time that a day has shown; those of the day before the partition are asked for when need be."""

    def __init__(self, ask_before: Callable[[set[str]], Coroutine[Any, Any, None]]) -> None:
        self._ask_before = ask_before
        self._asked = False
        self._ids: set[str] = set()

    async def first(self, look: Look, ids: Collection[str]) -> set[str]:
        """Those of these ids that no day has shown before."""
        if ids and not self._asked:
            self._asked = True
            try:
                await self._ask_before(self._ids)
            except PbxError as error:
                if error.severity is Severity.FATAL:
                    raise
                # Twice is better than not at all.
                look.open_day.reasons.append("what has no date is counted here, and perhaps on the day before as well")
        found = {each for each in ids if each not in self._ids}
        self._ids |= found
        return found


def _dated(row: Recording) -> datetime | None:
    return row.start_at or row.saved_at


def _is_of(look: Look, at: datetime | None, an_id: str, ours: Collection[str]) -> bool:
    return an_id in ours if at is None else at in look.day.window
