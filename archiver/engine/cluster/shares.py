"""One PBX, one budget: how the limits of a run are shared out among the parcels under way. Pure; it only counts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from archiver.engine.cluster.slots import Slots

_PATIENCE = 2
_SAID_AGAIN = 4


@dataclass(frozen=True, slots=True)
class Portion:
    """What parcels have of the limits; of two portions the one of the higher number counts.

    `part` is each one's share, above 0 and at most 1; `slots` how many recordings each fetches at a time, by its key.
    """

    number: int
    part: float
    slots: Mapping[str, int]

    def over(self, older: "Portion") -> "Portion":
        """This one, with what the older one says of parcels that it does not name."""
        return replace(self, slots={**older.slots, **self.slots})


class Shares:
    """Each parcel under way has 1/`divisor` of the limits. There are never more parcels than the divisor says.

    The divisor grows before another parcel sets out, so that the shares never add up to more than the whole. It shrinks
    only when fewer have been under way for a while: mostly the next one follows at once. `slots` is how many recordings may
    be fetched at a time by all of them.
    """

    def __init__(self, divisor: int, slots: int) -> None:
        self.divisor = max(1, divisor)
        self.under_way = 0
        self._at_once = slots
        self._slots = Slots(slots)
        self._number = 0
        self._fewer_for = 0
        self._silent_for = 0

    @property
    def part(self) -> float:
        """Each parcel's share, above 0 and at most 1."""
        return 1 / self.divisor

    @property
    def _fair(self) -> int:
        return max(1, self._at_once // self.divisor)

    def portion(self) -> Portion:
        """What is to be told to all parcels under way from now on."""
        self._number += 1
        self._silent_for = 0
        return Portion(self._number, self.part, self._slots.share_out(self._fair))

    def set_out(self, key: str) -> Portion:
        """What a parcel has as it sets out, under this key; it may be no slot yet."""
        return Portion(self._number, self.part, {key: self._slots.begin(key, self._fair)})

    def heard(self, key: str, number: int, held: int) -> None:
        """A parcel goes by the portion of this number, and fetches so many recordings just now."""
        if number == self._number:
            self._slots.heard(key, held)

    def come_back(self, key: str) -> None:
        """The parcel of this key has no slots any more."""
        self._slots.end(key)

    def divide(self, divisor: int) -> None:
        """Divide by so many from now on; whoever is under way is to be told."""
        self.divisor = max(1, divisor)

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
        """To be called now and then; whether all are to be told anew: of more, or because they have long heard nothing."""
        self._silent_for += 1
        self._fewer_for = self._fewer_for + 1 if 0 < self.under_way < self.divisor else 0
        if self._fewer_for >= _PATIENCE:
            self._fewer_for = 0
            self.divide(self.under_way)
            return True
        return self._slots.can_grow(self._fair) or self._silent_for >= _SAID_AGAIN
