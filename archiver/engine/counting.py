"""A seat far from whoever leads the run: it keeps counts, which are told as news."""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Callable

from archiver.engine.wire import News, Unsettled
from archiver.pbx.base import Traffic
from archiver.pbx.memory import PbxMemory
from archiver.pipeline.producer import Partition
from archiver.pipeline.tally import Tally

NEWS_EVERY_S = 0.2


class CountingSeat(ABC):
    """What all seats (`base.Seat`) of this kind have in common; `take` is theirs.

    With `part_at_once` None the share of the concurrency is always that of the other limits.
    """

    good_for_s = math.inf

    def __init__(
        self, part: float, *, part_at_once: float | None, memory: PbxMemory | None = None, name: str = ""
    ) -> None:
        self.stop = asyncio.Event()
        self.name = name
        self.part = part
        self.memory = memory or PbxMemory()
        self.tally = Tally()
        self.traffic = Traffic()
        self.most_at_once = math.inf
        self._part_at_once = part_at_once
        self._bytes_came = 0
        self._lowered = 0
        self._lower: Callable[[], None] = lambda: None
        self.held: Callable[[], int] = lambda: 0
        self._unsettled: list[Unsettled] = []
        self._on_part: Callable[[float], None] = lambda _: None

    @abstractmethod
    async def take(self) -> Partition | None:
        """The next partition to list, None when there are no more."""

    @property
    def part_at_once(self) -> float:
        """Share of the concurrency."""
        return self.part if self._part_at_once is None else self._part_at_once

    def begin(self, tally: Tally, traffic: Traffic, on_part: Callable[[float], None]) -> None:
        """The work begins; both stay live, and `on_part` is called with each new `part`."""
        self.tally, self.traffic, self._on_part = tally, traffic, on_part

    def heed(self, lower: Callable[[], None], held: Callable[[], int]) -> None:
        """`lower` is called when another seat has found that the PBX has too much to do; `held` says what we fetch now."""
        self._lower, self.held = lower, held

    def lowered(self) -> None:
        """This one has found so; the others hear of it with the next news."""
        self._lowered += 1

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        self._bytes_came += size_bytes

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome; what was archived is in the counts."""
        if reason:
            self._unsettled.append(Unsettled(account_id, recording_id, status, reason))

    def set_part(self, part: float) -> None:
        """Whoever leads the run has shared out anew."""
        self.part = part
        self._on_part(part)

    def lower(self) -> None:
        """Another seat has found that the PBX has too much to do."""
        self._lower()

    def news(self) -> News:
        """The counts, and what was not archived since the last news."""
        unsettled, self._unsettled = tuple(self._unsettled), []
        return News(self.tally, self.traffic, self._bytes_came, self._lowered, unsettled)
