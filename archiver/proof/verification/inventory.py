"""Ledger and store side by side, both in the order of their keys, so that neither has to fit into memory.

Both come in batches, and what is alike in a batch is passed over in a plain loop: at tens of thousands of recordings a
second a turn of the event loop for each, or a value with its times made, would cost more than the comparison.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from operator import eq, itemgetter
from typing import Generic, NamedTuple, TypeVar

from archiver.keys import sidecar_key
from archiver.ledger.base import Ledger
from archiver.ledger.values import ArchivedEntry, ObjectRow
from archiver.ledger.values_reconciling import CdrFile
from archiver.pipeline.threads import Threads
from archiver.recording import Fixity
from archiver.stores.base import ObjectHead, Store

_LOOK_AHEAD = 256
"""Entries come in the order of their media's keys, which differs from that of all keys by a recording's versions only."""
_HEADS_AT_ONCE = 5000
_OF_NO_VERSION = 0
_key_of = itemgetter(0)
_new = tuple.__new__
"""Makes a named tuple in half the time."""


class Part(Enum):
    """What an object is to its recording."""

    MEDIA = "media"
    SIDECAR = "sidecar"
    CDRS = "cdrs"
    """No part of a recording: a day's archived CDRs."""
    TOMBSTONE = "tombstone"
    """What stands for a recording that is gone."""


class Expected(NamedTuple):
    """An object that the ledger says is there."""

    key: str
    is_media: bool
    row: ObjectRow

    @property
    def part(self) -> Part:
        """Media, sidecar, CDRs or a tombstone, which alone is of no version."""
        if not self.is_media:
            return Part.SIDECAR
        if self.row.version == _OF_NO_VERSION:
            return Part.TOMBSTONE
        return Part.MEDIA if self.row.recording_id else Part.CDRS

    @property
    def fixity(self) -> Fixity:
        """That of the media or the CDRs, for a sidecar its media's."""
        return Fixity(self.row.size_bytes, self.row.sha256)

    @property
    def entry(self) -> ArchivedEntry:
        """The recording's object, or the day's CDRs with an empty recording id."""
        return self.row.entry


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of keys, compared: what is at its place and its head, what is missing, and what no entry names."""

    present: Sequence[tuple[Expected, ObjectHead]]
    missing: Sequence[Expected]
    strays: Sequence[ObjectHead]


_Item = TypeVar("_Item", Expected, ObjectHead)


class _Side(Generic[_Item]):
    """One of the two inventories: the batch under way, and whether there are more."""

    def __init__(self, batches: AsyncIterator[list[_Item]]) -> None:
        self._batches: AsyncIterator[list[_Item]] = batches
        self.items: list[_Item] = []
        self.ended = False

    async def fill(self) -> None:
        """See to it that there is something, unless this is the end."""
        while not self.items and not self.ended:
            found = await anext(self._batches, None)
            if found is None:
                self.ended = True
            else:
                self.items = found

    def up_to(self, bound: str | None) -> list[_Item]:
        """Take the items whose keys are not above the bound; all of them without one."""
        at = len(self.items) if bound is None else bisect_right(self.items, bound, key=_key_of)
        taken, self.items = self.items[:at], self.items[at:]
        return taken


async def stretches(
    ledger: Ledger, store: Store, threads: Threads, group: asyncio.TaskGroup, *, sidecars: bool
) -> AsyncGenerator[Stretch, None]:
    """The two inventories, stretch by stretch; `sidecars` wants one beside each medium. `group` owns what reads ahead.

    Raises:
        LedgerError, StoreError: one of them can't be read to its end.
    """
    async with (
        aclosing(expected_objects(ledger, sidecars=sidecars)) as wanted,
        aclosing(_heads(store, threads, group)) as found,
    ):
        left, right = _Side(wanted), _Side(found)
        while True:
            await left.fill()
            await right.fill()
            if left.ended and right.ended:
                return
            ends = [side.items[-1].key for side in (left, right) if side.items]
            bound = min(ends) if not (left.ended or right.ended) else None
            yield compared(left.up_to(bound), right.up_to(bound))


def compared(expected: Sequence[Expected], heads: Sequence[ObjectHead]) -> Stretch:
    """Two inventories in the order of their keys, item by item."""
    if len(expected) == len(heads) and all(map(eq, map(_key_of, expected), map(_key_of, heads))):
        # As it mostly is: not even a turn of our own loop for each.
        return Stretch(list(zip(expected, heads, strict=True)), (), ())
    present: list[tuple[Expected, ObjectHead]] = []
    missing: list[Expected] = []
    strays: list[ObjectHead] = []
    at, end = 0, len(heads)
    for item in expected:
        key = item.key
        while at < end and heads[at].key < key:
            strays.append(heads[at])
            at += 1
        if at < end and heads[at].key == key:
            present.append((item, heads[at]))
            at += 1
        else:
            missing.append(item)
    strays += heads[at:]
    return Stretch(present, missing, strays)


async def _of_recordings(ledger: Ledger, *, sidecars: bool) -> AsyncGenerator[list[Expected], None]:
    """Media, sidecars and CDRs."""
    waiting: list[Expected] = []
    cdrs = sorted(map(_of_cdrs, await ledger.cdr_files()), key=_key_of)
    async for rows in ledger.object_rows():
        for row in rows:
            key = row.key
            waiting.append(_new(Expected, (key, True, row)))
            if sidecars or row.sidecar_sha256 is not None:
                waiting.append(_new(Expected, (sidecar_key(key), False, row)))
        if cdrs:
            at = bisect_right(cdrs, max(waiting, key=_key_of).key, key=_key_of) if waiting else 0
            waiting += cdrs[:at]
            cdrs = cdrs[at:]
        waiting.sort(key=_key_of)
        if len(waiting) > _LOOK_AHEAD:
            yield waiting[:-_LOOK_AHEAD]
            waiting = waiting[-_LOOK_AHEAD:]
    if waiting or cdrs:
        yield waiting + cdrs


async def expected_objects(ledger: Ledger, *, sidecars: bool) -> AsyncGenerator[list[Expected], None]:
    """Every object that the ledger knows, in the order of the keys, in batches; `sidecars` wants one for each medium."""
    async with (
        aclosing(_of_recordings(ledger, sidecars=sidecars)) as recordings,
        aclosing(_of_tombstones(ledger)) as tombstones,
    ):
        left, right = _Side(recordings), _Side(tombstones)
        while True:
            await left.fill()
            await right.fill()
            if right.ended:
                # As it mostly is; what stays are whole batches, untouched.
                if left.ended:
                    return
                yield left.up_to(None)
                continue
            ends = [side.items[-1].key for side in (left, right) if side.items]
            bound = min(ends) if not left.ended else None
            if both := sorted([*left.up_to(bound), *right.up_to(bound)], key=_key_of):
                yield both


async def _of_tombstones(ledger: Ledger) -> AsyncGenerator[list[Expected], None]:
    async with aclosing(ledger.tombstone_rows()) as batches:
        async for rows in batches:
            yield [
                Expected(
                    row.key,
                    True,
                    ObjectRow(
                        entry_id=row.entry_id,
                        version=_OF_NO_VERSION,
                        key=row.key,
                        size_bytes=row.size_bytes,
                        sha256=row.sha256,
                        sidecar_sha256=None,
                        archived_ms=row.expired_ms,
                        account_id=row.account_id,
                        recording_id=row.recording_id,
                        dated_s=row.dated_s,
                        is_current=1,
                    ),
                )
                for row in rows
            ]


def _of_cdrs(file: CdrFile) -> Expected:
    """A day's CDRs as an expected object; noon is on that day in any time zone."""
    noon = datetime(file.day.year, file.day.month, file.day.day, 12, tzinfo=UTC)
    row = ObjectRow(
        entry_id=0,
        version=file.part,
        key=file.key,
        size_bytes=file.fixity.size_bytes,
        sha256=file.fixity.sha256,
        sidecar_sha256=None,
        archived_ms=int(1000 * file.archived_at.timestamp()),
        account_id=file.account_id,
        recording_id="",
        dated_s=int(noon.timestamp()),
        is_current=1,
    )
    return Expected(file.key, True, row)


async def _heads(store: Store, threads: Threads, group: asyncio.TaskGroup) -> AsyncGenerator[list[ObjectHead], None]:
    """The store's heads; `group` has the next ones listed while these are compared."""
    listing = store.list()
    following = group.create_task(threads.run(_some, listing))
    while batch := await following:
        following = group.create_task(threads.run(_some, listing))
        yield batch


def _some(listing: Iterator[ObjectHead]) -> list[ObjectHead]:
    return list(islice(listing, _HEADS_AT_ONCE))
