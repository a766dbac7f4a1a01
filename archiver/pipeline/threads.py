"""Blocking work in a pool of our own: many pieces to a hop, and none abandoned half way.

A cancelled coroutine waits until its thread is out, since a file that is deleted or closed under a running write could
be anybody's by then (pitfalls P21 and P22). aiofiles carries the hop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import aiofiles.os

P = ParamSpec("P")
T = TypeVar("T")


class _Piece:
    """A call on its way; `out` is made by a caller that was cancelled and waits for the thread to be out."""

    __slots__ = ("is_out", "out", "result", "work")

    def __init__(self, work: Callable[[], Any], result: "asyncio.Future[Any]") -> None:
        self.work = work
        self.result = result
        self.is_out = False
        self.out: asyncio.Future[None] | None = None

    def land(self, value: object, error: BaseException | None) -> None:
        self.is_out = True
        if self.out is not None:
            self.out.set_result(None)
        if self.result.cancelled():
            return
        if error is None:
            self.result.set_result(value)
        else:
            self.result.set_exception(error)


_Finished = list[tuple[_Piece, Any, BaseException | None]]


class Threads:
    """A named pool of `count` threads for blocking calls; an async context manager that waits for them on the way out.

    A thread goes on with whatever waits, without a turn of the event loop in between, and tells the loop of `together`
    finished calls at once: short calls gain much by it, since each word to the loop costs more than a small file does.
    """

    def __init__(self, count: int, name: str, *, together: int = 1) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._idle = count
        self._together = together
        self._waiting: deque[_Piece] = deque()
        self._carriers = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._carriers.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._carriers.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            # The block's own error leaves as it is, and not wrapped as if it were the carriers'.
            if group.exceptions != (error,):
                raise
        finally:
            self._pool.shutdown(wait=True)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, made in a thread of this pool; a cancellation is delivered once the thread is out."""
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        piece = _Piece(partial(work, *args, **kwargs), result)
        self._waiting.append(piece)
        if self._idle:
            self._idle -= 1
            self._carriers.create_task(self._carry())
        try:
            return await result
        except asyncio.CancelledError:
            if not piece.is_out:
                piece.out = loop.create_future()
                while not piece.is_out:
                    await asyncio.wait([piece.out])
            raise

    async def _carry(self) -> None:
        """Keep one thread at work while anything waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                try:
                    await _hop(self._waiting, self._together, loop, executor=self._pool)
                except Exception as error:  # noqa: BLE001 - no thread could be had: those who wait must hear of it
                    while self._waiting:
                        self._waiting.popleft().land(None, error)
        finally:
            self._idle += 1


async def seen_through(work: Callable[[], T]) -> T:
    """The result of one piece of blocking work, in a thread of its own that is waited for whatever happens."""
    async with Threads(1, "once") as threads:
        return await threads.run(work)


@aiofiles.os.wrap
def _hop(waiting: "deque[_Piece]", together: int, loop: asyncio.AbstractEventLoop) -> None:
    """Work on what waits until nothing does; several threads may share `waiting`, whose ends are safe."""
    finished: _Finished = []
    try:
        while True:
            piece = waiting.popleft()
            finished.append((piece, *_outcome(piece.work)))
            if len(finished) >= together or not waiting:
                loop.call_soon_threadsafe(_land, finished)
                finished = []
    except IndexError:
        # Another thread was faster.
        if finished:
            loop.call_soon_threadsafe(_land, finished)


def _land(finished: _Finished) -> None:
    for piece, value, error in finished:
        piece.land(value, error)


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits for this piece
        return None, error
