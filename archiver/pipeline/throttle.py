"""Holds the sum of all downloads under a rate that may change by the clock."""

import asyncio
import time
from collections.abc import Callable

_SLACK_S = 0.1


class Throttle:
    """`rate` says how many bytes a second are allowed just now, None for no limit."""

    def __init__(self, rate: Callable[[], float | None]) -> None:
        self._rate = rate
        self._free_at_s = 0.0

    async def take(self, size_bytes: int) -> None:
        """Wait until that many bytes are within the rate."""
        rate = self._rate()
        if rate is None:
            return
        now = time.monotonic()
        self._free_at_s = max(now, self._free_at_s) + size_bytes / rate
        if self._free_at_s - now > _SLACK_S:
            await asyncio.sleep(self._free_at_s - now - _SLACK_S)
