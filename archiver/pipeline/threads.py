"""Blocking work in a pool of our own: one hop each, and never abandoned half way.

A cancelled coroutine waits until its thread is out, since a file that is deleted or closed under a running write could
be anybody's by then (pitfalls P21 and P22). aiofiles carries the hop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Self, TypeVar

import aiofiles.os

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A named pool of `count` threads for blocking calls; a context manager that waits for them on the way out."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, made in a thread of this pool; a cancellation is delivered once the thread is out."""
        hop = aiofiles.os.wrap(work)
        running: asyncio.Future[T] = asyncio.ensure_future(hop(*args, executor=self._pool, **kwargs))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                await asyncio.wait([running])
            running.exception()
            raise
