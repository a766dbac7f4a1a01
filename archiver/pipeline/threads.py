"""Blocking work in a pool of our own: many pieces to a hop, and none abandoned half way.

A cancelled coroutine waits until its thread is out, since a file that is deleted or closed under a running write could
be anybody's by then (pitfalls P21 and P22). aiofiles carries the hop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

import aiofiles.os

P = ParamSpec("P")
T = TypeVar("T")
Item = TypeVar("Item")


class _Piece:
    """A call on its way; `out` is made by a caller that was cancelled and waits for the thread to be out.

    With `together` its `work` is an item for that, which takes many; without it `work` is called.
    """

    __slots__ = ("is_out", "out", "result", "together", "work")

    def __init__(
        self,
        work: Any,
        result: "asyncio.Future[Any]",
        together: Callable[[Sequence[Any]], Sequence[Any]] | None = None,
    ) -> None:
        self.work = work
        self.together = together
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
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        await self._landed(_Piece(partial(work, *args, **kwargs), result))
        return result.result()

    async def run_together(self, work: Callable[[Sequence[Item]], Sequence[T | BaseException]], item: Item) -> T:
        """What `work` makes of this item; one call takes up to `together` that wait for the same work.

        `work` gives a result or an error for each item, in their order.
        """
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        await self._landed(_Piece(item, result, work))
        return result.result()

    async def _landed(self, piece: _Piece) -> None:
        self._waiting.append(piece)
        if self._idle:
            self._idle -= 1
            self._carriers.create_task(self._carry())
        try:
            await piece.result
        except asyncio.CancelledError:
            if not piece.is_out:
                piece.out = asyncio.get_running_loop().create_future()
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
            finished += _worked(waiting.popleft(), waiting, together)
            if len(finished) >= together or not waiting:
                loop.call_soon_threadsafe(_land, finished)
                finished = []
    except IndexError:
        # Another thread was faster.
        if finished:
            loop.call_soon_threadsafe(_land, finished)


def _worked(piece: _Piece, waiting: "deque[_Piece]", together: int) -> _Finished:
    """Work on a piece, and on those behind it that can go with it."""
    if piece.together is None:
        return [(piece, *_outcome(piece.work))]
    pieces = [piece]
    with suppress(IndexError):
        while len(pieces) < together:
            following = waiting.popleft()
            if following.together != piece.together:
                waiting.appendleft(following)
                break
            pieces.append(following)
    found, error = _outcome(partial(piece.together, [each.work for each in pieces]))
    if error is not None:
        return [(each, None, error) for each in pieces]
    return [
        (each, None, value) if isinstance(value, BaseException) else (each, value, None)
        for each, value in zip(pieces, found, strict=True)
    ]


def _land(finished: _Finished) -> None:
    for piece, value, error in finished:
        piece.land(value, error)


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits for this piece
        return None, error
