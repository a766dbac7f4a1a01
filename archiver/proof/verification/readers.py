"""Who reads what a full verification must read, and in what portions: threads of this process, or somebody elsewhere."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from archiver.pipeline.threads import Threads
from archiver.proof.verification.inventory import Expected
from archiver.proof.verification.reading import GONE_AFTER, Looked, read_all_of
from archiver.stores.base import Store

SIDE_BY_SIDE = 16


@dataclass(frozen=True, slots=True)
class Bounds:
    """A portion ends with the object that reaches one of these, and before another account's where that is asked."""

    objects: int
    size_bytes: int
    of_one_account: bool = False


TOGETHER = Bounds(32, 4 << 20)
"""One after another in one thread: a few sidecars cost no more than one, large media stand alone."""
PARTITION = Bounds(2000, 2 << 30, of_one_account=True)
"""For another process or machine: since keys are in order, an account and, by the default template, some days of it."""


class Cutter:
    """Cuts a row of objects into portions, however it comes in."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._portion: list[Expected] = []
        self._size_bytes = 0

    def cut(self, items: Sequence[Expected]) -> Iterator[Sequence[Expected]]:
        """The portions that these objects make full."""
        bounds = self._bounds
        for item in items:
            if bounds.of_one_account and self._portion and self._portion[-1].row.account_id != item.row.account_id:
                yield from self.rest()
            self._portion.append(item)
            self._size_bytes += item.row.size_bytes if item.is_media else 0
            if len(self._portion) >= bounds.objects or self._size_bytes >= bounds.size_bytes:
                yield from self.rest()

    def rest(self) -> Iterator[Sequence[Expected]]:
        """What is left, if anything."""
        portion, self._portion, self._size_bytes = self._portion, [], 0
        if portion:
            yield portion


def portions(items: Sequence[Expected], bounds: Bounds = TOGETHER) -> Iterator[Sequence[Expected]]:
    """All of these objects, in portions."""
    cutter = Cutter(bounds)
    yield from cutter.cut(items)
    yield from cutter.rest()


class Reader(Protocol):
    """Reads portions for a verification, up to `at_once` at a time, cut to its `bounds`."""

    @property
    def at_once(self) -> int:
        """How many portions it takes at a time."""
        ...

    @property
    def bounds(self) -> Bounds:
        """How large a portion is."""
        ...

    async def read(self, portion: Sequence[Expected]) -> Sequence[Looked]:
        """Read each object once to its end, in any order; fewer only after a stop, or when the store is gone.

        Reading changes nothing: what got lost on its way may be read again.

        Raises:
            ArchiverError: it can't be done.
        """
        ...


class ReadHere:
    """Reads in threads of this process (`Reader`)."""

    at_once = SIDE_BY_SIDE
    bounds = TOGETHER

    def __init__(self, store: Store, threads: Threads, stopped: Callable[[], bool]) -> None:
        self._store = store
        self._threads = threads
        self._stopped = stopped

    async def read(self, portion: Sequence[Expected]) -> Sequence[Looked]:
        """Read them one after another in one thread."""
        return await self._threads.run(read_all_of, self._store, portion, self._stopped)


class Failures:
    """Counts objects in a row that the store did not give: a bad sector is a finding, a store that is gone is none."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def store_is_gone(self) -> bool:
        """Whether so many failed that it must be."""
        return self._in_a_row >= GONE_AFTER

    def see(self, looked: Looked) -> None:
        """Take in how the next one went."""
        self._in_a_row = 0 if looked.error is None else self._in_a_row + 1


async def read_partition(
    store: Store, threads: Threads, portion: Sequence[Expected], stopped: Callable[[], bool]
) -> list[Looked]:
    """Read a partition until `stopped` or the store is gone, side by side; what came of it, in the order it was done."""
    here = ReadHere(store, threads, stopped)
    waiting = deque(portions(portion, here.bounds))
    failures = Failures()
    done: list[Looked] = []

    async def work() -> None:
        while waiting and not stopped() and not failures.store_is_gone():
            for looked in await here.read(waiting.popleft()):
                if failures.store_is_gone():
                    # Whoever counts after us comes to the same end.
                    return
                failures.see(looked)
                done.append(looked)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(here.at_once, len(waiting))):
            group.create_task(work())
    return done
