"""The composition root: from settings to a session, a store, a ledger and limits; `archiving` puts them to work."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archiver.destination import Destination
from archiver.engine.base import Seat
from archiver.errors import SettingsError
from archiver.keys import KeyTemplate
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.places import place_of, words_for
from archiver.pbx.base import Access, Pbx, Secret
from archiver.pbx.retrying import RetryPolicy
from archiver.pipeline.feed import Budget
from archiver.pipeline.limiter import Limiter
from archiver.pipeline.planning import nightly_periods
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Limits
from archiver.pipeline.threads import Threads
from archiver.pipeline.throttle import Throttle
from archiver.pipeline.tools import Bench
from archiver.settings import Settings
from archiver.stores.disk import spoken
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
_QUICK_SYNCING_THREADS = 2
"""One puts what has come meanwhile while the other waits for the disk."""
_TOGETHER_SYNCED = 64
_SPOOL_MEMORY_BYTES = 1 << 20
_NO_BEGINNING = "a first run needs a beginning: `archiver run --since 2026-01-01`, or listing.begin in the settings"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `archiver run` was asked for; without `since` it is a nightly run."""

    since: datetime | None = None
    until: datetime | None = None
    account_ids: tuple[str, ...] = ()
    retry_missing: bool = False
    compliance_accepted: bool = False


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


def chosen_accounts(settings: Settings, account_ids: tuple[str, ...]) -> tuple[str, ...]:
    """The accounts of a command: those named, which must be in the settings, else all.

    Raises:
        SettingsError: an account that the settings don't know.
    """
    for account_id in account_ids:
        if account_id not in settings.pbx.account_ids:
            raise SettingsError(f"--account {account_id[:64]!a} is not one of pbx.account_ids in the settings")
    return account_ids or tuple(settings.pbx.account_ids)


def beginning(settings: Settings, now: datetime) -> datetime | None:
    """Where nightly runs start; None when the settings don't say."""
    begin = settings.listing.begin
    return parse_time(begin, now=now, timezone=settings.archive.zone) if begin else None


async def periods(
    settings: Settings, ledger: Ledger | None, request: RunRequest, account_id: str, now: datetime
) -> list[Window]:
    """What to list of an account; what is not over yet can't be listed.

    Raises:
        SettingsError: a first nightly run without a beginning.
    """
    if request.since is not None:
        until = min(request.until or now, now)
        return [Window(request.since, until)] if request.since < until else []
    begin = beginning(settings, now)
    pieces = await ledger.calendar(account_id) if ledger is not None else ()
    if not pieces and begin is None:
        raise SettingsError(f"account {account_id[:64]!a}: {_NO_BEGINNING}")
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


def limits_for(settings: Settings) -> Limits:
    """More workers than may fetch at once: whoever stores a recording, or pauses before another try, lets others fetch.

    The more may store at a time, the more of them share a wait for the disk.
    """
    transfer = settings.transfer
    fetching = transfer.concurrency + max(2, transfer.concurrency // 4)
    syncing = settings.archive.durable and settings.archive.store == "local"
    workers = fetching + _TOGETHER_SYNCED if syncing else fetching
    return Limits(workers, fetching, transfer.queue_size, transfer.grace_s)


async def hands_for(settings: Settings, destination: Destination, stack: AsyncExitStack) -> tuple[Threads, Threads]:
    """Threads for the store's work at large, and those for small bodies."""
    if destination.remote:
        # A put to a remote store keeps its thread for as long as the network takes.
        threads = await stack.enter_async_context(Threads(settings.transfer.concurrency, "store"))
        return threads, threads
    if settings.archive.durable:
        threads = await stack.enter_async_context(Threads(_SYNCING_THREADS, "disk"))
        quick = Threads(_QUICK_SYNCING_THREADS, "disk-quick", together=_TOGETHER_SYNCED)
    else:
        threads = await stack.enter_async_context(Threads(_DISK_THREADS, "disk"))
        quick = Threads(1, "disk-quick", together=_TOGETHER)
    return threads, await stack.enter_async_context(quick)


def whole_part(whole: int, part: float) -> int:
    """A part of a number, rounded down, and one at least."""
    # A third of three is one, whatever floating point makes of it.
    return max(1, int(whole * part + 1e-9))


def make_bench(
    settings: Settings,
    pbx: Pbx,
    destination: Destination,
    hands: tuple[Threads, Threads],
    seat: Seat,
    *,
    run_id: str,
    now: Callable[[], datetime],
) -> Bench:
    """A worker's tools."""
    folder = destination.folder
    zone = settings.archive.zone
    bandwidth = settings.transfer.bandwidth

    def bytes_per_s() -> float | None:
        allowed = bandwidth.at(datetime.now(zone).time())
        return None if allowed is None else allowed * seat.part

    def note_limit(limit: int) -> None:
        pbx.traffic.at_once = limit

    limiter = Limiter(
        whole_part(settings.transfer.concurrency, seat.part_at_once), on_lowered=seat.lowered, on_limit=note_limit
    )
    seat.heed(limiter.lower, lambda: limiter.held)
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
        throttle=Throttle(bytes_per_s),
        limiter=limiter,
        on_bytes=seat.bytes_came,
    )


async def known_ledger(settings: Settings, stack: AsyncExitStack) -> SqlLedger | None:
    """The ledger for reading, closed with the stack; None when no run has made one yet.

    Raises:
        StoreDenied, StoreUnavailable: its folder can't be looked into.
        LedgerError.
    """
    url = settings.ledger_url()
    with spoken(words_for(url)):
        # A folder that can't be looked into may well hold one.
        if not await asyncio.to_thread(place_of(url).is_there):
            return None
    ledger = await open_ledger(settings.ledger_url(), create=False)
    stack.push_async_callback(ledger.close)
    return ledger
