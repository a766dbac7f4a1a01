"""Leads work on many machines: as many parcels under way as there are hands, one budget, and every parcel's counts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from archiver.engine.base import Watcher
from archiver.engine.cluster.counts import Counts
from archiver.engine.cluster.errand import Answer, Errand, FarNews, Work
from archiver.engine.cluster.scheduler import Lost, Scheduler
from archiver.engine.cluster.shares import Shares
from archiver.errors import ArchiverError, ClaimLost, ClusterError, ClusterUnreachable, NotShared
from archiver.pipeline.run import Failure

_LOOK_EVERY_S = 0.5
_NO_WORKER_S = 60.0
_EXAMINED_S = 30.0
_MOST_TRIES = 5


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a crew works: at most so many parcels at a time; after a stop they may take `grace_s` to end.

    `examine` says what is wrong with a worker that the scheduler knows by this address, empty when nothing is.
    """

    most: int
    grace_s: float
    examine: Callable[[Scheduler, str], Awaitable[str]]


class Failed(Exception):
    """A parcel ended with a fatal error, which is the run's; `error` is there when it never came to a result."""

    def __init__(self, failure: Failure, error: ArchiverError | None) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.error = error


class Crew:
    """The fit workers of a scheduler; an async context manager.

    `ending` is set when `stop` is, or by whoever leads: all workers are told to stop at the next recording.
    """

    def __init__(self, address: str, side: str, terms: Terms, *, watcher: Watcher, stop: asyncio.Event) -> None:
        self.counts = Counts(watcher)
        self.notes: list[str] = []
        self.ending = asyncio.Event()
        self._address, self._side = address, side
        self._terms = terms
        self._stop = stop
        self._shares = Shares(1, terms.most)
        self._fit: dict[str, int] = {}
        self._unfit: set[str] = set()
        self._room = asyncio.Condition()
        self._keys = 0
        self._deserted = False
        self._given_up = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self._scheduler = await Scheduler.connect(self._address, side=self._side, on_news=self._hear)
            self._stack.push_async_callback(self._scheduler.close)
            self.notes += await self._scheduler.notes()
            await self._look_around(strict=True)
            self._shares.divide(self.hands)
            self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
            watching = [
                self._group.create_task(each())
                for each in (self._look_now_and_then, self._keep_shared_out, self._pass_on)
            ]
            for each in watching:
                self._stack.callback(each.cancel)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def hands(self) -> int:
        """How many parcels may be under way just now."""
        return max(1, min(self._terms.most, sum(self._fit.values())))

    @asynccontextmanager
    async def place(self) -> AsyncIterator[bool]:
        """Room for a parcel; False when nothing more is to be begun.

        Raises:
            ClusterUnreachable: there has been no worker for too long.
        """
        async with self._room:
            await self._room.wait_for(lambda: self._is_over or (self._fit and self._shares.under_way < self.hands))
            if self._deserted and not self.ending.is_set():
                raise ClusterUnreachable(
                    f"the scheduler {self._address} has had no fit worker for {_NO_WORKER_S:.0f} s"
                )
            fewer = self._shares.begin()
        try:
            if fewer:
                await self._scheduler.tell("set_portion", self._shares.portion())
            yield not self.ending.is_set()
        finally:
            async with self._room:
                self._shares.end()
                self._room.notify_all()

    async def do(self, work: Work, share: Any, parcel: Any) -> Answer | None:
        """In a place, have a parcel done; None when it was not done before the end.

        It is done again elsewhere when its worker dies, closes, or finds that it was away for too long.

        Raises:
            Failed: with a fatal error of the work itself.
            Lost: its workers died of it, one after another.
            ClusterUnreachable.
        """
        for _ in range(_MOST_TRIES):
            self._keys += 1
            key = f"{self._side}-{self._keys}"
            self.counts.begin(key)
            done = False
            try:
                answer = await self._once(work, share, parcel, key)
                if answer is not None:
                    self.counts.hear(key, answer.news)
                    done = answer.failure is None and (self.ending.is_set() or not answer.stopped)
            finally:
                self.counts.end(key, done=done)
                self._shares.come_back(key)
            if done or self._is_over:
                return answer if done else None
            failure = answer.failure if answer is not None else None
            if answer is not None and failure is not None and failure.code != ClaimLost.code:
                raise Failed(failure, answer.error)
        raise Lost(f"it came back undone {_MOST_TRIES} times")

    async def _once(self, work: Work, share: Any, parcel: Any, key: str) -> Answer | None:
        """One errand; None when nobody is left who could answer."""
        workers = frozenset(self._fit)
        errand = Errand(self._side, work, share, parcel, self._shares.set_out(key))

        async def answered() -> Answer | Lost | ClusterError:
            try:
                return await self._scheduler.answer(errand, key, workers)
            except (Lost, ClusterError) as error:
                return error

        async with asyncio.TaskGroup() as group:
            both = [group.create_task(answered()), group.create_task(self._nobody_left(workers))]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for each in both:
                each.cancel()
        if both[0].cancelled() or (answer := both[0].result()) is None:
            return None
        if isinstance(answer, Answer):
            return answer
        raise answer

    async def _nobody_left(self, workers: Collection[str]) -> None:
        """Until an errand's workers are gone and others are there, or nobody is, or the end can't be waited for."""
        async with self._room:
            await self._room.wait_for(
                lambda: self._deserted or self._given_up or (self._fit and not self._fit.keys() & workers)
            )

    @property
    def _is_over(self) -> bool:
        return self._deserted or self.ending.is_set()

    async def _pass_on(self) -> None:
        """Tell everybody when it is to end, again for those that come late, and give up those that don't."""
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(event.wait()) for event in (self._stop, self.ending)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
        self.ending.set()
        try:
            async with asyncio.timeout(self._terms.grace_s):
                while True:
                    await self._notify()
                    await self._scheduler.tell("stop")
                    await asyncio.sleep(_LOOK_EVERY_S)
        except (TimeoutError, ClusterError):
            self._given_up = True
            await self._notify()

    async def _look_now_and_then(self) -> None:
        loop = asyncio.get_running_loop()
        seen_s = loop.time()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self._look_around(strict=False)
                seen_s = loop.time() if self._fit else seen_s
            except ClusterError:
                # Whoever waits for an answer hears of it; so does everybody when it lasts.
                pass
            self._deserted = loop.time() - seen_s > _NO_WORKER_S
            await self._notify()

    async def _keep_shared_out(self) -> None:
        """Give what has become free to those that lack it, and say again what holds, lest anybody thinks we are gone."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self._shares.settle():
                with suppress(ClusterError):
                    await self._scheduler.tell("set_portion", self._shares.portion())

    async def _look_around(self, *, strict: bool) -> None:
        """Find out who is there. At first all must be fit; who comes later and is not gets nothing to do."""
        there = await self._scheduler.workers()
        if strict and not there:
            raise ClusterUnreachable(f"the scheduler {self._address} has no worker: start one with `dask worker`")
        for address in [address for address in self._fit if address not in there]:
            del self._fit[address]
        self._unfit &= there.keys()
        new = [address for address in there if address not in self._fit and address not in self._unfit]
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self._wrong_with(address)) for address in new]
        for address, look in zip(new, looks, strict=True):
            wrong, threads = look.result(), there[address]
            if isinstance(wrong, ClusterError):
                raise wrong
            if wrong and strict:
                raise NotShared(f"worker {address}: {wrong}")
            if wrong:
                self._unfit.add(address)
                self.notes.append(f"Worker {address} got nothing to do: {wrong}.")
            else:
                self._fit[address] = threads

    async def _wrong_with(self, address: str) -> str | ClusterError:
        """What keeps a worker from being of use, empty when nothing does; the error when nobody can be asked."""
        try:
            async with asyncio.timeout(_EXAMINED_S):
                return await self._terms.examine(self._scheduler, address)
        except TimeoutError:
            return f"it did not answer within {_EXAMINED_S:.0f} s"
        except ClusterError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever comes from a worker of others must not end the run
            return f"it can't be asked ({type(error).__name__}): is the same archiver installed there?"

    def _hear(self, told: FarNews) -> None:
        self._shares.heard(told.key, told.number, told.held)
        if self.counts.hear(told.key, told.news) and not self._is_over:
            self._group.create_task(self._lower(told.key))

    async def _lower(self, but: str) -> None:
        with suppress(ClusterError):
            await self._scheduler.tell("lower", but)

    async def _notify(self) -> None:
        async with self._room:
            self._room.notify_all()
