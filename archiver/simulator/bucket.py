"""The PBX's rate limit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.simulator.switches import BucketRule


@dataclass(slots=True)
class Buckets:
    """One token bucket per address and account; `monotonic` gives seconds."""

    rule: BucketRule
    monotonic: Callable[[], float]
    _levels: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def take(self, address: str, account_id: str) -> int | None:
        """None when the request may pass, else the whole seconds until one may."""
        now = self.monotonic()
        level, since = self._levels.get((address, account_id), (self.rule.capacity, now))
        level = min(self.rule.capacity, level + (now - since) * self.rule.refill_per_s)
        passes = level >= 1.0
        self._levels[address, account_id] = (level - 1.0 if passes else level, now)
        if passes:
            return None
        return max(1, math.ceil((1.0 - level) / self.rule.refill_per_s)) if self.rule.refill_per_s > 0 else 3600
