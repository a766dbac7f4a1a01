"""Holds the sum of all downloads under a rate that may change by the clock."""

import time
from collections.abc import Callable

_SLACK_S = 0.1
_ASK_EVERY_S = 1.0


class Throttle:
    """`rate` says how many bytes a second are allowed just now, None for no limit; it is asked once a second.

    `clock` gives seconds.
    """

    def __init__(self, rate: Callable[[], float | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._allowed: float | None = None
        self._asked_at_s = self._free_at_s = float("-inf")

    def ask_again(self) -> None:
        """The rate may just have become another one."""
        self._ask(self._clock())

    def pause_s(self, size_bytes: int) -> float:
        """Count that many bytes; how long whoever got them must wait now, in seconds, mostly zero."""
        now = self._clock()
        if now - self._asked_at_s >= _ASK_EVERY_S:
            self._ask(now)
        if self._allowed is None:
            return 0.0
        self._free_at_s = max(now, self._free_at_s) + size_bytes / self._allowed
        return max(0.0, self._free_at_s - now - _SLACK_S)

    def _ask(self, now: float) -> None:
        before, self._allowed, self._asked_at_s = self._allowed, self._rate(), now
        if before and self._allowed and self._free_at_s > now:
            # What has come ahead of its time is waited for at the rate that is now.
            self._free_at_s = now + (self._free_at_s - now) * before / self._allowed
