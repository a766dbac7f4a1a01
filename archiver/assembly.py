"""The composition root: from settings to a session, a store, a ledger and limits, on one exit stack."""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from archiver.destination import Destination, accept_compliance, open_destination
from archiver.errors import SettingsError
from archiver.keys import KeyTemplate
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import open_ledger
from archiver.pbx.base import Access, Secret
from archiver.pbx.retrying import RetryPolicy
from archiver.pbx.session import PbxSession
from archiver.pipeline.feed import Budget
from archiver.pipeline.planning import nightly_periods
from archiver.pipeline.producer import Order, Partition
from archiver.pipeline.run import Ended, Limits, run
from archiver.pipeline.tally import Tally
from archiver.pipeline.threads import Threads
from archiver.pipeline.throttle import Throttle
from archiver.pipeline.worker import Bench
from archiver.proof.verify import VerifyReport, verify_full
from archiver.reports.plan import Planner, PlanReport, Rates
from archiver.reports.run_report import RunReport, outcome, run_report
from archiver.reports.status import StatusReport, empty_account, status_report
from archiver.settings import Settings
from archiver.stores.lock import ArchiveLock
from archiver.stores.quarantine import Quarantine
from archiver.stores.spool import Spool
from archiver.window import Window, listing_windows, parse_time

_SYNCING_THREADS = 8
"""They share the journal's commits."""
_DISK_THREADS = 4
"""Digests and large writes need no interpreter and run side by side."""
_TOGETHER = 16
"""Measured: small files without syncs go fastest through one thread that takes many at a time; any number of threads
that take one each fight for the interpreter."""
_SPOOL_MEMORY_BYTES = 1 << 20
_NO_BEGINNING = "a first run needs a beginning: `archiver run --since 2026-01-01`, or listing.begin in the settings"


class Watcher(Protocol):
    """What wants to see a run go on (the progress bar)."""

    def begin(self, tally: Tally) -> None:
        """The run begins; the tally stays live."""
        ...

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        ...

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome."""
        ...


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `archiver run` was asked for; without `since` it is a nightly run."""

    since: datetime | None = None
    until: datetime | None = None
    account_ids: tuple[str, ...] = ()
    retry_missing: bool = False
    compliance_accepted: bool = False


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run's report with what the exit code needs."""

    report: RunReport
    tally: Tally
    ended: Ended
    pages: int


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def access(settings: Settings) -> Access:
    """How to reach the PBX, from settings.

    Raises:
        SettingsError: something needed is missing.
    """
    settings.need_pbx()
    pbx, transfer = settings.pbx, settings.transfer
    return Access(
        base_url=pbx.base_url,
        username=pbx.username,
        domain=pbx.domain,
        password=Secret(settings.password()),
        ca_file=Path(pbx.ca_file) if pbx.ca_file else None,
        time_unit=pbx.time_unit,
        page_size=pbx.page_size,
        recording_path=pbx.recording_path,
        connect_timeout_s=pbx.connect_timeout_s,
        read_timeout_s=pbx.read_timeout_s,
        max_retries=pbx.max_retries,
        retry_wait_s=pbx.retry_wait_s,
        requests_per_s=transfer.requests_per_s,
        min_rate_bytes_per_s=float(transfer.min_rate),
        connections=transfer.concurrency + settings.listing.concurrency,
    )


def refuse_what_is_not_built(settings: Settings) -> None:
    """Settings that this version knows and can't serve yet are refused, never passed over.

    Raises:
        SettingsError: naming the key.
    """
    later = {
        "transfer.processes > 1 (only 1)": settings.transfer.processes > 1,
        "cluster.scheduler (only '')": bool(settings.cluster.scheduler),
        "ledger.url = 'postgresql://…' (only '' or sqlite)": settings.ledger_url().startswith("postgresql"),
    }
    for key, asked in later.items():
        if asked:
            raise SettingsError(f"{key} is not in this version yet")


def chosen_accounts(settings: Settings, account_ids: tuple[str, ...]) -> tuple[str, ...]:
    """The accounts of a command: those named, which must be in the settings, else all.

    Raises:
        SettingsError: an account that the settings don't know.
    """
    for account_id in account_ids:
        if account_id not in settings.pbx.account_ids:
            raise SettingsError(f"--account {account_id[:64]!a} is not one of pbx.account_ids in the settings")
    return account_ids or tuple(settings.pbx.account_ids)


async def periods(
    settings: Settings, ledger: Ledger | None, request: RunRequest, account_id: str, now: datetime
) -> list[Window]:
    """What to list of an account.

    Raises:
        SettingsError: a first nightly run without a beginning.
    """
    if request.since is not None:
        return [Window(request.since, request.until or now)]
    begin = (
        parse_time(settings.listing.begin, now=now, timezone=settings.archive.zone) if settings.listing.begin else None
    )
    pieces = await ledger.calendar(account_id) if ledger is not None else ()
    if not pieces and begin is None:
        raise SettingsError(_NO_BEGINNING)
    lookback = timedelta(days=settings.listing.lookback_days)
    return nightly_periods(pieces, begin=begin, lookback=lookback, now=now)


def partitions(settings: Settings, wanted: dict[str, list[Window]], now: datetime) -> Iterator[Partition]:
    """The windows to list, account by account, oldest first."""
    length = timedelta(hours=settings.listing.window_hours)
    overlap = timedelta(hours=settings.listing.overlap_hours)
    for account_id, windows in wanted.items():
        for period in windows:
            for window in listing_windows(period, length=length, overlap=overlap, now=now):
                yield Partition(account_id, window, period)


async def run_archive(
    settings: Settings,
    request: RunRequest,
    *,
    stop: asyncio.Event,
    watcher: Watcher,
    now: Callable[[], datetime] = utc_now,
) -> RunResult:
    """`archiver run`: list, fetch, store, remember; the report is in the ledger too.

    Raises:
        ArchiverError: when the run could not begin; once it has, fatal errors are in the result.
    """
    refuse_what_is_not_built(settings)
    started_at = now().replace(microsecond=0)
    account_ids = chosen_accounts(settings, request.account_ids)
    reach = access(settings)
    run_id = f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=settings.archive.durable)
        stack.callback(destination.close)
        lock = ArchiveLock(destination.folder, run_id=run_id, started_at=started_at)
        stack.callback(lock.close)
        accept_compliance(settings, accepted=request.compliance_accepted)
        await destination.prepare()
        ledger = await open_ledger(settings.ledger_url())
        stack.push_async_callback(ledger.close)
        wanted = {
            account_id: await periods(settings, ledger, request, account_id, started_at) for account_id in account_ids
        }
        for account_id, windows in wanted.items():
            await ledger.ask_for(account_id, windows)
        hands = await _hands(settings, destination, stack)
        pbx = await stack.enter_async_context(PbxSession(reach))
        the_run = await ledger.begin_run(run_id, started_at=started_at)
        tally = Tally()
        watcher.begin(tally)
        bench = _bench(settings, pbx, destination, hands, run_id=run_id, on_bytes=watcher.bytes_came, now=now)
        order = Order(
            run=the_run,
            partitions=partitions(settings, wanted, started_at),
            account_ids=account_ids,
            page_size=settings.pbx.page_size,
            side_by_side=settings.listing.concurrency,
            retry_missing=request.retry_missing,
        )
        begun_s = asyncio.get_running_loop().time()
        ended = await run(
            order,
            bench,
            ledger=ledger,
            limits=Limits(settings.transfer.concurrency, settings.transfer.queue_size, settings.transfer.grace_s),
            tally=tally,
            stop=stop,
            on_settled=lambda task, settlement: watcher.settled(
                task.recording.account_id, task.recording.recording_id, settlement.status, settlement.detail
            ),
            now=now,
            give_up=destination.give_up,
        )
        report = run_report(
            run_id=run_id,
            period=_whole(wanted),
            accounts=list(account_ids),
            tally=tally,
            traffic=pbx.traffic,
            ended=ended,
            duration_s=asyncio.get_running_loop().time() - begun_s,
        )
        encoded = msgspec.json.encode(report)
        await ledger.end_run(the_run, outcome=outcome(tally, ended), ended_at=now(), report=encoded)
        return RunResult(report, tally, ended, pbx.traffic.pages)


async def _hands(settings: Settings, destination: Destination, stack: AsyncExitStack) -> tuple[Threads, Threads]:
    """Threads for the store's work at large, and those for small bodies."""
    if destination.remote:
        # A put to a remote store keeps its thread for as long as the network takes.
        threads = await stack.enter_async_context(Threads(settings.transfer.concurrency, "store"))
        return threads, threads
    if settings.archive.durable:
        threads = await stack.enter_async_context(Threads(_SYNCING_THREADS, "disk"))
        return threads, threads
    threads = await stack.enter_async_context(Threads(_DISK_THREADS, "disk"))
    return threads, await stack.enter_async_context(Threads(1, "disk-quick", together=_TOGETHER))


def _whole(wanted: dict[str, list[Window]]) -> Window | None:
    """From the first to the last instant that was asked for."""
    asked = [window for windows in wanted.values() for window in windows]
    if not asked:
        return None
    return Window(min(window.start_at for window in asked), max(window.end_at for window in asked))


def _bench(
    settings: Settings,
    pbx: PbxSession,
    destination: Destination,
    hands: tuple[Threads, Threads],
    *,
    run_id: str,
    on_bytes: Callable[[int], None],
    now: Callable[[], datetime],
) -> Bench:
    folder = destination.folder
    zone = settings.archive.zone
    bandwidth = settings.transfer.bandwidth
    return Bench(
        pbx=pbx,
        store=destination.store,
        quarantine=Quarantine(folder),
        threads=hands[0],
        quick_threads=hands[1],
        spool=lambda limit_bytes, want_md5: Spool(
            folder.temporaries, memory_bytes=_SPOOL_MEMORY_BYTES, limit_bytes=limit_bytes, want_md5=want_md5
        ),
        budget=Budget(settings.transfer.memory),
        retries=RetryPolicy(settings.pbx.max_retries, settings.pbx.retry_wait_s),
        keys=KeyTemplate(settings.archive.key_template, zone),
        sidecars=settings.archive.sidecar,
        run_id=run_id,
        now=now,
        throttle=Throttle(lambda: bandwidth.at(datetime.now(zone).time())),
        on_bytes=on_bytes,
    )


async def run_plan(
    settings: Settings, request: RunRequest, *, compare: bool, now: Callable[[], datetime] = utc_now
) -> PlanReport:
    """`archiver plan`, and with `compare` `run --dry-run`: walks the listing, writes nothing.

    Raises:
        ArchiverError.
    """
    refuse_what_is_not_built(settings)
    at = now().replace(microsecond=0)
    account_ids = chosen_accounts(settings, request.account_ids)
    reach = access(settings)
    async with AsyncExitStack() as stack:
        ledger = await known_ledger(settings, stack) if compare or request.since is None else None
        wanted = {account_id: await periods(settings, ledger, request, account_id, at) for account_id in account_ids}
        pbx = await stack.enter_async_context(PbxSession(reach))
        rates = Rates(
            settings.transfer.requests_per_s,
            settings.transfer.bandwidth.at(at.astimezone(settings.archive.zone).time()),
        )
        planner = Planner(pbx, ledger, page_size=settings.pbx.page_size)
        return await planner.plan(
            partitions(settings, wanted, at), accounts=list(account_ids), rates=rates, free_bytes=_free_bytes(settings)
        )


async def run_status(settings: Settings) -> StatusReport:
    """`archiver status`, from the ledger alone; an archive that nobody ran yet has an empty one.

    Raises:
        SettingsError, LedgerError.
    """
    refuse_what_is_not_built(settings)
    async with AsyncExitStack() as stack:
        ledger = await known_ledger(settings, stack)
        if ledger is None:
            return StatusReport(
                accounts=[empty_account(account_id) for account_id in settings.pbx.account_ids], last_run=None
            )
        return await status_report(ledger, settings.pbx.account_ids)


async def run_verify(settings: Settings, account_ids: Sequence[str]) -> VerifyReport:
    """Read every archived object back and compare it with the ledger and its sidecar.

    Raises:
        ArchiverError.
    """
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        threads = await stack.enter_async_context(Threads(_DISK_THREADS, "disk"))
        return await verify_full(ledger, destination.store, threads, account_ids)


async def known_ledger(settings: Settings, stack: AsyncExitStack) -> Ledger | None:
    """The ledger for reading, closed with the stack; None when no run has made one yet."""
    path = settings.ledger_url().removeprefix("sqlite:///")
    if not await asyncio.to_thread(Path(path).exists):
        return None
    ledger = await open_ledger(settings.ledger_url(), create=False)
    stack.push_async_callback(ledger.close)
    return ledger


def _free_bytes(settings: Settings) -> int | None:
    """Free space where the archive is or will be; None where nobody can tell."""
    if settings.archive.store != "local":
        return None
    folder = settings.store.local.root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
