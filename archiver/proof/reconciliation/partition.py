"""A partition of a reconciliation: an account's days, one after another, wherever it is worked on.

A day is listed by both walks, its CDRs are archived, what CDRs alone name is fetched as in any run, and only then is each
recording classed. So memory holds one day at a time, and what was done before a kill stays done.

Done again, a partition comes to the same: CDRs that lie in the store are taken over or passed by, since nothing is written
over another object and the ledger knows each part by its number; a recording that is archived needs no second fetch, and
one that lies in the store without the ledger knowing is adopted.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from archiver.errors import ArchiverError, ObjectDiffers, first_of
from archiver.ledger.values import WindowProgress
from archiver.pbx.payloads import cdr_only_recording
from archiver.pipeline.feed import Feed
from archiver.pipeline.run import Ended, Failure, work_off
from archiver.proof.reconciliation.cdr_files import DayOfCdrs
from archiver.proof.reconciliation.completeness import OpenDay
from archiver.proof.reconciliation.days import Day
from archiver.proof.reconciliation.found import Counts, DayFound, PartitionReport
from archiver.proof.reconciliation.job import AccountDays, Job
from archiver.proof.reconciliation.judging import Judge
from archiver.proof.reconciliation.looking import Kit, Look, Walks
from archiver.recording import Cdr, Recording, Status

_AT_ONCE = 500


async def reconcile_partition(job: Job, partition: AccountDays, kit: Kit) -> PartitionReport:
    """Reconcile a partition until `kit.stop`; every outcome is durable on return. A fatal error is in the report."""
    before = Counts.of(kit.tally, kit.bench.pbx.traffic)
    work = _Work(job, partition, kit)
    failure: Failure | None = None
    found: list[DayFound] = []
    try:
        failure = await work.days_into(found)
    except* ArchiverError as errors:
        failure = Failure.of(first_of(errors))
    counts = Counts.of(kit.tally, kit.bench.pbx.traffic) - before
    return PartitionReport(partition, tuple(found), counts, Ended(failure, kit.stop.is_set()))


class _Work:
    """A partition on its way."""

    def __init__(self, job: Job, partition: AccountDays, kit: Kit) -> None:
        self._job = job
        self._partition = partition
        self._kit = kit
        self._walks = Walks(job, partition, kit)
        self._judge = Judge(kit)

    async def days_into(self, found: list[DayFound]) -> Failure | None:
        """Append each day that is done; what made an end of it, if anything did."""
        for day in self._job.days_of(self._partition):
            if self._kit.stop.is_set():
                break
            if (failure := await self._day(day, found)) is not None:
                return failure
        return None

    async def _day(self, day: Day, found: list[DayFound]) -> Failure | None:
        kit, account_id = self._kit, self._partition.account_id
        cdrs = await kit.bench.threads.run(DayOfCdrs, kit.cdr_tools, account_id, day.day)
        try:
            look = Look(OpenDay(account_id, day), cdrs)
            if not await unless(kit.stop, self._walks.list(look)):
                return None
            await self._keep_cdrs(look)
            ended = await self._fetch(look)
            if ended.error is not None or ended.stopped:
                return ended.error
            found.append(await self._judge.judge(look))
            return None
        finally:
            await kit.bench.threads.run(cdrs.discard)

    async def _keep_cdrs(self, look: Look) -> None:
        kit, open_day = self._kit, look.open_day
        known = await kit.ledger.cdr_files(look.account_id, look.day.day)
        try:
            kept = await kit.bench.threads.run(look.cdrs.keep, known)
        except ObjectDiffers:
            # Somebody who was given the same partition put a part there meanwhile, which is seen now.
            known = await kit.ledger.cdr_files(look.account_id, look.day.day)
            kept = await kit.bench.threads.run(look.cdrs.keep, known)
        for file in kept.fresh:
            await kit.ledger.record_cdr_file(file)
        open_day.files, open_day.fresh, open_day.cdrs_changed = list(known), kept.fresh, kept.changed
        open_day.reasons += [f"{key} is gone or damaged; its rows were archived again" for key in kept.damaged]

    async def _fetch(self, look: Look) -> Ended:
        """Fetch what only CDRs name, as a run would."""
        kit = self._kit
        wanted = await self._to_fetch(look)
        if not wanted:
            return Ended(None, kit.stop.is_set())
        feed = Feed(kit.limits.queue_size)

        async def produce() -> None:
            try:
                for start in range(0, len(wanted), _AT_ONCE):
                    rows = wanted[start : start + _AT_ONCE]
                    tasks = await self._walks.record(look, rows, WindowProgress(0, len(rows), ""))
                    kit.tally.page(len(tasks), {})
                    look.open_day.fetched += len(tasks)
                    for task in tasks:
                        await feed.put(task)
            finally:
                feed.close()

        return await work_off(
            produce,
            feed,
            kit.breaker,
            kit.bench,
            run=self._job.run,
            ledger=kit.ledger,
            limits=kit.limits,
            tally=kit.tally,
            stop=kit.stop,
            on_settled=kit.on_settled,
            give_up=kit.give_up,
        )

    async def _to_fetch(self, look: Look) -> list[Recording]:
        """What the day's CDRs name, no listing ever showed, and nobody has tried or is to try now."""
        unlisted = [recording_id for recording_id in look.named if recording_id not in look.any_listed]
        known = {each.recording_id: each for each in await self._kit.ledger.standings(look.account_id, unlisted)}
        now = self._kit.bench.now()
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
            elif at is not None and at > now - self._job.overlap:
                young += 1
                continue
            wanted.append(cdr_only_recording(Cdr(look.account_id, "", at, (recording_id,)), recording_id))
        if unsure:
            look.open_day.reasons.append(f"{unsure} recordings that CDRs name wait until recordings are listed whole")
        if young:
            look.open_day.reasons.append(f"{young} recordings that CDRs name are too recent to be fetched unlisted")
        return wanted


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
