"""The bounded queue between the listing and the workers; it ends because its sender closed it."""

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType

from archiver.ledger.values import Task


class Feed:
    """At most `size` tasks wait; a full feed stops the listing, an empty one that is closed ends the workers."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[Task] = deque()
        self._senders: deque[asyncio.Future[None]] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    async def put(self, task: Task) -> None:
        """Wait for room, then hand over; what comes after `close` is dropped, since nobody would take it."""
        while len(self._waiting) >= self._size and not self._closed:
            await _turn(self._senders)
        if not self._closed:
            self._waiting.append(task)
            _wake(self._takers)

    async def take(self) -> Task | None:
        """The next task, or None when the feed is closed and empty."""
        while not self._waiting:
            if self._closed:
                return None
            await _turn(self._takers)
        task = self._waiting.popleft()
        _wake(self._senders)
        return task

    def close(self, *, abandon: bool = False) -> None:
        """No more tasks come; with `abandon` those that wait are forgotten (they stay pending in the ledger)."""
        self._closed = True
        if abandon:
            self._waiting.clear()
        for queue in (self._senders, self._takers):
            while queue:
                _wake(queue)


async def _turn(queue: "deque[asyncio.Future[None]]") -> None:
    """Wait until somebody wakes this queue's first; one that is cancelled just then passes it on."""
    mine = asyncio.get_running_loop().create_future()
    queue.append(mine)
    try:
        await mine
    except asyncio.CancelledError:
        if mine.cancelled():
            with suppress(ValueError):
                queue.remove(mine)
        else:
            _wake(queue)
        raise


def _wake(queue: "deque[asyncio.Future[None]]") -> None:
    while queue:
        first = queue.popleft()
        if not first.done():
            first.set_result(None)
            return


class Budget:
    """At most `total_bytes` of media held in memory at once; a request for more than all of it gets all of it.

    First come, first served: a large request is not overtaken for ever by small ones.
    """

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._free_bytes = total_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def share(self, size_bytes: int) -> "Share":
        """An async context manager that holds a share of the budget."""
        return Share(self, min(size_bytes, self._total_bytes))

    async def acquire(self, size_bytes: int) -> None:
        """Wait for that many bytes."""
        if not self._waiting and self._free_bytes >= size_bytes:
            self._free_bytes -= size_bytes
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((size_bytes, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release(size_bytes)
            else:
                with suppress(ValueError):
                    self._waiting.remove((size_bytes, granted))
                self._grant()
            raise

    def release(self, size_bytes: int) -> None:
        """Give them back."""
        self._free_bytes += size_bytes
        self._grant()

    def _grant(self) -> None:
        while self._waiting and self._free_bytes >= self._waiting[0][0]:
            size_bytes, granted = self._waiting.popleft()
            if granted.cancelled():
                continue
            self._free_bytes -= size_bytes
            granted.set_result(None)


class Share:
    """A share of the budget while its block lasts."""

    def __init__(self, budget: Budget, size_bytes: int) -> None:
        self._budget = budget
        self._size_bytes = size_bytes

    async def __aenter__(self) -> None:
        await self._budget.acquire(self._size_bytes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.release(self._size_bytes)
