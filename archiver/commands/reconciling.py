"""`archiver reconcile`: leads it like a run, under the archive's lock, and reports how complete each day is."""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import msgspec

from archiver.assembly import (
    access,
    chosen_accounts,
    hands_for,
    limits_for,
    make_bench,
    utc_now,
)
from archiver.commands.working import begin, open_elsewhere
from archiver.destination import Destination, accept_compliance, open_destination
from archiver.engine.base import Seat, Watcher
from archiver.engine.here import Here
from archiver.errors import ClaimLost, ExitCode, LedgerError, SettingsError
from archiver.evidence import Evidence, who
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Outcome, Run
from archiver.ledger.values_claims import ClaimState, DoneBefore
from archiver.pbx.base import Access
from archiver.pbx.session import PbxSession
from archiver.pipeline.breaker import Breaker
from archiver.pipeline.run import Ended, Failure
from archiver.pipeline.tally import Tally
from archiver.pipeline.threads import Threads, seen_through
from archiver.proof.evidence.audit_drafts import reconciled
from archiver.proof.reconciliation.cdr_files import Tools
from archiver.proof.reconciliation.completeness import ReconcileReport, something_left, sums
from archiver.proof.reconciliation.found import Counts, PartitionReport
from archiver.proof.reconciliation.job import AccountDays, Job
from archiver.proof.reconciliation.leading import Reconciled, lead
from archiver.proof.reconciliation.looking import Kit
from archiver.proof.reconciliation.partition import reconcile_partition
from archiver.reports.run_report import stamp
from archiver.settings import Settings
from archiver.stores.lock import ArchiveLock
from archiver.window import Window

DAYS_TOGETHER = 7
"""So many days of an account are a partition for another process or machine."""


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """What `archiver reconcile` was asked for; `until` None is now."""

    since: datetime
    until: datetime | None = None
    account_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """The report, with what the exit code needs."""

    report: ReconcileReport
    ended: Ended

    def exit_code(self, *, signal: int | None) -> ExitCode:
        """The exit code (contract, section 3); `signal` is what stopped it."""
        if self.ended.error is not None:
            return self.ended.error.exit_code
        if self.ended.stopped and signal is not None:
            return ExitCode(128 + signal)
        if self.report.days_incomplete and not self.report.pages:
            return ExitCode.PBX
        return ExitCode.DONE if self.report.complete else ExitCode.LEFT


@dataclass(frozen=True, slots=True)
class ReconcileShare:
    """What everybody who works on a reconciliation must know; it can go to another machine."""

    settings: Settings
    reach: Access
    job: Job


class Elsewhere(Protocol):
    """Has the partitions of a reconciliation done by others, each with `reconcile_elsewhere`."""

    def each(
        self,
        share: ReconcileShare,
        partitions: Iterable[AccountDays],
        *,
        stop: asyncio.Event,
        watcher: Watcher,
    ) -> AsyncGenerator[PartitionReport, None]:
        """The reports of all partitions, each once, in any order, as they come.

        What was lost with its machine is given to another. After `stop` is set no more are given out, and those under way
        are told to stop; their reports still come. Nothing of it goes on when the iteration is over.

        Raises (from the iteration):
            ArchiverError: it can't go on.
        """
        ...


async def run_reconcile(
    settings: Settings,
    request: ReconcileRequest,
    *,
    stop: asyncio.Event,
    watcher: Watcher,
    elsewhere: Elsewhere | None = None,
    now: Callable[[], datetime] = utc_now,
) -> ReconcileResult:
    """CDRs against recordings against stored objects; fetches what CDRs alone name, archives the CDRs, tells the rest.

    Without `elsewhere` it works in one process, whatever `transfer.processes` says. The report is in the ledger too, as a
    run's is.

    Raises:
        ArchiverError: when it could not begin; once it has, fatal errors are in the result.
    """
    async with AsyncExitStack() as stack:
        started_at = now().replace(microsecond=0)
        account_ids = tuple(dict.fromkeys(chosen_accounts(settings, request.account_ids)))
        period = _period(request, started_at)
        reach = access(settings)
        run_id = f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        destination = open_destination(settings, durable=settings.archive.durable)
        stack.callback(destination.close)
        lock = ArchiveLock(destination.folder, run_id=run_id, started_at=started_at)
        stack.callback(lock.close)
        accept_compliance(settings, accepted=False)
        await seen_through(destination.prepare)
        ledger = await open_ledger(settings.ledger_url())
        stack.push_async_callback(_close, ledger)
        the_run = await ledger.begin_run(run_id, started_at=started_at, holding=account_ids)
        job = _job(settings, the_run, account_ids, period, started_at)
        share, halt = ReconcileShare(settings, reach, job), asyncio.Event()
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        evidence = Evidence(settings, destination, ledger, threads, run_id=run_id, now=now)
        begun_s = asyncio.get_running_loop().time()
        if elsewhere is not None:
            # In a bucket it is by the trail that workers know the archive.
            await evidence.copy()
            reports = elsewhere.each(share, job.partitions(DAYS_TOGETHER), stop=halt, watcher=watcher)
        else:
            kit = await _kit(share, Here((), halt, watcher), destination, ledger, stack, now=now)
            reports = _one_by_one(job, kit)
        found = await lead(job, reports, ledger, stop=stop, halt=halt)
        took_s = asyncio.get_running_loop().time() - begun_s
        found = replace(found, ended=await evidence.seal_after(found.ended))
        result = await _finished(job, found, ledger, took_s=took_s, ended_at=now())
        error = await evidence.witness([reconciled(result.report)])
        return (
            result
            if error is None
            else replace(result, ended=replace(result.ended, error=result.ended.error or Failure.of(error)))
        )


async def _one_by_one(job: Job, kit: Kit) -> AsyncGenerator[PartitionReport, None]:
    """All partitions in this process, with one session, tally and breaker."""
    for partition in job.partitions():
        if kit.stop.is_set():
            return
        yield await reconcile_partition(job, partition, kit)


async def reconcile_elsewhere(share: ReconcileShare, partition: AccountDays, seat: Seat) -> PartitionReport:
    """A partition of a reconciliation that another process leads, which holds the archive's lock.

    It may be done again, by another after this one was killed or beside this one: nothing gets into the archive twice, and
    whoever claimed it last is the one that may write. Where it was done before, the report is that of then.
    After `seat.stop` is set it ends with the recordings under way, and the report holds the days that were done.

    Raises:
        ClaimLost: the partition was given to somebody else meanwhile, whose report is the one that counts.
        ArchiverError: the work could not begin; once it has, fatal errors are in the report.
    """
    settings = share.settings
    async with AsyncExitStack() as stack:
        destination = await seen_through(lambda: open_elsewhere(settings))
        stack.callback(destination.close)
        await seen_through(destination.join)
        ledger = await open_ledger(settings.ledger_url(), create=False, wait=True)
        stack.push_async_callback(_close, ledger)
        claim = await ledger.begin_claim(
            share.job.run, partition.account_id, str(partition.period), holder=f"{who()} {os.getpid()}", at=utc_now()
        )
        if isinstance(claim, DoneBefore):
            return msgspec.json.decode(claim.report, type=PartitionReport)
        ledger.work_under(claim)
        recovered = await ledger.recover(share.job.run, partition.account_id)
        kit = await _kit(share, seat, destination, ledger, stack)
        report = await reconcile_partition(share.job, partition, kit)
        # This partition asks for no more media.
        kit.bench.pbx.traffic.at_once = 0
        error = report.ended.error
        if error is not None and error.code == ClaimLost.code:
            raise ClaimLost(error.text)
        report = replace(report, counts=report.counts + Counts.of_recovered(recovered))
        state = ClaimState.LEFT if error is not None or report.ended.stopped else ClaimState.DONE
        with suppress(*(() if error is None else (LedgerError,))):
            await ledger.end_claim(claim, state, at=utc_now(), report=msgspec.json.encode(report))
        return report


async def _kit(
    share: ReconcileShare,
    seat: Seat,
    destination: Destination,
    ledger: Ledger,
    stack: AsyncExitStack,
    *,
    now: Callable[[], datetime] = utc_now,
) -> Kit:
    """What a seat reconciles with, given back with the stack."""
    settings, run_id = share.settings, share.job.run.run_id
    rate = share.reach.requests_per_s
    pbx = await stack.enter_async_context(
        PbxSession(replace(share.reach, requests_per_s=rate * seat.part), memory=seat.memory)
    )
    tally = Tally()
    hands = await hands_for(settings, destination, stack)
    bench = make_bench(settings, pbx, destination, hands, seat, run_id=run_id, now=now)
    begin(seat, tally, pbx, bench, rate, settings.transfer.concurrency)
    limits = limits_for(settings)
    return Kit(
        bench=bench,
        cdr_tools=Tools(destination.store, destination.folder.temporaries.new, bench.spool, now, run_id=run_id),
        ledger=ledger,
        limits=limits,
        tally=tally,
        breaker=Breaker(pbx, max(limits.workers, 3)),
        stop=seat.stop,
        on_settled=lambda task, settlement: seat.settled(
            task.recording.account_id, task.recording.recording_id, settlement.status, settlement.detail
        ),
        give_up=destination.give_up,
    )


def _period(request: ReconcileRequest, now: datetime) -> Window:
    """What was asked for, as far as it is over.

    Raises:
        SettingsError: none of it is.
    """
    if request.since >= now:
        raise SettingsError(f"--since {stamp(request.since)} is not over yet: there is nothing to reconcile")
    return Window(request.since, min(request.until or now, now))


def _job(settings: Settings, the_run: Run, account_ids: tuple[str, ...], period: Window, started_at: datetime) -> Job:
    return Job(
        run=the_run,
        account_ids=account_ids,
        period=period,
        zone=settings.archive.zone,
        window_length=timedelta(hours=settings.listing.window_hours),
        overlap=timedelta(hours=settings.listing.overlap_hours),
        begun_at=started_at,
        page_size=settings.pbx.page_size,
        least_s=settings.listing.min_recording_s,
    )


async def _finished(
    job: Job, found: Reconciled, ledger: Ledger, *, took_s: float, ended_at: datetime
) -> ReconcileResult:
    """Report it, to the ledger too; one that can't take the report any more is the error."""
    report = _report(job, found, took_s)
    try:
        encoded = msgspec.json.encode(report)
        await ledger.end_run(job.run, outcome=report.outcome, ended_at=ended_at, report=encoded)
    except LedgerError as error:
        ended = replace(found.ended, error=found.ended.error or Failure.of(error))
        found = replace(found, ended=ended)
    return ReconcileResult(_report(job, found, took_s), found.ended)


def _report(job: Job, found: Reconciled, took_s: float) -> ReconcileReport:
    days, counts, ended = found.days, found.counts, found.ended
    classes, call_records = sums(days)
    cut_short = ended.error is not None or ended.stopped
    complete = not (cut_short or something_left(days) or counts.newly_missing)
    incomplete = sum(not (day.cdrs_listed_whole and day.recordings_listed_whole) for day in days)
    return ReconcileReport(
        run_id=job.run.run_id,
        outcome=_outcome(ended, complete=complete),
        since=stamp(job.period.start_at),
        until=stamp(job.period.end_at),
        accounts=list(job.account_ids),
        complete=complete,
        recordings=sum(day.recordings for day in days),
        classes=classes,
        call_records=call_records,
        newly_missing=counts.newly_missing,
        fetched=counts.fetched,
        fetched_archived=counts.fetched_archived,
        changed_at_source=counts.changed_at_source,
        cdrs=sum(day.cdrs for day in days),
        cdrs_archived=sum(part.rows for day in days for part in day.cdr_files),
        days_whole=sum(day.whole for day in days),
        days_incomplete=incomplete,
        days=days,
        noted=found.noted,
        pages=counts.pages,
        requests=counts.requests,
        retries=counts.retries,
        logins=counts.logins,
        duration_s=round(took_s, 3),
        error=str(ended.error) if ended.error else None,
    )


def _outcome(ended: Ended, *, complete: bool) -> Outcome:
    if ended.error is not None:
        return Outcome.FAILED
    if ended.stopped:
        return Outcome.INTERRUPTED
    return Outcome.COMPLETE if complete else Outcome.INCOMPLETE


async def _close(ledger: Ledger) -> None:
    """Close it; that it was broken is in the report already."""
    with suppress(LedgerError):
        await ledger.close()
