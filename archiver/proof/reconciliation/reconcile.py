"""Reconciling: the PBX's CDRs against its listing, the ledger and the store, day by day.

A day is listed by both walks, its CDRs are archived, what CDRs alone name is fetched as in any run, and only then is each
recording classed. So memory holds one day at a time, and what was done before a kill stays done.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Any

from archiver.errors import ArchiverError, PbxError, Severity, first_of
from archiver.keys import sidecar_key
from archiver.ledger.base import Ledger
from archiver.ledger.values import Run, Settlement, Task, WindowProgress
from archiver.ledger.values_reconciling import Standing
from archiver.pbx import listing
from archiver.pbx.payloads import cdr_only_recording
from archiver.pipeline.breaker import Breaker
from archiver.pipeline.feed import Feed
from archiver.pipeline.run import Ended, Failure, Limits, work_off
from archiver.pipeline.tally import Tally
from archiver.pipeline.tools import Bench
from archiver.proof.reconciliation.cdr_files import DayOfCdrs, Tools
from archiver.proof.reconciliation.classes import (
    CallRecord,
    Cause,
    Class,
    Subject,
    call_record_of,
    cause_of,
    class_of,
    together,
)
from archiver.proof.reconciliation.completeness import Noted, OpenDay
from archiver.proof.reconciliation.days import Day, days, folder_of
from archiver.proof.verification.inventory import expected_objects
from archiver.recording import Cdr, Recording, Status
from archiver.window import ListingWindow, Window

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be reconciled; `windows` are those that a run would list a period by.

    `least_s` is the shortest call that the PBX records. Only calls older than `settling` are fetched when no listing shows
    them: metadata come a while after the CDR.
    """

    run: Run
    account_ids: tuple[str, ...]
    period: Window
    zone: tzinfo
    windows: Callable[[Window], Iterator[ListingWindow]]
    page_size: int
    least_s: int
    settling: timedelta


@dataclass(slots=True)
class _Look:
    """What the two walks of a day show. The `any_` sets hold what their windows show beyond the day, too."""

    open_day: OpenDay
    cdrs: DayOfCdrs
    named: dict[str, datetime | None] = field(default_factory=dict)
    any_causes: dict[str, set[Cause | None]] = field(default_factory=dict)
    any_listed: set[str] = field(default_factory=set)
    undated: set[str] = field(default_factory=set)

    @property
    def account_id(self) -> str:
        return self.open_day.account_id

    @property
    def day(self) -> Day:
        return self.open_day.day


class Reconciler:
    """Reconciles a job's accounts and days; `days`, `noted` and `tally` hold what was found, also after a stop."""

    def __init__(
        self,
        job: Job,
        bench: Bench,
        *,
        cdr_tools: Tools,
        ledger: Ledger,
        limits: Limits,
        tally: Tally,
        stop: asyncio.Event,
        on_settled: Callable[[Task, Settlement], None],
        give_up: Callable[[], None],
    ) -> None:
        self.days: list[OpenDay] = []
        self.noted: list[Noted] = []
        self.tally = tally
        self._job = job
        self._bench = bench
        self._cdr_tools = cdr_tools
        self._ledger = ledger
        self._limits = limits
        self._stop = stop
        self._on_settled = on_settled
        self._give_up = give_up
        self._breaker = Breaker(bench.pbx, max(limits.workers, 3))
        self._undated: set[tuple[str, str]] = set()
        self._loose: set[tuple[str, str]] = set()
        self._candidates: dict[str, tuple[int, OpenDay]] = {}

    async def reconcile(self) -> Ended:
        """Do the job, until `stop`; every outcome is durable on return. A fatal error is in the result."""
        failure: Failure | None = None
        try:
            failure = await self._all_days()
            if failure is None and not self._stop.is_set():
                await self._tell_orphans()
        except* ArchiverError as errors:
            failure = Failure.of(first_of(errors))
        return Ended(failure, self._stop.is_set())

    async def _all_days(self) -> Failure | None:
        job = self._job
        for account_id in job.account_ids:
            for day in days(job.period, job.zone):
                if self._stop.is_set():
                    return None
                if (failure := await self._day(account_id, day)) is not None:
                    return failure
        return None

    async def _day(self, account_id: str, day: Day) -> Failure | None:
        bench = self._bench
        open_day = OpenDay(account_id, day)
        cdrs = await bench.threads.run(DayOfCdrs, self._cdr_tools, account_id, day.day)
        try:
            look = _Look(open_day, cdrs)
            if not await unless(self._stop, self._list(look)):
                return None
            await self._keep_cdrs(look)
            ended = await self._fetch(look)
            if ended.error is not None or ended.stopped:
                return ended.error
            await self._judge(look)
            self.days.append(open_day)
            return None
        finally:
            await bench.threads.run(cdrs.discard)

    async def _list(self, look: _Look) -> None:
        async with asyncio.TaskGroup() as group:
            cdrs = group.create_task(self._windows(look, self._walk_cdrs))
            recordings = group.create_task(self._windows(look, self._walk_recordings))
        look.open_day.cdrs_failed, look.open_day.recordings_failed = cdrs.result(), recordings.result()
        look.open_day.cdrs = len(look.cdrs)

    async def _windows(self, look: _Look, walk: Callable[[_Look, ListingWindow], Coroutine[Any, Any, None]]) -> str:
        """Walk a day's windows; why one of them could not be listed whole, empty when all were."""
        failed = ""
        for window in self._job.windows(look.day.window):
            try:
                await walk(look, window)
            except PbxError as error:
                if error.severity is Severity.FATAL:
                    raise
                self.tally.windows_incomplete += 1
                failed = failed or f"window {window.covers}: {error.code}: {error}"
                self._breaker.look(error)
            else:
                self.tally.windows_complete += 1
                self._breaker.look(None)
        return failed

    async def _walk_cdrs(self, look: _Look, window: ListingWindow) -> None:
        walk = listing.cdrs(self._bench.pbx, look.account_id, page_size=self._job.page_size)
        async for page in walk.pages(window.query):
            for row in page.rows:
                for recording_id in row.recording_ids:
                    look.any_causes.setdefault(recording_id, set()).add(cause_of(row, least_s=self._job.least_s))
            own = [row for row in page.rows if self._is_of(look, row.at, f"cdr {row.cdr_id}")]
            for row in await self._bench.threads.run(look.cdrs.add, own):
                self._name(look, row)

    def _name(self, look: _Look, row: Cdr) -> None:
        for recording_id in row.recording_ids:
            look.named.setdefault(recording_id, row.at)
        if not row.recording_ids:
            look.open_day.without_recording[cause_of(row, least_s=self._job.least_s) or "none_named"] += 1

    async def _walk_recordings(self, look: _Look, window: ListingWindow) -> None:
        walk = listing.recordings(self._bench.pbx, look.account_id, page_size=self._job.page_size)
        rows_count = 0
        async for page in walk.pages(window.query):
            look.any_listed.update(row.recording_id for row in page.rows)
            own = [row for row in page.rows if self._is_of(look, row.start_at or row.saved_at, row.recording_id)]
            look.undated.update(row.recording_id for row in own if not (row.start_at or row.saved_at))
            rows_count += len(page.rows)
            # The ledger knows them then, so that the next run archives them; here they are told only.
            await self._record(look, own, WindowProgress(page.pages, rows_count, page.cursor))

    def _is_of(self, look: _Look, at: datetime | None, name: str) -> bool:
        """Whether a row belongs to the day; one without a time belongs to the first day that shows it."""
        if at is not None:
            return at in look.day.window
        known = (look.account_id, name) in self._undated
        self._undated.add((look.account_id, name))
        return not known

    async def _record(self, look: _Look, rows: Sequence[Recording], progress: WindowProgress) -> Sequence[Task]:
        found = await self._ledger.record_page(
            self._job.run, look.account_id, look.day.window, rows, progress, at=self._bench.now()
        )
        self.tally.changed += found.changed
        return found.tasks

    async def _keep_cdrs(self, look: _Look) -> None:
        open_day = look.open_day
        known = await self._ledger.cdr_files(look.account_id, look.day.day)
        kept = await self._bench.threads.run(look.cdrs.keep, known)
        for file in kept.fresh:
            await self._ledger.record_cdr_file(file)
        open_day.files, open_day.fresh, open_day.cdrs_changed = list(known), kept.fresh, kept.changed
        open_day.reasons += [f"{key} is gone or damaged; its rows were archived again" for key in kept.damaged]

    async def _fetch(self, look: _Look) -> Ended:
        """Fetch what only CDRs name, as a run would."""
        wanted = await self._to_fetch(look)
        if not wanted:
            return Ended(None, self._stop.is_set())
        feed = Feed(self._limits.queue_size)

        async def produce() -> None:
            try:
                for start in range(0, len(wanted), _AT_ONCE):
                    rows = wanted[start : start + _AT_ONCE]
                    tasks = await self._record(look, rows, WindowProgress(0, len(rows), ""))
                    self.tally.page(len(tasks), {})
                    look.open_day.fetched += len(tasks)
                    for task in tasks:
                        await feed.put(task)
            finally:
                feed.close()

        return await work_off(
            produce,
            feed,
            self._breaker,
            self._bench,
            run=self._job.run,
            ledger=self._ledger,
            limits=self._limits,
            tally=self.tally,
            stop=self._stop,
            on_settled=self._on_settled,
            give_up=self._give_up,
        )

    async def _to_fetch(self, look: _Look) -> list[Recording]:
        """What the day's CDRs name, no listing ever showed, and nobody has tried or is to try now."""
        unlisted = [recording_id for recording_id in look.named if recording_id not in look.any_listed]
        known = {each.recording_id: each for each in await self._ledger.standings(look.account_id, unlisted)}
        now = self._bench.now()
        wanted: list[Recording] = []
        young = unsure = 0
        for recording_id in unlisted:
            at, standing = look.named[recording_id], known.get(recording_id)
            if standing is not None:
                due = standing.next_attempt_at is None or standing.next_attempt_at <= now
                if standing.was_listed or standing.status is not Status.PENDING or not due:
                    continue
            elif look.open_day.recordings_failed:
                # Fetched without its metadata it would stay without them, and the next listing may well show it.
                unsure += 1
                continue
            elif at is not None and at > now - self._job.settling:
                young += 1
                continue
            wanted.append(cdr_only_recording(Cdr(look.account_id, "", at, (recording_id,)), recording_id))
        if unsure:
            look.open_day.reasons.append(f"{unsure} recordings that CDRs name wait until recordings are listed whole")
        if young:
            look.open_day.reasons.append(f"{young} recordings that CDRs name are too recent to be fetched unlisted")
        return wanted

    async def _judge(self, look: _Look) -> None:
        """Give each recording of the day its class, and remember objects that none of them names."""
        folder = folder_of(self._bench.keys, look.account_id, look.day.window)
        present = await self._bench.threads.run(self._sizes, folder)
        standings = await self._standings(look)
        elsewhere = [each.key for each in standings if each.key and not each.key.startswith(folder)]
        there = present.keys() | await self._found(elsewhere)
        for standing in standings:
            self._count(look, standing.recording_id, standing, present=standing.key in there)
        known = {each.recording_id for each in standings}
        known |= {each.recording_id for each in await self._ledger.standings(look.account_id, list(look.named))}
        for recording_id in look.named:
            if recording_id not in known:
                self._count(look, recording_id, None, present=False)
        named_keys = {standing.key for standing in standings if standing.key}
        named_keys |= {sidecar_key(key) for key in named_keys}
        for key, size_bytes in present.items():
            if key not in named_keys:
                self._candidates.setdefault(key, (size_bytes, look.open_day))

    def _sizes(self, folder: str) -> dict[str, int]:
        return {head.key: head.size_bytes for head in self._bench.store.list(folder)}

    async def _found(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys, made by another template or another date, the store shows."""
        threads, store = self._bench.threads, self._bench.store
        async with asyncio.TaskGroup() as group:
            heads = [group.create_task(threads.run(store.head, key)) for key in keys]
        return {head.key for each in heads if (head := each.result()) is not None}

    async def _standings(self, look: _Look) -> list[Standing]:
        """The day's recordings as the ledger knows them, those without a date included that the day showed first."""
        dated = await self._ledger.standings_of(look.account_id, look.day.window)
        undated_named = {recording_id for recording_id, at in look.named.items() if at is None}
        loose = await self._ledger.standings(look.account_id, sorted(look.undated | undated_named))
        return [*dated, *(standing for standing in loose if standing.dated_at is None)]

    def _count(self, look: _Look, recording_id: str, standing: Standing | None, *, present: bool) -> None:
        if standing is None or standing.dated_at is None:
            # No date ties it to a day: the first that knows of it counts it.
            if (look.account_id, recording_id) in self._loose:
                return
            self._loose.add((look.account_id, recording_id))
        causes = look.any_causes.get(recording_id)
        subject = Subject(
            status=standing.status if standing else None,
            present=present,
            listed=recording_id in look.any_listed or (standing is not None and standing.was_listed),
            named=causes is not None,
            reason=standing.reason if standing else "",
            cause=together(causes or ()),
        )
        kind, call_record = class_of(subject), call_record_of(subject)
        look.open_day.count(kind, call_record, standing.size_bytes if standing else 0)
        no_cdr = call_record is CallRecord.NO_CDR and not look.open_day.cdrs_failed
        if kind not in {Class.ARCHIVED, Class.EXPIRED} or call_record is CallRecord.NEVER_LISTED or no_cdr:
            key = standing.key if standing else ""
            detail = subject.reason if standing else "not fetched yet"
            self._note(look.open_day, recording_id, key, kind, call_record, detail)

    async def _tell_orphans(self) -> None:
        """Of the objects that no recording of their day names, those that nothing in the whole ledger names."""
        if not self._candidates:
            return
        for key in await self._ledger.damaged_keys():
            self._candidates.pop(key, None)
            self._candidates.pop(sidecar_key(key), None)
        async for batch in expected_objects(self._ledger, sidecars=True):
            for expected in batch:
                self._candidates.pop(expected.key, None)
        for key, (size_bytes, open_day) in sorted(self._candidates.items()):
            open_day.count(Class.ORPHAN, CallRecord.IN_NEITHER, size_bytes)
            self._note(open_day, "", key, Class.ORPHAN, CallRecord.IN_NEITHER, f"{size_bytes} bytes")

    def _note(
        self, open_day: OpenDay, recording_id: str, key: str, kind: Class, call_record: CallRecord, detail: str
    ) -> None:
        self.noted.append(
            Noted(
                account_id=open_day.account_id,
                day=open_day.day.day.isoformat(),
                recording_id=recording_id,
                key=key,
                kind=kind,
                call_record=call_record,
                detail=detail,
            )
        )


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work unless `stop` is set first; it is cancelled then, and this is False.

    Raises:
        What the work raises, in an exception group.
    """
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        waiting = group.create_task(stop.wait())
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        finished = working.done()
        working.cancel()
        waiting.cancel()
    return finished
