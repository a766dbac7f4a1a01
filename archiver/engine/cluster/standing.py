"""Whether a crew's work can go on: whether it is to end, and whether the scheduler and anybody who works are there."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from archiver.engine.cluster.roll import Examine, Roll
from archiver.engine.cluster.scheduler import Scheduler
from archiver.errors import ClusterError, ClusterUnreachable

_LOOK_EVERY_S = 0.5
_NO_WORKER_S = 60.0


class Standing:
    """Looks around; whoever waits for something of it waits in its `room`.

    `out` is how many errands somebody has just now. `ending` is set when `stop` is, or by whoever leads; then all workers
    are told to stop, and those that need longer than `grace_s` are given up.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        address: str,
        examine: Examine,
        *,
        tell: Callable[[str], None],
        ending: asyncio.Event,
        grace_s: float,
    ) -> None:
        self.room = asyncio.Condition()
        self.roll = Roll(scheduler, examine, notify=self.notify, tell=tell)
        self.ending = ending
        self.out = 0
        self._scheduler, self._address = scheduler, address
        self._grace_s = grace_s
        self._gone = ""
        self._given_up = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be begun."""
        return bool(self._gone) or self.ending.is_set()

    def raise_if_gone(self) -> None:
        """Unless it is to end anyway.

        Raises:
            ClusterUnreachable: there is nobody for too long.
        """
        if self._gone and not self.ending.is_set():
            raise ClusterUnreachable(self._gone)

    async def somebody(self) -> frozenset[str]:
        """Whom an errand can be given to, once there is anybody; empty when it is over."""
        async with self.room:
            await self.room.wait_for(lambda: self.is_over or self.roll.ready)
        return frozenset() if self.is_over else self.roll.ready

    async def nobody_left(self, workers: frozenset[str]) -> None:
        """Until an errand's workers are gone and others are there, or nobody is, or the end can't be waited for."""
        async with self.room:
            await self.room.wait_for(
                lambda: self._gone or self._given_up or (self.roll.ready and not self.roll.fit & workers)
            )

    async def pause(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self.room:
                await self.room.wait_for(lambda: self.is_over)

    async def notify(self) -> None:
        """Something has changed."""
        async with self.room:
            self.room.notify_all()

    async def look_now_and_then(self, group: asyncio.TaskGroup) -> None:
        """See who is there, until the scheduler is silent, or has nobody who works or can, for too long."""
        loop = asyncio.get_running_loop()
        seen_s = loop.time()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            why = f"the scheduler {self._address} has had no fit worker for {_NO_WORKER_S:.0f} s"
            try:
                await self.roll.look(group)
                # One that is paused finishes what it has; with nothing to finish it is of no use.
                if self.roll.ready or (self.roll.fit and self.out):
                    seen_s = loop.time()
            except ClusterError as error:
                # Whoever waits for an answer hears of it at once, unless the scheduler is only silent.
                why = str(error)
            self._gone = why if loop.time() - seen_s > _NO_WORKER_S else ""
            await self.notify()

    async def pass_on(self, stop: asyncio.Event) -> None:
        """Tell everybody when it is to end, again for those that come late, and give up those that don't."""
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(event.wait()) for event in (stop, self.ending)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
        self.ending.set()
        try:
            async with asyncio.timeout(self._grace_s):
                while True:
                    await self.notify()
                    await self._scheduler.tell("stop")
                    await asyncio.sleep(_LOOK_EVERY_S)
        except (TimeoutError, ClusterError):
            self._given_up = True
            await self.notify()
