"""Cuts a run into parcels: each account's partitions in order, so many to a parcel as keep a worker busy for a while."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import groupby
from math import ceil

from archiver.engine.cluster.errand import Parcel
from archiver.pipeline.producer import Partition

_FIRST = 8
_MOST = 1024
_WANTED_S = 60.0
"""At a parcel's end fewer are fetched at a time, and the next one has to set out: that must be a small part of it. A dead
worker loses no more than the listing."""
_LEAST_S = 5.0
_GROWTH = 4


class Cutter:
    """Gives out parcels until there are none; `hands` says how many are worked on at a time.

    How many partitions make a parcel is learnt from how long the ones before took, and near the end they become small, so
    that the workers finish together. What is due of an account comes with its partitions if one parcel holds them all;
    else in a parcel of its own, once all else is done: `due`.
    """

    def __init__(self, partitions: Iterable[Partition], account_ids: Iterable[str], hands: Callable[[], int]) -> None:
        self._accounts: Iterator[tuple[str, list[Partition]]] = (
            (account_id, list(group)) for account_id, group in groupby(partitions, key=lambda each: each.account_id)
        )
        self._following = next(self._accounts, None)
        self._left: deque[Partition] = deque()
        self._owed = dict.fromkeys(account_ids)
        self._hands = hands
        self._at_once = _FIRST
        self._least = 1
        self._count = 0

    def listing(self) -> Parcel | None:
        """The next parcel of partitions."""
        whole = not self._left
        if whole:
            if self._following is None:
                return None
            self._left.extend(self._following[1])
            self._following = next(self._accounts, None)
        count = self._at_once
        if self._following is None:
            hands, left = self._hands(), len(self._left)
            # One alone has nobody to finish together with.
            fair = left if hands == 1 else ceil(left / (2 * hands))
            count = max(min(count, fair), min(self._least, ceil(left / hands)))
        taken = tuple(self._left.popleft() for _ in range(min(count, len(self._left))))
        account_id = taken[0].account_id
        with_due = whole and not self._left and account_id in self._owed
        if with_due:
            del self._owed[account_id]
        self._count += 1
        since, until = taken[0].window.covers.start_at, taken[-1].window.covers.end_at
        return Parcel(f"{self._count} {_stamp(since)}/{_stamp(until)}", account_id, taken, with_due)

    def due(self) -> Parcel | None:
        """The next parcel of what is due."""
        account_id = next(iter(self._owed), None)
        if account_id is None:
            return None
        del self._owed[account_id]
        return Parcel("due", account_id, due=True)

    def took(self, parcel: Parcel, seconds: float) -> None:
        """Learn from a parcel that is done."""
        if parcel.partitions:
            per_s = len(parcel.partitions) / max(seconds, 0.001)
            self._at_once = max(1, min(_GROWTH * self._at_once, int(_WANTED_S * per_s), _MOST))
            self._least = max(1, min(int(_LEAST_S * per_s), _MOST))


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
