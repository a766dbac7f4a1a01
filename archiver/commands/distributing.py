"""Hands a command's work to a cluster: who leads it here, and what a worker there does with a parcel."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import msgspec

from archiver.assembly import utc_now
from archiver.commands.crew import crew_for
from archiver.commands.working import Share, Worked, close_quietly, open_elsewhere, work
from archiver.destination import Destination
from archiver.engine.base import Watcher
from archiver.engine.cluster.crew import Crew, Failed
from archiver.engine.cluster.cutting import Cutter
from archiver.engine.cluster.errand import Parcel
from archiver.engine.cluster.speaking import Lost
from archiver.engine.counting import CountingSeat
from archiver.errors import ClusterError, SettingsError, StoreError
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values_claims import ClaimState, DoneBefore
from archiver.pbx.base import Traffic
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended, Failure
from archiver.pipeline.tally import Tally
from archiver.pipeline.threads import seen_through


@dataclass(frozen=True, slots=True)
class _Done:
    """What the ledger keeps of a parcel that was done, for whoever is asked to do it again."""

    ended: Ended
    tally: Tally


async def archive_far(
    share: Share, destination: Destination, partitions: Iterable[Partition], *, stop: asyncio.Event, watcher: Watcher
) -> Worked:
    """Have a run's partitions listed and archived, then what is due; a parcel that can't be done is for the next run."""
    settings, run_id = share.settings, share.run.run_id
    try:
        async with crew_for(
            settings,
            destination,
            run_id=run_id,
            most=settings.transfer.concurrency,
            writes=True,
            watcher=watcher,
            stop=stop,
        ) as crew:
            watcher.begin(crew.counts.tally, crew.counts.traffic)
            cutter = Cutter(partitions, share.account_ids, lambda: crew.hands)
            failure = await _work_off(crew, share, cutter.listing, cutter)
            if failure is None and not crew.ending.is_set():
                failure = await _work_off(crew, share, cutter.due, cutter)
            return Worked(Ended(failure, stop.is_set()), crew.counts.tally, crew.counts.traffic, tuple(crew.notes))
    except (ClusterError, StoreError, SettingsError) as error:
        return Worked(Ended(Failure.of(error), stop.is_set()), Tally(), Traffic())


async def _work_off(crew: Crew, share: Share, cut: Callable[[], Parcel | None], cutter: Cutter) -> Failure | None:
    failures: list[Failure] = []
    loop = asyncio.get_running_loop()

    async def hand() -> None:
        while True:
            async with crew.place() as may_begin:
                parcel = cut() if may_begin else None
                if parcel is None:
                    return
                begun_s = loop.time()
                try:
                    answer = await crew.do(work_parcel, share, parcel)
                except Lost as error:
                    crew.counts.lost(parcel.account_id, len(parcel.partitions), str(error))
                    continue
                if answer is not None:
                    cutter.took(parcel, loop.time() - begun_s)

    async def guarded() -> None:
        try:
            await hand()
        except Failed as error:
            failures.append(error.failure)
            crew.ending.set()
        except ClusterError as error:
            failures.append(Failure.of(error))
            crew.ending.set()

    async with asyncio.TaskGroup() as group:
        for _ in range(share.settings.transfer.concurrency):
            group.create_task(guarded())
    return next(iter(failures), None)


async def work_parcel(share: Share, parcel: Parcel, seat: CountingSeat) -> Ended:
    """On a worker: do a parcel, under a claim that ends whoever had it before; one that was done already is not done again.

    Raises:
        ArchiverError: ClaimLost among them.
    """
    settings = share.settings
    async with AsyncExitStack() as stack:
        destination = open_elsewhere(settings)
        stack.callback(destination.close)
        await seen_through(destination.join)
        ledger = await open_ledger(settings.ledger_url(), create=False, wait=True)
        stack.push_async_callback(close_quietly, ledger)
        claim = await ledger.begin_claim(share.run, parcel.account_id, parcel.name, holder=seat.name, at=utc_now())
        if isinstance(claim, DoneBefore):
            done = msgspec.json.decode(claim.report, type=_Done)
            seat.begin(done.tally, seat.traffic, lambda _: None)
            return done.ended
        ledger.work_under(claim)
        of_parcel = replace(share, account_ids=(parcel.account_id,) if parcel.due else ())
        ended = await work(of_parcel, seat, destination, ledger)
        if ended.error is None:
            state = ClaimState.LEFT if ended.stopped else ClaimState.DONE
            report = msgspec.json.encode(_Done(ended, seat.tally))
            await ledger.end_claim(claim, state, at=utc_now(), report=report)
        return ended
