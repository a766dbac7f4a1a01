"""Ledger and store side by side, both in the order of their keys, so that neither has to fit into memory."""

import heapq
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import islice

from archiver.keys import sidecar_key
from archiver.ledger.base import ArchivedEntry, Ledger
from archiver.ledger.values_reconcile import CdrFile
from archiver.pipeline.threads import Threads
from archiver.stores.base import ObjectHead, Store

_LOOK_AHEAD = 256
"""Entries come in the order of their media's keys, which differs from that of all keys by a recording's versions only."""
_HEADS_AT_ONCE = 5000


class Part(Enum):
    """What an object is to its recording."""

    MEDIA = "media"
    SIDECAR = "sidecar"
    CDRS = "cdrs"
    """No part of a recording: a day's archived CDRs."""


_PARTS = (Part.SIDECAR, Part.MEDIA, Part.CDRS)


@dataclass(frozen=True, slots=True, order=True)
class Expected:
    """An object that the ledger says is there."""

    key: str
    part_no: int
    entry: ArchivedEntry

    @property
    def part(self) -> Part:
        """Media, sidecar, or CDRs."""
        return _PARTS[self.part_no]


@dataclass(frozen=True, slots=True)
class Line:
    """One key: what should be there, what is there, or both."""

    expected: Expected | None
    head: ObjectHead | None


async def expected_objects(ledger: Ledger, *, sidecars: bool) -> AsyncIterator[Expected]:
    """Every object that the ledger knows, in the order of the keys; `sidecars` wants one beside each medium."""
    waiting: list[Expected] = [_cdrs(file) for file in await ledger.cdr_files()]
    heapq.heapify(waiting)
    look_ahead = _LOOK_AHEAD + len(waiting)
    async for entry in ledger.objects():
        heapq.heappush(waiting, Expected(entry.key, 1, entry))
        if sidecars or entry.sidecar_sha256 is not None:
            heapq.heappush(waiting, Expected(sidecar_key(entry.key), 0, entry))
        # All CDR files wait here from the beginning, and must not push recordings out before their turn.
        while len(waiting) > look_ahead:
            yield heapq.heappop(waiting)
    while waiting:
        yield heapq.heappop(waiting)


def _cdrs(file: CdrFile) -> Expected:
    """A day's CDRs as an expected object; noon is on that day in any time zone."""
    dated_at = datetime(file.day.year, file.day.month, file.day.day, 12, tzinfo=UTC)
    entry = ArchivedEntry(0, file.account_id, "", file.part, file.key, file.fixity, file.archived_at, dated_at)
    return Expected(file.key, _PARTS.index(Part.CDRS), entry)


async def lines(expected: AsyncIterator[Expected], store: Store, threads: Threads) -> AsyncIterator[Line]:
    """The two inventories, line by line.

    Raises:
        LedgerError, StoreError: one of them can't be read to its end.
    """
    heads = _heads(store, threads)
    head = await anext(heads, None)
    async for item in expected:
        while head is not None and head.key < item.key:
            yield Line(None, head)
            head = await anext(heads, None)
        if head is not None and head.key == item.key:
            yield Line(item, head)
            head = await anext(heads, None)
        else:
            yield Line(item, None)
    while head is not None:
        yield Line(None, head)
        head = await anext(heads, None)


async def _heads(store: Store, threads: Threads) -> AsyncIterator[ObjectHead]:
    listing = store.list()
    while batch := await threads.run(_some, listing):
        for head in batch:
            yield head


def _some(listing: Iterator[ObjectHead]) -> list[ObjectHead]:
    return list(islice(listing, _HEADS_AT_ONCE))
