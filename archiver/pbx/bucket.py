"""How fast requests may follow one another: a token bucket that keeps its level when its rate changes.

aiolimiter's bucket tells nobody how full it is and is always full at first, so each new rate, and each new session, would
bring an allowance of its own: with many who share a small rate, several times the rate.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress


class Bucket:
    """`rate_per_s` requests a second, 0 for no limit; so many seconds' requests may come at once, and one at least.

    `level` is how many may come at once to begin with. `clock` gives seconds, and goes on while the process is stopped.
    """

    def __init__(
        self, rate_per_s: float, *, burst_s: float, level: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate_per_s = rate_per_s
        self._burst_s = burst_s
        self._clock = clock
        self._level = min(level, self._capacity)
        self._filled_at_s = clock()
        self._good_until_s = math.inf
        self._turns = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def level(self) -> float:
        """How many requests could come at once just now."""
        self._fill()
        return self._level

    def set_rate(self, rate_per_s: float, *, for_s: float = math.inf) -> None:
        """Another rate, or the same again, for so many seconds; after them nobody gets a turn until the next is set.

        What the old one has filled until now stays, and nothing is given besides.
        """
        self._fill()
        self._rate_per_s = rate_per_s
        self._level = min(self._level, self._capacity)
        self._good_until_s = self._clock() + for_s
        self._changed.set()

    async def take(self) -> None:
        """Wait until a request may be sent; first come, first served."""
        async with self._turns:
            while (wait_s := self._wait_s()) > 0:
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s if wait_s < math.inf else None):
                        await self._changed.wait()
            if self._rate_per_s:
                self._level -= 1.0

    @property
    def _capacity(self) -> float:
        return max(self._rate_per_s * self._burst_s, 1.0)

    def _wait_s(self) -> float:
        if self._clock() >= self._good_until_s:
            return math.inf
        self._fill()
        # What a clock's steps leave out of a whole request is none that anybody waits for.
        return (1.0 - self._level) / self._rate_per_s if self._rate_per_s and self._level < 1.0 - 1e-9 else 0.0

    def _fill(self) -> None:
        now = self._clock()
        good_s = min(now, self._good_until_s) - self._filled_at_s
        self._filled_at_s = now
        self._level = min(self._level + max(0.0, good_s) * self._rate_per_s, self._capacity)
