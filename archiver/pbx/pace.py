"""How fast a PBX that answers 429 can be asked: the refill of a token bucket, found out from what it refuses.

Nothing is paced before the first 429. From one refusal to the next a bucket goes from empty to empty, so what it let
pass in between, by the time between, is its refill, however full it was meanwhile. Each such cycle begins a little below
that estimate and ends a little above it. The more requests a cycle had the better is its estimate and the longer the
next one, until about one request in three hundred is refused.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

_SURE = 150
"""An estimate that rests on so many requests is good enough."""
_SURE_WAITS = 15.0
"""And on so many times the wait that each refusal costs, when the PBX names one."""
_FEW = 3
"""Fewer requests between two refusals say nothing about a rate but that it is far too high."""
_FAR_TOO_HIGH = 4.0
_BURST = 16.0
"""The first estimate counts what a full bucket let pass at once; it is off by so much at the least."""
_AGAIN_SOON = 0.7
_LONG = 1.5
"""Times the usual length."""
_TRUSTED = 30
_CORRECTION = 1.25
_LEAST_PER_S = 0.05
_MOST_GROWTH_PER_S = 0.1
"""Of the rate: what it overshoots by before the first refusal comes back is refused too."""
_LATE_S = 0.1
"""A turn that comes too late shortens the wait for the next ones, up to here: the event loop is no exact clock."""
_UNUSED_S = 60.0
_UNUSED_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that was sent: which one, and when, in seconds of the pace's clock."""

    number: int
    sent_at_s: float


class Pace:
    """An adaptive rate for all requests of a session; `clock` gives seconds.

    Each request takes its turn, and tells when it was answered 429. `per_s` is the rate just now, None for no limit.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.per_s: float | None = None
        self._growth = 0.0
        self._usual = 1
        self._estimated = False
        self._may_be_burst = False
        self._wait_s = 0.0
        self._sent = 0
        self._fresh_from = 0
        self._refused = self._looked = Ticket(0, clock())
        self._due_at_s = float("-inf")
        self._turns = asyncio.Lock()

    async def turn(self) -> Ticket:
        """Wait until the next request may be sent; first come, first served."""
        if self.per_s is not None:
            async with self._turns:
                # A refusal meanwhile puts the turn off.
                while (wait_s := self._due_at_s - self._clock()) > 0:  # noqa: ASYNC110 - it waits for a time
                    await asyncio.sleep(wait_s)
                self._take_turn()
        self._sent += 1
        return Ticket(self._sent, self._clock())

    def refused(self, ticket: Ticket, *, retry_after_s: float = 0.0) -> None:
        """A request was answered 429; until `retry_after_s` have passed no other gets its turn."""
        now = self._clock()
        self._wait_s = retry_after_s
        if ticket.number > self._refused.number:
            passed, took_s = ticket.number - self._refused.number - 1, ticket.sent_at_s - self._refused.sent_at_s
            self._refused = ticket
            if ticket.number > self._fresh_from:
                self._cut(passed, max(took_s, 1e-3))
            elif self._may_be_burst and self.per_s is not None:
                # Not one but many in flight are refused: the burst has emptied a bucket.
                self._may_be_burst = False
                self.per_s = max(self.per_s / _BURST, _LEAST_PER_S)
            if self.per_s is not None:
                self._due_at_s = max(self._due_at_s, now + 1.0 / self.per_s)
        self._due_at_s = max(self._due_at_s, now + retry_after_s)

    def _take_turn(self) -> None:
        """Set when the next turn is, and grow if the rate is what holds requests back."""
        now = self._clock()
        if self.per_s is None:
            return
        if now - self._due_at_s <= _LATE_S:
            # Steeper and steeper when a cycle is longer than usual: the refill has grown, or there is no bucket.
            longer = max(0.0, (self._sent - self._fresh_from) / self._usual - 1.0)
            steep = min(0.6 * longer**2 / self._usual, _MOST_GROWTH_PER_S / self.per_s)
            self.per_s *= 1.0 + max(self._growth, steep)
        self._due_at_s = max(self._due_at_s, now - _LATE_S) + 1.0 / self.per_s
        self._drop_if_unused(now)

    def _drop_if_unused(self, now: float) -> None:
        took_s = now - self._looked.sent_at_s
        if took_s >= _UNUSED_S and self.per_s is not None:
            if self.per_s > _UNUSED_FACTOR * (self._sent - self._looked.number) / took_s:
                self.per_s = None
            self._looked = Ticket(self._sent, now)

    def _cut(self, passed: int, took_s: float) -> None:
        """End a cycle in which so many requests passed."""
        self._fresh_from = self._sent
        if self.per_s is None:
            self._looked = Ticket(self._sent, self._clock())
            self._begin_cycle(passed / took_s, _FEW)
            self._estimated, self._may_be_burst = False, True
            return
        self._may_be_burst = False
        if passed < _FEW:
            less = _AGAIN_SOON if self._estimated else 1.0 / _FAR_TOO_HIGH
            self._begin_cycle(self.per_s * less, _FEW)
        else:
            estimate_per_s = min(self.per_s, passed / took_s)
            if passed > _LONG * self._usual >= _LONG * _TRUSTED:
                # The bucket may have been full for a while: the truth lies between what passed and what was refused.
                estimate_per_s = min(math.sqrt(estimate_per_s * self.per_s), _CORRECTION * estimate_per_s)
            self._begin_cycle(estimate_per_s, passed)
        self._estimated = passed >= _FEW

    def _begin_cycle(self, estimate_per_s: float, passed: int) -> None:
        """Go a little below an estimate that rests on so many requests; it is off by less than one of them."""
        sure = min(passed, max(_SURE, int(_SURE_WAITS * self._wait_s * estimate_per_s)))
        self.per_s = max(estimate_per_s * (1.0 - 0.5 / sure), _LEAST_PER_S)
        self._usual = 2 * sure
        self._growth = 1.0 / sure**2
