"""Blocking work in a pool of our own: many small pieces to a hop, and never abandoned half way.

A cancelled coroutine waits until its thread is out, since a file that is deleted or closed under a running write could
be anybody's by then (pitfalls P21 and P22). aiofiles carries the hop.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
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


class Threads:
    """A named pool of `count` threads for blocking calls; an async context manager that waits for them on the way out.

    Up to `together` calls that wait at the same moment go in one hop, one after another, and end together. Short calls
    gain much by it (a hop costs the event loop more than a small file costs the disk), calls that wait for the disk
    should go alone.
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
        try:
            while self._waiting:
                pieces = [self._waiting.popleft() for _ in range(min(self._together, len(self._waiting)))]
                try:
                    outcomes = await _hop([piece.work for piece in pieces], executor=self._pool)
                except Exception as error:  # noqa: BLE001 - no thread could be had: those who wait must hear of it
                    outcomes = [(None, error)] * len(pieces)
                for piece, (value, failure) in zip(pieces, outcomes, strict=True):
                    piece.land(value, failure)
        finally:
            self._idle += 1


@aiofiles.os.wrap
def _hop(pieces: Sequence[Callable[[], Any]]) -> list[tuple[Any, BaseException | None]]:
    return [_outcome(work) for work in pieces]


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits for this piece
        return None, error
