"""How long to try to be heard, and how to stop at once when the process is asked to end."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for one try, how many tries, and seconds between the first two; each further pause is twice as long."""

    timeout_s: float = 10.0
    tries: int = 3
    pause_s: float = 1.0


async def unless_stopped(work: Coroutine[Any, Any, T], stop: asyncio.Event, *, limit_s: float) -> T | None:
    """What the work gives; None when `stop` was set, or `limit_s` over, before it came to its end."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        watching = group.create_task(stop.wait())
        await asyncio.wait({working, watching}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        watching.cancel()
    return None if working.cancelled() else working.result()
