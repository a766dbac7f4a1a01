"""`archiver run`: a run is led from here, and its shares are worked on by the same coroutine in one process or many."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import msgspec

from archiver.assembly import (
    RunRequest,
    access,
    beginning,
    chosen_accounts,
    partitions,
    periods,
    utc_now,
)
from archiver.commands.crew import check_cluster
from archiver.commands.distributing import archive_far
from archiver.commands.pbx_profile import with_hints
from archiver.commands.restoring import memory_for_run
from archiver.commands.working import Share, Worked, work, work_beside
from archiver.destination import Destination, accept_compliance, open_destination
from archiver.engine.base import Watcher
from archiver.engine.here import Here
from archiver.engine.pool import Pool
from archiver.errors import LedgerError
from archiver.evidence import Evidence
from archiver.ledger.base import Ledger
from archiver.ledger.values import WindowState
from archiver.pbx.base import Traffic
from archiver.pipeline.planning import LISTED_AHEAD, beyond
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended, Failure
from archiver.pipeline.tally import Tally
from archiver.pipeline.threads import Threads, seen_through
from archiver.proof.evidence.audit_drafts import run_began, run_ended
from archiver.reports.run_report import RunReport, outcome, run_report
from archiver.settings import Settings
from archiver.stores.lock import ArchiveLock
from archiver.window import Window


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run's report with what the exit code needs."""

    report: RunReport
    tally: Tally
    ended: Ended
    pages: int


async def run_archive(
    settings: Settings,
    request: RunRequest,
    *,
    stop: asyncio.Event,
    watcher: Watcher,
    pool: Pool | None = None,
    now: Callable[[], datetime] = utc_now,
) -> RunResult:
    """List, fetch, store, remember; the report is in the ledger too.

    `pool` is of as many processes as the settings name, started already; they go by the wall clock, not by `now`.

    Raises:
        ArchiverError: when the run could not begin; once it has, fatal errors are in the result.
    """
    check_cluster(settings)
    async with AsyncExitStack() as stack:
        pool = await _pool(settings, pool, stack)
        started_at = now().replace(microsecond=0)
        account_ids = chosen_accounts(settings, request.account_ids)
        reach = access(settings)
        run_id = f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        destination = open_destination(settings, durable=settings.archive.durable)
        stack.callback(destination.close)
        lock = ArchiveLock(destination.folder, run_id=run_id, started_at=started_at)
        stack.callback(lock.close)
        accept_compliance(settings, accepted=request.compliance_accepted)
        await seen_through(destination.prepare)
        memory = await memory_for_run(settings, destination, stack, stop=stop, now=now)
        ledger = memory.ledger
        the_run = await ledger.begin_run(run_id, started_at=started_at, holding=account_ids)
        wanted = await _wanted(settings, ledger, request, account_ids, started_at)
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        evidence = Evidence(settings, destination, ledger, threads, run_id=run_id, now=now)
        await evidence.recorder.add([run_began(_whole(wanted), account_ids)])
        await memory.begun(the_run)
        reach, hints = await seen_through(lambda: with_hints(reach, destination.folder))
        share = Share(settings, reach, the_run, account_ids, request.retry_missing)
        source = partitions(settings, wanted, started_at)
        begun_s = asyncio.get_running_loop().time()
        if settings.cluster.scheduler:
            # In a bucket it is by the trail that workers know the archive.
            await evidence.copy()
        worked = await _work_off(share, source, pool, destination, ledger, stop=stop, watcher=watcher, now=now)
        took_s = asyncio.get_running_loop().time() - begun_s
        ended = await evidence.seal_after(worked.ended)
        result = await _finished(
            share, ledger, ended, worked.tally, worked.traffic, period=_whole(wanted), took_s=took_s, ended_at=now(),
            notes=[*memory.notes, *hints, *worked.notes],
        )  # fmt: skip
        await memory.ended(the_run)
        return await _witnessed(evidence, result)


async def _work_off(
    share: Share,
    source: Iterator[Partition],
    pool: Pool | None,
    destination: Destination,
    ledger: Ledger,
    *,
    stop: asyncio.Event,
    watcher: Watcher,
    now: Callable[[], datetime],
) -> Worked:
    """Where the settings say: on a cluster, in a pool of processes, or here."""
    if share.settings.cluster.scheduler:
        return await archive_far(share, destination, source, stop=stop, watcher=watcher)
    if pool is not None:
        ended = await pool.run(_apart(share), source, stop=stop, watcher=watcher)
        return Worked(ended, pool.tally, pool.traffic)
    here = Here(source, stop, watcher)
    ended = await work(share, here, destination, ledger, now=now)
    return Worked(ended, here.tally, here.traffic)


async def _wanted(
    settings: Settings, ledger: Ledger, request: RunRequest, account_ids: Sequence[str], at: datetime
) -> dict[str, list[Window]]:
    """What to list, by account; the ledger remembers that it was asked for, and no coverage beyond now."""
    for account_id in account_ids:
        ahead = beyond(await ledger.calendar(account_id), at)
        if ahead is not None:
            await ledger.finish_window(
                account_id, ahead, state=WindowState.INCOMPLETE, scanned_at=at, reason=LISTED_AHEAD
            )
    wanted = {account_id: await periods(settings, ledger, request, account_id, at) for account_id in account_ids}
    begin = beginning(settings, at)
    for account_id, windows in wanted.items():
        # What a backfill jumps over is still wanted, lest it count as covered until the next night.
        until = max((window.end_at for window in windows), default=at)
        jumped = [Window(begin, until)] if begin is not None and begin < until and windows else []
        await ledger.ask_for(account_id, [*windows, *jumped])
    return wanted


async def _finished(
    share: Share,
    ledger: Ledger,
    ended: Ended,
    tally: Tally,
    traffic: Traffic,
    *,
    period: Window | None,
    took_s: float,
    ended_at: datetime,
    notes: Sequence[str],
) -> RunResult:
    """Report a run, to the ledger too; one that can't take the report any more is the run's error."""
    report = partial(
        run_report,
        run_id=share.run.run_id,
        period=period,
        accounts=list(share.account_ids),
        tally=tally,
        traffic=traffic,
        duration_s=took_s,
        notes=notes,
    )
    try:
        encoded = msgspec.json.encode(report(ended=ended))
        await ledger.end_run(share.run, outcome=outcome(tally, ended), ended_at=ended_at, report=encoded)
    except LedgerError as error:
        ended = replace(ended, error=ended.error or Failure.of(error))
    return RunResult(report(ended=ended), tally, ended, traffic.pages)


async def _witnessed(evidence: Evidence, result: RunResult) -> RunResult:
    """Tell the audit trail how the run ended; a trail that can't take it is the run's error."""
    ended = result.ended
    reason = ended.error.code if ended.error is not None else None
    error = await evidence.witness([run_ended(result.report.outcome, result.tally, reason=reason)])
    if error is None:
        return result
    failed = replace(ended, error=ended.error or Failure.of(error))
    report = msgspec.structs.replace(result.report, outcome=outcome(result.tally, failed), error=str(failed.error))
    return replace(result, report=report, ended=failed)


def started_pool(settings: Settings) -> Pool | None:
    """The processes that these settings name, started; None where one process is enough."""
    return Pool(settings.transfer.processes, work_beside) if settings.transfer.processes > 1 else None


async def _pool(settings: Settings, given: Pool | None, stack: AsyncExitStack) -> Pool | None:
    pool = given or started_pool(settings)
    return None if pool is None else await stack.enter_async_context(pool)


def _apart(share: Share) -> Share:
    """A process's share: as many recordings at a time as one alone would have, in its part of the memory."""
    settings = share.settings
    memory = settings.transfer.memory // settings.transfer.processes
    transfer = settings.transfer.model_copy(update={"memory": memory})
    return replace(share, settings=settings.model_copy(update={"transfer": transfer}))


def _whole(wanted: dict[str, list[Window]]) -> Window | None:
    """From the first to the last instant that was asked for."""
    asked = [window for windows in wanted.values() for window in windows]
    if not asked:
        return None
    return Window(min(window.start_at for window in asked), max(window.end_at for window in asked))
