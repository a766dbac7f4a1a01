"""One run: a producer and workers under one TaskGroup, until done, stopped or failed."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from archiver.errors import ArchiverError, ExitCode, LedgerError, first_of
from archiver.ledger.base import Ledger
from archiver.ledger.values import Run, Settlement, Task
from archiver.pipeline.breaker import Breaker
from archiver.pipeline.feed import Feed
from archiver.pipeline.producer import Order, Producer
from archiver.pipeline.tally import Tally
from archiver.pipeline.tools import Bench
from archiver.pipeline.worker import Worker


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a run; `grace_s` is how long workers may finish after a stop, in seconds.

    Of the workers only so many are `fetching` at a time; the others store what they have received. As many recordings in
    a row that fail for the PBX's sake end the run.
    """

    workers: int
    fetching: int
    queue_size: int
    grace_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A fatal error as a value, which can go from one process to another."""

    code: str
    exit_code: ExitCode
    text: str

    @classmethod
    def of(cls, error: ArchiverError) -> Self:
        """What is to be known of an error."""
        return cls(error.code, error.exit_code, str(error))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: `error` is the fatal one that ended it, `stopped` whether somebody asked it to stop."""

    error: Failure | None
    stopped: bool


async def run(
    order: Order,
    bench: Bench,
    *,
    ledger: Ledger,
    limits: Limits,
    tally: Tally,
    stop: asyncio.Event,
    on_settled: Callable[[Task, Settlement], None],
    now: Callable[[], datetime],
    give_up: Callable[[], None] = lambda: None,
    archive: Callable[[Task], Awaitable[Settlement | None]] | None = None,
) -> Ended:
    """Carry out an order. Every outcome is in the ledger, durable, on return, also after a stop or a fatal error.

    Only a ledger that can't be written any more is itself the error; outcomes that it did not take are found again.

    After `stop` is set the listing ends, workers finish what they have for the grace period and are cancelled then; what
    they had stays pending, and nothing partial remains. `give_up` is called then, lest a thread wait on for a silent store.

    `archive` brings a task to its settlement, or leaves it as it is with None; without it, recordings are downloaded.
    """
    feed = Feed(limits.queue_size)
    breaker = Breaker(bench.pbx, max(limits.fetching, 3))
    producer = Producer(order, pbx=bench.pbx, ledger=ledger, feed=feed, tally=tally, breaker=breaker, now=now)
    return await work_off(
        producer.produce,
        feed,
        breaker,
        bench,
        run=order.run,
        ledger=ledger,
        limits=limits,
        tally=tally,
        stop=stop,
        on_settled=on_settled,
        give_up=give_up,
        archive=archive,
    )


async def work_off(
    produce: Callable[[], Coroutine[Any, Any, None]],
    feed: Feed,
    breaker: Breaker,
    bench: Bench,
    *,
    run: Run,
    ledger: Ledger,
    limits: Limits,
    tally: Tally,
    stop: asyncio.Event,
    on_settled: Callable[[Task, Settlement], None],
    give_up: Callable[[], None] = lambda: None,
    archive: Callable[[Task], Awaitable[Settlement | None]] | None = None,
) -> Ended:
    """Archive what `produce` puts into the feed until it closes it; as for `run`, whatever it is that produces."""
    fetching = asyncio.Semaphore(limits.fetching)
    # One for all: bodies go together only to the same work.
    worker = Worker(bench)

    async def work() -> None:
        while True:
            # Nobody takes a task that could not begin: after a stop it would be waited for.
            async with Turn(fetching) as turn:
                task = await feed.take()
                if task is None:
                    return
                settlement = await (archive(task) if archive else worker.archive(task, received=turn.over))
            if settlement is None:
                continue
            await ledger.settle(run, settlement)
            tally.outcome(task, settlement)
            on_settled(task, settlement)
            breaker.look(settlement.reason or None, settlement.detail)

    error: Failure | None = None
    try:
        async with asyncio.TaskGroup() as group:
            listing = group.create_task(produce())
            workers = [group.create_task(work()) for _ in range(limits.workers)]
            watch = group.create_task(_watch(stop, feed, listing, workers, limits.grace_s, give_up))
            await asyncio.wait([listing, *workers])
            watch.cancel()
    except* ArchiverError as errors:
        error = Failure.of(first_of(errors))
    try:
        await ledger.flush()
    except LedgerError as broken:
        # A disk that is full has no room for the ledger either; what is not in it is found and adopted by the next run.
        error = error or Failure.of(broken)
    return Ended(error, stop.is_set())


class Turn:
    """A place among those that fetch, until its block ends or it is `over` before that."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def __aenter__(self) -> Self:
        await self._places.acquire()
        self._held = True
        return self

    def over(self) -> None:
        """Let somebody else fetch; again is no error."""
        if self._held:
            self._held = False
            self._places.release()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over()


async def _watch(
    stop: asyncio.Event,
    feed: Feed,
    listing: "asyncio.Task[None]",
    workers: "list[asyncio.Task[None]]",
    grace_s: float,
    give_up: Callable[[], None],
) -> None:
    await stop.wait()
    listing.cancel()
    feed.close(abandon=True)
    _, late = await asyncio.wait(workers, timeout=grace_s)
    if late:
        give_up()
    for worker in late:
        worker.cancel()
