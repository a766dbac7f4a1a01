"""Leads work on many machines: as many parcels under way as there are hands, one budget, and every parcel's counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import structlog

from archiver.engine.base import Watcher
from archiver.engine.cluster.counts import Counts, End
from archiver.engine.cluster.errand import Answer, Errand, FarNews, Work
from archiver.engine.cluster.roll import Examine
from archiver.engine.cluster.scheduler import Scheduler
from archiver.engine.cluster.shares import Shares
from archiver.engine.cluster.speaking import Lost
from archiver.engine.cluster.standing import Standing
from archiver.errors import ArchiverError, ClaimLost, ClusterError
from archiver.pipeline.run import Failure
from archiver.pipeline.tally import Tally

_MOST_TRIES = 5
_PAUSE_S = 2.0
_SETTLE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a crew works: at most so many parcels at a time; after a stop they may take `grace_s` to end."""

    most: int
    grace_s: float
    examine: Examine


class Failed(Exception):
    """A parcel ended with a fatal error, which is the run's; `error` is there when it never came to a result."""

    def __init__(self, failure: Failure, error: ArchiverError | None) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.error = error


class Crew:
    """The fit workers of a scheduler; an async context manager.

    `ending` is set when `stop` is, or by whoever leads: all workers are told to stop at the next recording. What `notes`
    says of workers is logged as well.
    """

    def __init__(self, address: str, side: str, terms: Terms, *, watcher: Watcher, stop: asyncio.Event) -> None:
        self.counts = Counts(watcher)
        self.ending = asyncio.Event()
        self._address, self._side = address, side
        self._terms = terms
        self._stop = stop
        self._shares = Shares(1, terms.most)
        self._hints: list[str] = []
        self._keys = 0
        self._stack = AsyncExitStack()
        self._log: Any = structlog.get_logger()

    async def __aenter__(self) -> Self:
        try:
            self._scheduler = await Scheduler.connect(self._address, side=self._side, on_news=self._hear)
            self._stack.push_async_callback(self._scheduler.close)
            self._hints += await self._scheduler.notes()
            for hint in self._hints:
                self._log.info(hint)
            self._standing = self._made_standing()
            await self._standing.roll.begin(self._address)
            self._shares.divide(self.hands)
            self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
            watching = [
                self._group.create_task(self._standing.look_now_and_then(self._group)),
                self._group.create_task(self._standing.pass_on(self._stop)),
                self._group.create_task(self._keep_shared_out()),
            ]
            for each in watching:
                self._stack.callback(each.cancel)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    def _made_standing(self) -> Standing:
        return Standing(
            self._scheduler,
            self._address,
            self._terms.examine,
            tell=self._log.warning,
            ending=self.ending,
            grace_s=self._terms.grace_s,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stack.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            # The block's own error leaves as it is, and not wrapped as if it were the crew's.
            if group.exceptions != (error,):
                raise

    @property
    def hands(self) -> int:
        """How many parcels may be under way just now."""
        return max(1, min(self._terms.most, self._standing.roll.hands))

    @property
    def notes(self) -> list[str]:
        """What is to be said of the scheduler and its workers."""
        return [*self._hints, *self._standing.roll.notes]

    @asynccontextmanager
    async def place(self) -> AsyncIterator[bool]:
        """Room for a parcel; False when nothing more is to be begun.

        Raises:
            ClusterUnreachable: the scheduler is silent, or has had no worker, for too long.
        """
        standing = self._standing
        async with standing.room:
            await standing.room.wait_for(
                lambda: standing.is_over or (standing.roll.ready and self._shares.under_way < self.hands)
            )
            standing.raise_if_gone()
            fewer = self._shares.begin()
        try:
            if fewer:
                await self._scheduler.tell("set_portion", self._shares.portion())
            yield not self.ending.is_set()
        finally:
            async with standing.room:
                self._shares.end()
                standing.room.notify_all()

    async def do(self, work: Work, share: Any, parcel: Any) -> Answer | None:
        """In a place, have a parcel done; None when it was not done before the end.

        It is done again elsewhere when its worker dies, closes, or finds that it was away for too long, and after a while
        when it could not be done just then.

        Raises:
            Failed: with a fatal error of the work itself.
            Lost: its workers died of it, one after another, or it failed there.
            ClusterUnreachable.
        """
        before, end, why = Tally(), End.UNDONE, ""
        for turn in range(_MOST_TRIES):
            self._keys += 1
            key = f"{self._side}-{self._keys}"
            self.counts.begin(key, before)
            end = End.LEFT
            try:
                answer = await self._once(work, share, parcel, key)
                end = self._end_of(answer, is_last=turn + 1 == _MOST_TRIES)
            except Lost as error:
                end = End.LOST
                self._log.warning("a part of the work was lost", part=key, reason=str(error))
                raise
            finally:
                before = self.counts.end(key, end)
                self._shares.come_back(key)
            if end is End.DONE:
                return answer
            if end is End.LEFT:
                self._raise_for(answer)
                return None
            if answer is not None and answer.passes:
                why = f": {answer.error}"
                await self._standing.pause(_PAUSE_S * 2**turn)
        self._log.warning("a part of the work was given up", tries=_MOST_TRIES, reason=why)
        raise Lost(f"it came back undone {_MOST_TRIES} times{why}")

    def _end_of(self, answer: Answer | None, *, is_last: bool) -> End:
        failure = answer.failure if answer is not None else None
        if answer is not None and failure is None and (self.ending.is_set() or not answer.stopped):
            return End.DONE
        fatal = failure is not None and failure.code != ClaimLost.code and not (answer and answer.passes)
        if self._standing.is_over or fatal:
            return End.LEFT
        return End.LOST if is_last else End.UNDONE

    def _raise_for(self, answer: Answer | None) -> None:
        """For a parcel that nobody does again: say why, unless it was to end."""
        self._standing.raise_if_gone()
        failure = answer.failure if answer is not None else None
        if answer is not None and failure is not None and not self.ending.is_set():
            raise Failed(failure, answer.error)

    async def _once(self, work: Work, share: Any, parcel: Any, key: str) -> Answer | None:
        """One errand; None when nobody is left who could answer."""
        # Those that were there when it got its place may have left; and an errand for nobody would go to anybody.
        workers = await self._standing.somebody()
        if not workers:
            return None
        errand = Errand(self._side, work, share, parcel, self._shares.set_out(key))

        async def answered() -> Answer | Lost | ClusterError:
            try:
                return await self._scheduler.answer(errand, key, workers)
            except (Lost, ClusterError) as error:
                return error

        self._standing.out += 1
        try:
            async with asyncio.TaskGroup() as group:
                both = [group.create_task(answered()), group.create_task(self._standing.nobody_left(workers))]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for each in both:
                    each.cancel()
        finally:
            self._standing.out -= 1
        if both[0].cancelled() or (answer := both[0].result()) is None:
            return None
        if not isinstance(answer, Answer):
            raise answer
        self.counts.hear(key, answer.news)
        return answer

    async def _keep_shared_out(self) -> None:
        """Give what has become free to those that lack it, and say again what holds, lest anybody thinks we are gone."""
        while True:
            await asyncio.sleep(_SETTLE_EVERY_S)
            if self._shares.settle():
                with suppress(ClusterError):
                    await self._scheduler.tell("set_portion", self._shares.portion())

    def _hear(self, told: FarNews) -> None:
        self._shares.heard(told.key, told.number, told.held)
        if self.counts.hear(told.key, told.news) and not self._standing.is_over:
            self._group.create_task(self._lower(told.key))

    async def _lower(self, but: str) -> None:
        with suppress(ClusterError):
            await self._scheduler.tell("lower", but)
