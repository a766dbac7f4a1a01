"""`archiver reconcile`: leads it like a run, under the archive's lock, and reports how complete each day is."""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from archiver.assembly import (
    access,
    chosen_accounts,
    hands_for,
    limits_for,
    make_bench,
    utc_now,
)
from archiver.destination import Destination, accept_compliance, open_destination
from archiver.engine.base import Watcher
from archiver.engine.here import Here
from archiver.errors import ExitCode, LedgerError, SettingsError
from archiver.evidence import Evidence
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Outcome, Run
from archiver.pbx.base import Traffic
from archiver.pbx.session import PbxSession
from archiver.pipeline.run import Ended, Failure
from archiver.pipeline.tally import Tally
from archiver.pipeline.threads import Threads, seen_through
from archiver.pipeline.tools import Bench
from archiver.proof.evidence.audit_drafts import reconciled
from archiver.proof.reconciliation.cdr_files import Tools
from archiver.proof.reconciliation.completeness import ReconcileReport, something_left, sums
from archiver.proof.reconciliation.reconcile import Job, Reconciler
from archiver.reports.run_report import stamp
from archiver.settings import Settings
from archiver.stores.lock import ArchiveLock
from archiver.window import ListingWindow, Window, listing_windows


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


async def run_reconcile(
    settings: Settings,
    request: ReconcileRequest,
    *,
    stop: asyncio.Event,
    watcher: Watcher,
    now: Callable[[], datetime] = utc_now,
) -> ReconcileResult:
    """CDRs against recordings against stored objects; fetches what CDRs alone name, archives the CDRs, tells the rest.

    It works in one process, whatever `transfer.processes` says. The report is in the ledger too, as a run's is.

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
        the_run = await ledger.begin_run(run_id, started_at=started_at)
        pbx = await stack.enter_async_context(PbxSession(reach))
        seat, tally = Here(iter(()), stop, watcher), Tally()
        seat.begin(tally, pbx.traffic, pbx.set_rate)
        hands = await hands_for(settings, destination, stack)
        bench = make_bench(settings, pbx, destination, hands, seat, run_id=run_id, now=now)
        job = _job(settings, the_run, account_ids, period, started_at)
        reconciler = _reconciler(settings, job, bench, destination, ledger, tally, seat)
        begun_s = asyncio.get_running_loop().time()
        ended = await reconciler.reconcile()
        took_s = asyncio.get_running_loop().time() - begun_s
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        evidence = Evidence(settings, destination, ledger, threads, run_id=run_id, now=now)
        ended = await evidence.seal_after(ended)
        result = await _finished(job, reconciler, ledger, ended, pbx.traffic, took_s=took_s, ended_at=now())
        error = await evidence.witness([reconciled(result.report)])
        return (
            result if error is None else replace(result, ended=replace(ended, error=ended.error or Failure.of(error)))
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
    length = timedelta(hours=settings.listing.window_hours)
    overlap = timedelta(hours=settings.listing.overlap_hours)

    def windows(window: Window) -> Iterator[ListingWindow]:
        return listing_windows(window, length=length, overlap=overlap, now=started_at)

    return Job(
        run=the_run,
        account_ids=account_ids,
        period=period,
        zone=settings.archive.zone,
        windows=windows,
        page_size=settings.pbx.page_size,
        least_s=settings.listing.min_recording_s,
        settling=overlap,
    )


def _reconciler(
    settings: Settings, job: Job, bench: Bench, destination: Destination, ledger: Ledger, tally: Tally, seat: Here
) -> Reconciler:
    return Reconciler(
        job,
        bench,
        cdr_tools=Tools(
            destination.store, destination.folder.temporaries.new, bench.spool, bench.now, run_id=job.run.run_id
        ),
        ledger=ledger,
        limits=limits_for(settings),
        tally=tally,
        stop=seat.stop,
        on_settled=lambda task, settlement: seat.settled(
            task.recording.account_id, task.recording.recording_id, settlement.status, settlement.detail
        ),
        give_up=destination.give_up,
    )


async def _finished(
    job: Job,
    reconciler: Reconciler,
    ledger: Ledger,
    ended: Ended,
    traffic: Traffic,
    *,
    took_s: float,
    ended_at: datetime,
) -> ReconcileResult:
    """Report it, to the ledger too; one that can't take the report any more is the error."""
    report = _report(job, reconciler, ended, traffic, took_s)
    try:
        encoded = msgspec.json.encode(report)
        await ledger.end_run(job.run, outcome=report.outcome, ended_at=ended_at, report=encoded)
    except LedgerError as error:
        ended = replace(ended, error=ended.error or Failure.of(error))
    return ReconcileResult(_report(job, reconciler, ended, traffic, took_s), ended)


def _report(job: Job, reconciler: Reconciler, ended: Ended, traffic: Traffic, took_s: float) -> ReconcileReport:
    days, tally = [day.statement() for day in reconciler.days], reconciler.tally
    classes, call_records = sums(days)
    cut_short = ended.error is not None or ended.stopped
    complete = not (cut_short or something_left(days) or tally.newly_missing)
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
        newly_missing=tally.newly_missing,
        fetched=tally.claimed,
        fetched_archived=tally.archived,
        changed_at_source=tally.changed,
        cdrs=sum(day.cdrs for day in days),
        cdrs_archived=sum(part.rows for day in days for part in day.cdr_files),
        days_whole=sum(day.whole for day in days),
        days_incomplete=incomplete,
        days=days,
        noted=reconciler.noted,
        pages=traffic.pages,
        requests=traffic.requests,
        retries=traffic.retries,
        logins=traffic.logins,
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
