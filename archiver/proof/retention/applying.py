"""Lets recordings go, some at a time: ledger, audit trail, tombstone, and only then what lies in the store.

The ledger comes first, since only there a hold and an expiry can't overtake one another. Killed anywhere, a recording is
whole, or has its tombstone; the next time begins with what was left. Memory stays flat.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from archiver.errors import ArchiverError, ObjectDiffers, ObjectLocked, first_of
from archiver.keys import sidecar_key
from archiver.ledger.base_retention import RetentionLedger
from archiver.ledger.values import Run
from archiver.ledger.values_retention import Expiring, Expiry, TombstoneKind, Unfinished
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.in_memory import InMemory
from archiver.proof.evidence.recorder import Recorder
from archiver.proof.evidence.retention_drafts import gone
from archiver.proof.retention.tombstones import CONTENT_TYPE, TombstoneFile, said_by
from archiver.stores.base import NewObject, Origin, Store

TOGETHER = 64
"""So many expire in one transaction, with one write to the audit trail."""


_TAKEN = "something else lies under its tombstone's name: look at it and move it away"


class Quarantined(Protocol):
    """Bytes that were put aside (see `stores.quarantine`)."""

    def remove(self, *, account_id: str, recording_id: str) -> int:
        """Remove all that is kept of a recording."""
        ...


@dataclass(frozen=True, slots=True)
class Left:
    """An expiry that could not be finished, and why; `until_at` where a lock of the store says when it can."""

    expiry: Unfinished
    why: str
    until_at: datetime | None = None


class Standing(Enum):
    """What lies under a tombstone's name."""

    NONE = auto()
    OURS = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Hands:
    """What removes things; `now` is asked for the time at which something was removed."""

    ledger: RetentionLedger
    store: Store
    quarantine: Quarantined
    threads: Threads
    recorder: Recorder
    run: Run
    now: Callable[[], datetime]

    async def expire(self, expiries: Sequence[Expiry], *, holds_through: int) -> Sequence[Expiring]:
        """Make them expired in the ledger; nothing is removed yet. What became of each, in their order.

        Raises:
            LedgerError.
        """
        return await self.ledger.expire(self.run, expiries, holds_through=holds_through)

    async def finish(self, *, by: str = "") -> tuple[int, list[Left]]:
        """Finish every expiry that is not: how many were finished, and what was left.

        Raises:
            LedgerError, StoreError: the next time does what is left.
        """
        after, finished = 0, 0
        left: list[Left] = []
        while some := await self.ledger.unfinished_expiries(TOGETHER, after=after):
            after = some[-1].entry_id
            left_of_these = await self.finish_these(some, by=by)
            left += left_of_these
            finished += len(some) - len(left_of_these)
        return finished, left

    async def finish_these(self, some: Sequence[Unfinished], *, by: str = "") -> list[Left]:
        """Tell of them, put their tombstones, remove what else there is of them; what could not be finished.

        Raises:
            LedgerError, StoreError: the next time does what is left.
        """
        whole: list[tuple[Unfinished, TombstoneFile]] = []
        left: list[Left] = []
        for each in some:
            found = said_by(each.body)
            if found is None:
                left.append(Left(each, "the ledger's copy of its tombstone can't be read"))
            else:
                whole.append((each, found))
        standing = await self.threads.run(_tombstones, self.store, [each for each, _ in whole])
        left += [Left(each, _TAKEN) for each, _ in whole if standing[each.entry_id] is Standing.OTHER]
        # Those that have one were told of before it was put.
        fresh = [one for one in whole if standing[one[0].entry_id] is Standing.NONE]
        if fresh:
            digests = [InMemory(each.body).fixity.sha256.hex() for each, _ in fresh]
            told = [gone(each.key, found, digest, by=by) for (each, found), digest in zip(fresh, digests, strict=True)]
            await self.recorder.add(told)
            refused = await self.threads.run(_put, self.store, [each for each, _ in fresh], self.run)
            left += [Left(each, _TAKEN) for each in refused]
        kept = {one.expiry.entry_id for one in left}
        return [*left, *await self._remove_all([one for one in whole if one[0].entry_id not in kept])]

    async def _remove_all(self, going: Sequence[tuple[Unfinished, TombstoneFile]]) -> list[Left]:
        """Remove what these tombstones stand for, side by side: those in one folder share its syncs; what is locked."""
        locks: dict[int, ObjectLocked | None] = {}
        failed: ArchiverError | None = None

        async def remove(each: Unfinished, said: TombstoneFile) -> None:
            locks[each.entry_id] = await self.threads.run(_removed, self.store, self.quarantine, each, said)

        try:
            async with asyncio.TaskGroup() as group:
                for each, said in going:
                    group.create_task(remove(each, said))
        except* ArchiverError as errors:
            failed = first_of(errors)
        gone = [entry_id for entry_id, lock in locks.items() if lock is None]
        if gone:
            await self.ledger.removed(gone, at=self.now())
        if failed is not None:
            raise failed
        return [Left(each, str(lock), lock.until_at) for each, _ in going if (lock := locks[each.entry_id]) is not None]


def _tombstones(store: Store, some: Sequence[Unfinished]) -> dict[int, Standing]:
    """What lies under the names of these tombstones."""
    found: dict[int, Standing] = {}
    for each in some:
        head = store.head(each.key)
        if head is None:
            found[each.entry_id] = Standing.NONE
        else:
            same = store.fixity(each.key) == InMemory(each.body).fixity
            found[each.entry_id] = Standing.OURS if same else Standing.OTHER
    return found


def _put(store: Store, some: Sequence[Unfinished], run: Run) -> list[Unfinished]:
    """Put tombstones; gives back those that could not be put because other bytes lie there by now.

    Raises:
        StoreError: any other reason; some may be put.
    """
    groups = []
    for each in some:
        # That of an erased recording says nothing of the call's date, not even by its lock.
        dated_at = each.called_at if each.kind is TombstoneKind.EXPIRED else None
        origin = Origin(each.account_id, each.recording_id, run.run_id, dated_at)
        groups.append([NewObject(each.key, InMemory(each.body), CONTENT_TYPE, origin)])
    refused: list[Unfinished] = []
    for each, outcome in zip(some, store.put_many(groups), strict=True):
        if isinstance(outcome, ObjectDiffers):
            refused.append(each)
        elif isinstance(outcome, ArchiverError):
            raise outcome
    return refused


def _removed(store: Store, quarantine: Quarantined, each: Unfinished, said: TombstoneFile) -> ObjectLocked | None:
    """Remove the media of all versions, then their sidecars, then what was put aside; the lock that forbids some of it.

    Raises:
        StoreError.
    """
    locked: ObjectLocked | None = None
    for key in (*said.keys, *map(sidecar_key, said.keys)):
        try:
            store.delete(key)
        except ObjectLocked as error:
            locked = error
    quarantine.remove(account_id=each.account_id, recording_id=each.recording_id)
    return locked
