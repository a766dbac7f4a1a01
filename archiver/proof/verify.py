"""Verification at three depths, both ways between ledger, sidecars and store.

*presence*: every archived recording has its object and its sidecar, and nothing else lies there. *size*: the sizes agree
too, by the store's listing. *full*: every byte is read and digested.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from archiver.errors import ArchiverError, StoreError, first_of
from archiver.ledger.base import Ledger
from archiver.pipeline.threads import Threads
from archiver.proof.findings import Difference, Facts, Finding, Stray, findings_of
from archiver.proof.inventory import Expected, Line, Part, expected_objects, lines
from archiver.proof.reading import read_media, read_sidecar, read_stray
from archiver.recording import Fixity
from archiver.stores.base import ObjectHead, Store
from archiver.window import Window

_GONE_AFTER = 20
"""So many objects in a row that the store does not give are no findings any more."""
_SIDE_BY_SIDE = 16
_BUSY_FOR = timedelta(minutes=15)
"""While a run is active, an object younger than this may be on its way into the ledger."""
SHARES = 10_000


class Level(StrEnum):
    """How deep to look."""

    PRESENCE = "presence"
    SIZE = "size"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Scope:
    """What to look at.

    `period` of the calls' dates, None for all; `sidecars` whether each recording should have one. Of all recordings a
    share: `share` of 10,000 from `share_from` on, which goes round the corner at the end.
    """

    level: Level
    period: Window | None = None
    share_from: int = 0
    share: int = SHARES
    sidecars: bool = True

    def sampled(self, key: str) -> bool:
        """Whether a key is in the share; a recording and its sidecar are always together."""
        place = zlib.crc32(key.rpartition(".")[0].encode("ascii", "replace")) % SHARES
        return (place - self.share_from) % SHARES < self.share


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many recordings were looked at and their bytes (all of them read in *full*), and what does not agree.

    `complete` is false when it was stopped before its end: what it did not come to is not in it. `not_recorded` says why
    the audit trail could not take it, if so.
    """

    level: Level
    sample_percent: float
    complete: bool
    objects: int
    bytes: int
    findings: list[Finding]
    not_recorded: str | None = None


async def verify(
    ledger: Ledger,
    store: Store,
    threads: Threads,
    scope: Scope,
    *,
    stop: asyncio.Event,
    stale: Sequence[str] = (),
    busy_at: datetime | None = None,
) -> VerifyReport:
    """Compare ledger and store, until `stop` is set.

    `stale` are temporary files of no run; `busy_at` is now when a run is active, else None.

    Raises:
        LedgerError, StoreError: the comparison itself is not possible, or the store gives one object after another not.
    """
    look = _Look(store, threads, scope, busy_at, Facts(stale=list(stale)))
    failed: ArchiverError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            async for line in _in_scope(ledger, store, threads, scope):
                if stop.is_set():
                    break
                await look.at(line, group)
    except* ArchiverError as errors:
        failed = first_of(errors)
    if failed is not None:
        raise failed
    if not stop.is_set():
        await look.at_strays()
    return VerifyReport(
        level=scope.level,
        sample_percent=scope.share * 100 / SHARES,
        complete=not stop.is_set(),
        objects=look.objects,
        bytes=look.size_bytes,
        findings=findings_of(look.facts),
    )


class _Look:
    """Takes facts in, line by line; what has to be read is read side by side."""

    def __init__(self, store: Store, threads: Threads, scope: Scope, busy_at: datetime | None, facts: Facts) -> None:
        self.facts = facts
        self.objects = 0
        self.size_bytes = 0
        self._store = store
        self._threads = threads
        self._level = scope.level
        self._young_from = None if busy_at is None else busy_at - _BUSY_FOR
        self._room = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._unreadable_in_a_row = 0

    async def at(self, line: Line, group: asyncio.TaskGroup) -> None:
        """One line; `group` reads what has to be read."""
        if line.expected is None:
            if line.head is not None and not (self._young_from and line.head.modified_at > self._young_from):
                self.facts.strays.append(Stray(line.head))
            return
        if line.expected.part is Part.MEDIA:
            self.objects += 1
            self.size_bytes += line.expected.entry.fixity.size_bytes
        if line.head is None:
            self.facts.missing.append(line.expected)
        elif self._level is Level.SIZE:
            self.facts.different += _other_size(line.expected, line.head)
        elif self._level is Level.FULL:
            await self._room.acquire()
            group.create_task(self._read(line.expected))

    async def at_strays(self) -> None:
        """One of them may be what is missing, under another name; else their bytes don't matter."""
        if self._level is Level.FULL and any(item.part is Part.MEDIA for item in self.facts.missing):
            self.facts.strays = [await self._threads.run(read_stray, self._store, stray) for stray in self.facts.strays]

    async def _read(self, expected: Expected) -> None:
        read = read_media if expected.part is Part.MEDIA else read_sidecar
        found: Difference | Expected | None
        try:
            found = await self._threads.run(read, self._store, expected)
            self._unreadable_in_a_row = 0
        except StoreError as error:
            # A bad sector is a finding; a store that is gone is none.
            self._unreadable_in_a_row += 1
            if self._unreadable_in_a_row >= _GONE_AFTER:
                raise
            found = Difference(expected, str(error))
        finally:
            self._room.release()
        if isinstance(found, Difference):
            self.facts.different.append(found)
        elif found is not None:
            self.facts.missing.append(found)


async def _in_scope(ledger: Ledger, store: Store, threads: Threads, scope: Scope) -> AsyncIterator[Line]:
    """The lines that are asked for; what no entry names belongs to no period."""
    async for line in lines(expected_objects(ledger, sidecars=scope.sidecars), store, threads):
        key = line.expected.key if line.expected else line.head.key if line.head else ""
        if scope.share < SHARES and not scope.sampled(key):
            continue
        if scope.period is not None and (line.expected is None or line.expected.entry.dated_at not in scope.period):
            continue
        yield line


def _other_size(expected: Expected, head: ObjectHead) -> list[Difference]:
    if expected.part is Part.SIDECAR or head.size_bytes == expected.entry.fixity.size_bytes:
        return []
    return [Difference(expected, Fixity(head.size_bytes, b""))]
