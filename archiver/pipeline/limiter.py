"""Finds how many media the PBX serves best at once, below an upper bound: additive increase, multiplicative decrease.

It begins at the bound, so that a healthy PBX never waits for us. Requests that began before the last decrease say nothing
about the new limit and are not heard, so one burst of failures lowers it once.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from types import TracebackType
from typing import Self

from archiver.errors import PbxFailing, PbxUnreachable, TooSlow

Begun = tuple[int, float]
"""Which request, counted from 1, and when, in seconds of the limiter's clock."""
_OVERLOADED = (PbxFailing, PbxUnreachable, TooSlow)
_DECREASE = 0.7
_STEP = 0.03
"""Of the limit, and one at least."""
_SHY_S = 10.0
"""A limit that was too much is tried again only after so many seconds."""
_SAME_TROUBLE_S = 1.0
"""Others tell us up to a fifth of a second later."""
_WINDOW_S = 0.5
_MOST_BAD = 3.0
_FORGIVEN = 0.05
"""Each good answer forgives so much of a bad one: failures that are rarer than that have nothing to do with the limit."""
_SAMPLES = 64
_FEW_SAMPLES = 8
_SLOWER = 4.0
_SLOWER_S = 0.25
"""Both: a busy client on a fast network sees its own delays multiply, but they stay short."""
_FORGET_S = 180.0
"""The best latency grows by the factor e in so many seconds, since a PBX may become slower for good."""


class Limiter:
    """At most `limit` slots are held at once; `bound` is the most there will ever be, `clock` gives seconds.

    `on_lowered` is called when it has lowered the limit by itself, so that others who share the PBX can `lower` theirs;
    `on_limit` with each new limit, the first included.
    """

    def __init__(
        self,
        bound: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        on_lowered: Callable[[], None] = lambda: None,
        on_limit: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._bound = bound
        self._ceiling = math.inf
        self._on_lowered = on_lowered
        self._on_limit = on_limit
        self._clock = clock
        self._exact_limit = float(bound)
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._begun = 0
        self._cut_at_s = float("-inf")
        self._too_much = bound + 1
        self._bad = 0.0
        self._best_s: float | None = None
        self._best_at_s = self._window_at_s = clock()
        self._good = 0
        self._latencies_s: list[float] = []
        self._first_s: list[float] = []
        self._was_reached = False
        self.limit = bound
        on_limit(bound)

    @property
    def held(self) -> int:
        """Slots held just now."""
        return self._held

    def slot(self) -> "Slot":
        """An async context manager around one media request."""
        return Slot(self)

    def begin(self) -> Begun:
        """A request begins, now that it has its slot."""
        self._begun += 1
        return self._begun, self._clock()

    async def acquire(self) -> None:
        """Wait for a slot; first come, first served."""
        if self._has_room and not self._waiting:
            self._held += 1
            if self._held == self.limit:
                self._was_reached = True
            return
        self._was_reached = True
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release()
            else:
                with suppress(ValueError):
                    self._waiting.remove(granted)
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._held -= 1
        self._grant()

    def answered(self, begun: Begun, waited_s: float) -> None:
        """A request was answered after so many seconds of waiting for the PBX alone."""
        if self._best_s is None and begun[0] <= _FEW_SAMPLES:
            # The first requests, not the first answers: those are the quick ones. Our load can't be felt yet.
            self._first_s.append(waited_s)
            if len(self._first_s) == _FEW_SAMPLES:
                self._best_s, self._best_at_s = median(self._first_s), self._clock()
        if begun[1] < self._cut_at_s:
            return
        self._good += 1
        if self._bad:
            self._bad = max(0.0, self._bad - _FORGIVEN)
        if len(self._latencies_s) < _SAMPLES:
            self._latencies_s.append(waited_s)
        if self._good >= self.limit and (now := self._clock()) - self._window_at_s >= _WINDOW_S:
            self._end_window(now)

    def failed(self, begun: Begun) -> None:
        """A request failed as it does when the PBX has too much to do."""
        if begun[1] < self._cut_at_s:
            return
        self._bad += 1.0
        if self._bad >= min(_MOST_BAD, self.limit):
            self._decrease()

    def lower(self) -> None:
        """Somebody else found that the PBX has too much to do: the same trouble, if we have just lowered our limit."""
        if self._clock() - self._cut_at_s >= _SAME_TROUBLE_S:
            self._cut()

    def set_bound(self, bound: int, *, ceiling: float = math.inf) -> None:
        """Another bound from now on; the limit keeps its place below it.

        Below it, too, no more than `ceiling` slots are given, 0 for none just now: others still hold them.
        """
        self._ceiling = ceiling
        if bound != self._bound:
            exact = max(1.0, self._exact_limit * bound / self._bound)
            self._too_much = max(1, round(self._too_much * bound / self._bound))
            self._bound = bound
            self._set(min(exact, float(bound)))
        self._grant()

    def _end_window(self, now: float) -> None:
        if len(self._latencies_s) >= _FEW_SAMPLES and self._is_slower(median(self._latencies_s), now):
            self._decrease()
            return
        if self._was_reached and self._bad < 1.0:
            self._grow(now)
        self._begin_window(now)

    def _grow(self, now: float) -> None:
        exact = min(self._exact_limit + max(1.0, _STEP * self._exact_limit), float(self._bound))
        if exact >= self._too_much and now - self._cut_at_s < _SHY_S:
            exact = max(self._exact_limit, self._too_much - 1.0)
        self._set(exact)

    def _is_slower(self, latency_s: float, now: float) -> bool:
        """Compare with the best latency of late, and keep that up to date."""
        best_s = latency_s if self._best_s is None else self._best_s
        slower = latency_s > _SLOWER * best_s and latency_s > best_s + _SLOWER_S
        self._best_s = min(latency_s, best_s * math.exp((now - self._best_at_s) / _FORGET_S))
        self._best_at_s = now
        return slower

    def _decrease(self) -> None:
        self._cut()
        self._on_lowered()

    def _cut(self) -> None:
        self._cut_at_s = self._clock()
        self._bad = 0.0
        self._too_much = self.limit
        self._set(max(1.0, self._exact_limit * _DECREASE))
        self._begin_window(self._cut_at_s)

    def _begin_window(self, now: float) -> None:
        self._window_at_s = now
        self._good = 0
        self._latencies_s = []
        self._was_reached = self._held >= self.limit

    def _set(self, exact: float) -> None:
        self._exact_limit = exact
        self.limit = int(exact)
        self._on_limit(self.limit)
        self._grant()

    @property
    def _has_room(self) -> bool:
        return self._held < self.limit and self._held < self._ceiling

    def _grant(self) -> None:
        while self._waiting and self._has_room:
            granted = self._waiting.popleft()
            if not granted.cancelled():
                self._held += 1
                granted.set_result(None)


class Slot:
    """A slot while its block lasts; tells the limiter how the request in it went."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._begun = (0, 0.0)

    async def __aenter__(self) -> Self:
        await self._limiter.acquire()
        self._begun = self._limiter.begin()
        return self

    def answered(self, waited_s: float) -> None:
        """The answer has begun, after so many seconds of waiting for the PBX alone."""
        self._limiter.answered(self._begun, waited_s)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limiter.release()
        if error is not None and isinstance(error, _OVERLOADED):
            self._limiter.failed(self._begun)
