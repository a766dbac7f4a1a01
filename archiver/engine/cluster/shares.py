"""One PBX, one budget: how the limits of a run are shared out among the parcels under way. Pure; it only counts."""

from typing import NamedTuple

_PATIENCE = 2


class Portion(NamedTuple):
    """A parcel's share of the limits, above 0 and at most 1; of two portions the one of the higher number counts."""

    number: int
    part: float


class Shares:
    """Each parcel under way has 1/`divisor` of the limits. There are never more parcels than the divisor says.

    The divisor grows before another parcel sets out, so that the shares never add up to more than the whole. It shrinks
    only when fewer have been under way for a while: mostly the next one follows at once.
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = max(1, divisor)
        self.under_way = 0
        self._number = 0
        self._fewer_for = 0

    @property
    def portion(self) -> Portion:
        """What each parcel under way has just now."""
        return Portion(self._number, 1 / self.divisor)

    def divide(self, divisor: int) -> None:
        """Divide by so many from now on; whoever is under way is to be told."""
        self.divisor = max(1, divisor)
        self._number += 1

    def begin(self) -> bool:
        """Another parcel is about to set out; whether those under way must be told of a smaller share before it does."""
        self.under_way += 1
        if self.under_way <= self.divisor:
            return False
        self.divide(self.under_way)
        return True

    def end(self) -> None:
        """A parcel is done, or lost."""
        self.under_way -= 1

    def settle(self) -> bool:
        """To be called now and then; whether those under way are to be told of a larger share."""
        self._fewer_for = self._fewer_for + 1 if 0 < self.under_way < self.divisor else 0
        if self._fewer_for < _PATIENCE:
            return False
        self._fewer_for = 0
        self.divide(self.under_way)
        return True
