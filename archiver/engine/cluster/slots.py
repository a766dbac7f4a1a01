"""How many recordings each parcel under way may fetch at a time, so that the sum never exceeds the whole. Pure."""

from collections.abc import Mapping


class Slots:
    """`total` slots among parcels, by key. What counts against the total is a parcel's grant: all that it may hold.

    A grant grows only by what is free, before its parcel is told. It shrinks only once the parcel has said that it holds no
    more: a download that has begun goes on for as long as it takes, and nobody waits for it but the slot that it holds.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._grants: dict[str, int] = {}
        self._told: dict[str, int] = {}

    @property
    def free(self) -> int:
        """Slots that nobody holds or may hold."""
        return self._total - sum(self._grants.values())

    def begin(self, key: str, fair: int) -> int:
        """A parcel sets out whose fair part is so many; how many it has to begin with, which may be none."""
        self._grants[key] = self._told[key] = max(0, min(fair, self.free))
        return self._told[key]

    def end(self, key: str) -> None:
        """A parcel is done, or lost."""
        self._grants.pop(key, None)
        self._told.pop(key, None)

    def can_grow(self, fair: int) -> bool:
        """Whether a parcel could have more than it was told."""
        return self.free > 0 and any(told < fair for told in self._told.values())

    def share_out(self, fair: int) -> Mapping[str, int]:
        """What everybody is to be told, those first that have least, none more than the fair part."""
        for key in sorted(self._grants, key=self._grants.__getitem__):
            grant = self._grants[key]
            self._grants[key] = max(grant, min(fair, grant + max(0, self.free)))
            self._told[key] = min(fair, self._grants[key])
        return dict(self._told)

    def heard(self, key: str, held: int) -> None:
        """A parcel that goes by what it was told last holds so many."""
        if key in self._told:
            self._grants[key] = max(self._told[key], min(held, self._grants[key]))
