"""Holds the sum of all downloads under a rate that may change by the clock."""

import time
from collections.abc import Callable

_SLACK_S = 0.1
_ASK_EVERY_S = 1.0


class Throttle:
    """`rate` says how many bytes a second are allowed just now, None for no limit; it is asked once a second."""

    def __init__(self, rate: Callable[[], float | None]) -> None:
        self._rate = rate
        self._allowed: float | None = None
        self._asked_at_s = -_ASK_EVERY_S
        self._free_at_s = 0.0

    def pause_s(self, size_bytes: int) -> float:
        """Count that many bytes; how long whoever got them must wait now, in seconds, mostly zero."""
        now = time.monotonic()
        if now - self._asked_at_s >= _ASK_EVERY_S:
            self._allowed, self._asked_at_s = self._rate(), now
        if self._allowed is None:
            return 0.0
        self._free_at_s = max(now, self._free_at_s) + size_bytes / self._allowed
        return max(0.0, self._free_at_s - now - _SLACK_S)
