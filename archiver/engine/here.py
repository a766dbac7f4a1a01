"""A run in this process alone."""

import asyncio
import math
from collections.abc import Callable, Iterable

from archiver.engine.base import Watcher
from archiver.pbx.base import Traffic
from archiver.pbx.memory import PbxMemory
from archiver.pipeline.producer import Partition
from archiver.pipeline.tally import Tally


class Here:
    """The only seat of a run (`base.Seat`); `tally` and `traffic` are those of the work itself."""

    def __init__(self, partitions: Iterable[Partition], stop: asyncio.Event, watcher: Watcher) -> None:
        self.stop = stop
        self.name = "here"
        self.part = 1.0
        self.part_at_once = 1.0
        self.most_at_once = self.good_for_s = math.inf
        self.memory = PbxMemory.of_one_alone()
        self.tally = Tally()
        self.traffic = Traffic()
        self._partitions = iter(partitions)
        self._watcher = watcher

    async def take(self) -> Partition | None:
        """The next partition to list, None when there are no more."""
        return next(self._partitions, None)

    def begin(self, tally: Tally, traffic: Traffic, on_part: Callable[[float], None]) -> None:  # noqa: ARG002 - all is ours
        """The work begins; both stay live."""
        self.tally, self.traffic = tally, traffic
        self._watcher.begin(tally, traffic)

    def heed(self, lower: Callable[[], None], held: Callable[[], int]) -> None:
        """There is nobody else to heed."""

    def lowered(self) -> None:
        """There is nobody else to tell."""

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        self._watcher.bytes_came(size_bytes)

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome."""
        self._watcher.settled(account_id, recording_id, status, reason)
