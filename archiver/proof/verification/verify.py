"""Verification at three depths, both ways between ledger, sidecars and store.

*presence*: every archived recording has its object and its sidecar, and nothing else lies there. *size*: the sizes agree
too, by the store's listing. *full*: every byte is read and digested.
"""

import asyncio
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from archiver.errors import ArchiverError, StoreUnavailable, first_of
from archiver.keys import sidecar_key
from archiver.ledger.base import Ledger
from archiver.ledger.values import ArchivedEntry
from archiver.pipeline.threads import Threads
from archiver.proof.verification.findings import Difference, Facts, Finding, Stray, findings_of
from archiver.proof.verification.inventory import Expected, Part, Stretch, stretches
from archiver.proof.verification.readers import Cutter, Failures, Reader, ReadHere
from archiver.proof.verification.reading import Looked, read_stray
from archiver.recording import Fixity, Status
from archiver.stores.base import ObjectHead, Store
from archiver.window import Window

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

    def holds(self, item: Expected) -> bool:
        """Whether an expected object is asked for."""
        if self.share < SHARES and not self.sampled(item.key):
            return False
        return self.period is None or item.entry.dated_at in self.period


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many recordings were looked at and their bytes (all of them read in *full*), and what does not agree.

    `complete` is false when it was stopped before its end: what it did not come to is not in it. `not_recorded` says why
    the audit trail could not take it, if so. With `--repair` `repaired` counts the findings that are no more,
    `repair_run_id` names the run that did it, and `error` what ended it early.
    """

    level: Level
    sample_percent: float
    complete: bool
    objects: int
    bytes: int
    findings: list[Finding]
    not_recorded: str | None = None
    repaired: int = 0
    repair_run_id: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """A report with what a repair needs beside it: the facts, and the entries they are about, by their media's key."""

    report: VerifyReport
    facts: Facts
    entries: Mapping[str, ArchivedEntry]


async def verify(
    ledger: Ledger,
    store: Store,
    threads: Threads,
    scope: Scope,
    *,
    stop: asyncio.Event,
    stale: Sequence[str] = (),
    busy_at: datetime | None = None,
    reader: Reader | None = None,
) -> Verified:
    """Compare everything in the scope; `stale` are temporary files that were found while no run was active.

    After `stop` is set it ends with what it has come to. `busy_at` is the time now while a run is active, else None.
    What *full* reads is read by `reader`, without one in these threads.

    Raises:
        LedgerError, StoreError: the comparison itself is not possible, or the store gives one object after another not.
    """
    beside = await ledger.damaged_keys()
    # What an expiry under way, or one that was killed, may have left is neither missing nor foreign.
    passed = beside | {sidecar_key(key) for key in beside} | await ledger.unfinished_keys()
    reader = reader or ReadHere(store, threads, stop.is_set)
    look = _Look(reader, scope, busy_at, Facts(stale=list(stale)), stop)
    failed: ArchiverError | None = None
    try:
        async with (
            asyncio.TaskGroup() as group,
            aclosing(stretches(ledger, store, threads, group, sidecars=scope.sidecars)) as found,
        ):
            async for stretch in found:
                if stop.is_set():
                    break
                await look.at(_in_scope(stretch, scope, passed), group)
            await look.at_end(group)
    except* ArchiverError as errors:
        failed = first_of(errors)
    if failed is not None:
        raise failed
    look.facts.missing = await _still_expected(ledger, look.facts.missing)
    if not stop.is_set():
        await look.at_strays(store, threads)
    report = VerifyReport(
        level=scope.level,
        sample_percent=scope.share * 100 / SHARES,
        complete=not stop.is_set(),
        objects=look.objects,
        bytes=look.size_bytes,
        findings=findings_of(look.facts),
    )
    return Verified(report, look.facts, entries_of(look.facts))


async def _still_expected(ledger: Ledger, missing: list[Expected]) -> list[Expected]:
    """What is missing, but for recordings that retention has let go since this verification began."""
    asked: dict[str, set[str]] = {}
    for item in missing:
        if item.part in {Part.MEDIA, Part.SIDECAR}:
            entry = item.entry
            asked.setdefault(entry.account_id, set()).add(entry.recording_id)
    if any(item.part is Part.CDRS for item in missing):
        known = {file.key for file in await ledger.cdr_files()}
        missing = [item for item in missing if item.part is not Part.CDRS or item.key in known]
    gone: set[tuple[str, str]] = set()
    for account_id, ids in asked.items():
        found = await ledger.statuses(account_id, sorted(ids))
        gone |= {(account_id, an_id) for an_id, status in found.items() if status is Status.EXPIRED}
    if not gone:
        return missing
    return [
        item
        for item in missing
        if item.part is Part.TOMBSTONE or (item.entry.account_id, item.entry.recording_id) not in gone
    ]


def entries_of(facts: Facts) -> Mapping[str, ArchivedEntry]:
    """The entries that facts are about, by their media's key."""
    about = [*facts.missing, *(difference.expected for difference in facts.different)]
    return {item.row.key: item.entry for item in about if item.part not in {Part.CDRS, Part.TOMBSTONE}}


class _Look:
    """Takes facts in, stretch by stretch; what has to be read is read side by side."""

    def __init__(
        self,
        reader: Reader,
        scope: Scope,
        busy_at: datetime | None,
        facts: Facts,
        stop: asyncio.Event,
    ) -> None:
        self.facts = facts
        self.objects = 0
        self.size_bytes = 0
        self._reader = reader
        self._level = scope.level
        self._young_from = None if busy_at is None else busy_at - _BUSY_FOR
        self._stop = stop
        self._room = asyncio.Semaphore(reader.at_once)
        self._cutter = Cutter(reader.bounds)
        self._failures = Failures()

    async def at(self, stretch: Stretch, group: asyncio.TaskGroup) -> None:
        """One stretch; `group` reads what has to be read."""
        young_from = self._young_from
        self.facts.strays += [
            Stray(head) for head in stretch.strays if not (young_from and head.modified_at > young_from)
        ]
        self.facts.missing += stretch.missing
        self._count(stretch.missing)
        if self._level is not Level.FULL:
            self._count([item for item, _ in stretch.present])
        if self._level is Level.SIZE:
            for item, head in stretch.present:
                if item.is_media and head.size_bytes != item.row.size_bytes:
                    self.facts.different.append(Difference(item, Fixity(head.size_bytes, b"")))
        elif self._level is Level.FULL:
            await self._have_read(self._cutter.cut([item for item, _ in stretch.present]), group)

    async def at_end(self, group: asyncio.TaskGroup) -> None:
        """There are no more stretches."""
        await self._have_read(self._cutter.rest(), group)

    async def at_strays(self, store: Store, threads: Threads) -> None:
        """One of them may be what is missing, under another name; else their bytes don't matter."""
        if self._level is Level.FULL and any(item.is_media for item in self.facts.missing):
            self.facts.strays = [await threads.run(read_stray, store, stray) for stray in self.facts.strays]

    async def _have_read(self, portions: Iterator[Sequence[Expected]], group: asyncio.TaskGroup) -> None:
        for portion in portions:
            await self._room.acquire()
            if self._stop.is_set():
                self._room.release()
                return
            group.create_task(self._read(portion))

    async def _read(self, portion: Sequence[Expected]) -> None:
        try:
            looked = await self._reader.read(portion)
        finally:
            self._room.release()
        self._count([each.expected for each in looked])
        for each in looked:
            self._take(each)
        if len(looked) < len(portion) and not self._stop.is_set():
            # Nobody may take it for whole.
            raise StoreUnavailable(f"{len(portion) - len(looked)} objects from {portion[0].key} on were not read")

    def _take(self, looked: Looked) -> None:
        self._failures.see(looked)
        if looked.error is not None and self._failures.store_is_gone():
            raise looked.error
        if isinstance(looked.wrong, Difference):
            self.facts.different.append(looked.wrong)
        elif looked.wrong is not None:
            self.facts.missing.append(looked.wrong)

    def _count(self, items: Sequence[Expected]) -> None:
        # As Part.MEDIA, spelled out since there may be millions.
        sizes = [item.row.size_bytes for item in items if item.is_media and item.row.recording_id and item.row.version]
        self.objects += len(sizes)
        self.size_bytes += sum(sizes)


def _in_scope(stretch: Stretch, scope: Scope, passed: frozenset[str]) -> Stretch:
    """What of a stretch is asked for; what no entry names belongs to no period."""
    strays: Sequence[ObjectHead] = stretch.strays
    if passed and strays:
        strays = [head for head in strays if head.key not in passed]
    if scope.period is None and scope.share >= SHARES:
        return Stretch(stretch.present, stretch.missing, strays)
    if scope.period is not None:
        strays = ()
    return Stretch(
        [each for each in stretch.present if scope.holds(each[0])],
        [item for item in stretch.missing if scope.holds(item)],
        [head for head in strays if scope.sampled(head.key)],
    )
