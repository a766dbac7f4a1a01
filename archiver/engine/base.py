"""What the coroutine that archives sees of the place where it runs, so that it is the same everywhere."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from archiver.pbx.base import Traffic
from archiver.pbx.memory import PbxMemory
from archiver.pipeline.producer import Partition
from archiver.pipeline.tally import Tally


class Watcher(Protocol):
    """What wants to see a run go on (the progress bar)."""

    def begin(self, tally: Tally, traffic: Traffic) -> None:
        """The run begins; both stay live."""
        ...

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        ...

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome."""
        ...

    def moved(self) -> None:
        """The tally has changed."""
        ...


class Seat(Protocol):
    """Where one share of a run is worked on: it gives out partitions, says when to stop, and takes counts.

    `part` is the share of the run's request rate and bandwidth that belongs to this seat just now, above 0 and at most 1;
    `part_at_once` likewise of how many recordings are fetched at a time. That is at most `most_at_once`, which may be none
    for a while. All of this holds for `good_for_s` seconds; after them, and no news, nothing more is asked of the PBX.
    """

    @property
    def name(self) -> str:
        """Who sits here, for people."""
        ...

    @property
    def memory(self) -> PbxMemory:
        """What sessions with the PBX that take this seat one after another remember."""
        ...

    @property
    def stop(self) -> asyncio.Event:
        """Set when the run shall end."""
        ...

    @property
    def part(self) -> float:
        """Share of the request rate and of the bandwidth."""
        ...

    @property
    def part_at_once(self) -> float:
        """Share of the concurrency."""
        ...

    @property
    def most_at_once(self) -> float:
        """How many recordings may be fetched at a time, whatever the share says."""
        ...

    @property
    def good_for_s(self) -> float:
        """How long a share holds, in seconds, unless it is said again."""
        ...

    async def take(self) -> Partition | None:
        """The next partition to list, None when there are no more."""
        ...

    def begin(self, tally: Tally, traffic: Traffic, on_part: Callable[[float], None]) -> None:
        """The work begins; both stay live, and `on_part` is called with each new `part`, and when one is said again."""
        ...

    def heed(self, lower: Callable[[], None], held: Callable[[], int]) -> None:
        """`lower` is to be called when another seat of this run has found that the PBX has too much to do.

        `held` says how many recordings are being fetched just now.
        """
        ...

    def lowered(self) -> None:
        """This seat has found so, and asks for less at a time from now on."""
        ...

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        ...

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome."""
        ...
