"""What everybody who works on a run does, wherever it is: one coroutine, from the first listing to the last outcome."""

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime

from archiver.assembly import hands_for, limits_for, make_bench, utc_now, whole_part
from archiver.destination import Destination, open_destination
from archiver.engine.base import Seat
from archiver.errors import LedgerError
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Run
from archiver.pbx.base import Access, Traffic
from archiver.pbx.session import PbxSession
from archiver.pipeline.producer import Order
from archiver.pipeline.run import Ended, run
from archiver.pipeline.tally import Tally
from archiver.pipeline.threads import seen_through
from archiver.pipeline.tools import Bench
from archiver.settings import Settings


@dataclass(frozen=True, slots=True)
class Share:
    """What everybody who works on a run must know; it can go to another process."""

    settings: Settings
    reach: Access
    run: Run
    account_ids: tuple[str, ...]
    retry_missing: bool


@dataclass(frozen=True, slots=True)
class Worked:
    """How the work on a run ended, wherever it was done: its counts, and what it has to say besides."""

    ended: Ended
    tally: Tally
    traffic: Traffic
    notes: tuple[str, ...] = ()


async def work(
    share: Share, seat: Seat, destination: Destination, ledger: Ledger, *, now: Callable[[], datetime] = utc_now
) -> Ended:
    """Work on what the seat gives out until there is no more; every outcome is durable on return.

    Raises:
        ArchiverError: when the work could not begin; once it has, fatal errors are in the result.
    """
    settings = share.settings
    async with AsyncExitStack() as stack:
        hands = await hands_for(settings, destination, stack)
        rate = share.reach.requests_per_s
        reach = replace(share.reach, requests_per_s=rate * seat.part)
        pbx = await stack.enter_async_context(PbxSession(reach, memory=seat.memory))
        tally = Tally()
        bench = make_bench(settings, pbx, destination, hands, seat, run_id=share.run.run_id, now=now)
        begin(seat, tally, pbx, bench, share.reach.requests_per_s, settings.transfer.concurrency)
        order = Order(
            run=share.run,
            take=seat.take,
            account_ids=share.account_ids,
            page_size=share.reach.page_size,
            side_by_side=whole_part(settings.listing.concurrency, seat.part_at_once),
            retry_missing=share.retry_missing,
        )
        ended = await run(
            order,
            bench,
            ledger=ledger,
            limits=limits_for(settings),
            tally=tally,
            stop=seat.stop,
            on_settled=lambda task, settlement: seat.settled(
                task.recording.account_id, task.recording.recording_id, settlement.status, settlement.detail
            ),
            now=now,
            give_up=destination.give_up,
        )
        # This share asks for no more media.
        pbx.traffic.at_once = 0
        return ended


def open_elsewhere(settings: Settings) -> Destination:
    """The destination on another machine than that of whoever leads: with a remote store its folder is its own.

    Raises:
        SettingsError, StoreDenied, StoreFull, StoreUnavailable.
    """
    return open_destination(settings, durable=settings.archive.durable, make=settings.archive.store != "local")


def begin(seat: Seat, tally: Tally, pbx: PbxSession, bench: Bench, rate: float, at_once: int) -> None:
    """Begin at a seat, and keep to its share of these limits from now on, whatever becomes of it."""

    def share_out(part: float) -> None:
        pbx.set_rate(rate * part, for_s=seat.good_for_s)
        bench.limiter.set_bound(whole_part(at_once, seat.part_at_once), ceiling=seat.most_at_once)
        bench.throttle.ask_again()

    seat.begin(tally, pbx.traffic, share_out)
    # The share may have become another one while the session was opened.
    share_out(seat.part)


async def work_beside(share: Share, seat: Seat) -> Ended:
    """`work` in a process of its own, beside the one that leads the run and holds the archive's lock.

    Raises:
        ArchiverError: see `work`.
    """
    async with AsyncExitStack() as stack:
        destination = open_destination(share.settings, durable=share.settings.archive.durable, make=False)
        stack.callback(destination.close)
        await seen_through(destination.join)
        ledger = await open_ledger(share.settings.ledger_url(), create=False, wait=True)
        stack.push_async_callback(close_quietly, ledger)
        ledger.work_beside(share.run)
        return await work(share, seat, destination, ledger)


async def close_quietly(ledger: Ledger) -> None:
    """Close it; that it was broken is in the report already."""
    with suppress(LedgerError):
        await ledger.close()
