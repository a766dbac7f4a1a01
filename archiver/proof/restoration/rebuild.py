"""Enters into a ledger what lies in the store: with an empty ledger a rebuild, with an older one what it lacks.

Memory stays flat: only what does not fit is kept. What sidecars don't hold can't come back: the calendar of what was
listed, the tries that failed, and what was never archived.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from archiver.errors import ArchiverError, first_of
from archiver.ledger.base_retention import RetentionLedger
from archiver.ledger.values_rebuilding import Entering, StoredRecording
from archiver.ledger.values_retention import StoredTombstone
from archiver.pipeline.threads import Threads
from archiver.proof.reconciliation.cdr_files import read_cdr_file
from archiver.proof.restoration.stored import Group, Groups, Misfit, Read, RebuildProblem, read_groups
from archiver.stores.base import Store

_READ_AT_ONCE = 200
_READ_AT_ONCE_REMOTE = 16
_ENTERED_AT_ONCE = 4000
_SIDE_BY_SIDE = 4
_NOT_ENTERED = {
    Entering.DIFFERS: (Misfit.LEDGER_DIFFERS, "the ledger has this version with another key, size or digest"),
    Entering.EXPIRED: (Misfit.EXPIRED, "retention has removed this recording, says the ledger"),
}


class Rebuilt(msgspec.Struct, kw_only=True):
    """What a walk over the store came to; `complete` is false when it was stopped before its end.

    `entered` were new to the ledger and `known` were not, versions each by itself. `tombstones` were found in the place of
    what retention has removed.
    """

    complete: bool = False
    objects: int = 0
    sidecars: int = 0
    bytes: int = 0
    entered: int = 0
    known: int = 0
    tombstones: int = 0
    problems: list[RebuildProblem] = msgspec.field(default_factory=list)


async def rebuild(
    ledger: RetentionLedger, store: Store, threads: Threads, *, full: bool, stop: asyncio.Event, remote: bool = False
) -> Rebuilt:
    """Enter everything that lies in the store and has its sidecar, until `stop` is set.

    `full` reads the recordings too, to the last byte; `remote` stores wait for a network, so that more are read at once.

    Raises:
        LedgerError, StoreError: what was entered before stays entered.
    """
    work = _Entering(ledger, store, threads, full=full)
    groups = Groups(store.list())
    at_once = _READ_AT_ONCE_REMOTE if remote else _READ_AT_ONCE
    room = asyncio.Semaphore(64 if remote else _SIDE_BY_SIDE)

    async def share(some: list[Group]) -> None:
        try:
            await work.read(some)
        finally:
            room.release()

    failed: ArchiverError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            while not stop.is_set() and (some := await threads.run(groups.some, at_once)):
                await room.acquire()
                group.create_task(share(some))
    except* ArchiverError as errors:
        failed = first_of(errors)
    if failed is not None:
        raise failed
    await work.finish(complete=not stop.is_set())
    return work.rebuilt


class _Entering:
    """Reads shares of the store and enters what they hold, many shares to a transaction."""

    def __init__(self, ledger: RetentionLedger, store: Store, threads: Threads, *, full: bool) -> None:
        self.rebuilt = Rebuilt()
        self._ledger = ledger
        self._store = store
        self._threads = threads
        self._full = full
        self._waiting: list[StoredRecording] = []
        self._tombstones: list[StoredTombstone] = []
        self._bare: list[str] = []

    async def read(self, some: list[Group]) -> None:
        """Take in one share."""
        read = await self._threads.run(_read, self._store, some, self._full)
        self.rebuilt.objects += read.objects
        self.rebuilt.sidecars += read.sidecars
        self.rebuilt.bytes += read.size_bytes
        self.rebuilt.problems += read.problems
        self._bare += read.bare
        self._waiting += read.stored
        self._tombstones += read.tombstones
        if len(self._waiting) + len(self._tombstones) >= _ENTERED_AT_ONCE:
            await self._enter()

    async def finish(self, *, complete: bool) -> None:
        """Enter the rest; then see which objects without a sidecar the ledger knows all the same."""
        await self._enter()
        if complete and self._bare:
            bare = set(self._bare) - await self._ledger.damaged_keys()
            bare -= {file.key for file in await self._ledger.cdr_files()} | await self._ledger.unfinished_keys()
            async for entry in self._ledger.objects():
                bare.discard(entry.key)
            bare -= await self._enter_cdrs(sorted(bare))
            self.rebuilt.problems += [
                RebuildProblem(kind=Misfit.OBJECT_WITHOUT_SIDECAR, key=key, reason="nothing says what it is")
                for key in sorted(bare)
            ]
        self.rebuilt.problems.sort(key=lambda problem: (problem.key, problem.kind))
        self.rebuilt.complete = complete

    async def _enter_cdrs(self, keys: Sequence[str]) -> set[str]:
        """Note the files with CDRs among these, which need no sidecar; those that are whole."""
        entered: set[str] = set()
        for key in keys:
            found = await self._threads.run(read_cdr_file, self._store, key)
            if found is not None:
                await self._ledger.record_cdr_file(found)
                entered.add(key)
        return entered

    async def _enter(self) -> None:
        # First, so that whatever else lies there of an expired recording is told and not entered.
        tombstones, self._tombstones = self._tombstones, []
        waiting, self._waiting = self._waiting, []
        if tombstones:
            await self._ledger.enter_tombstones(tombstones)
            self.rebuilt.tombstones += len(tombstones)
        if not waiting:
            return
        for stored, became in zip(waiting, await self._ledger.enter(waiting), strict=True):
            if became is Entering.ENTERED:
                self.rebuilt.entered += 1
            elif became is Entering.KNOWN:
                self.rebuilt.known += 1
            else:
                kind, reason = _NOT_ENTERED[became]
                self.rebuilt.problems.append(RebuildProblem(kind=kind, key=stored.key, reason=reason))


def _read(store: Store, some: list[Group], full: bool) -> Read:
    return read_groups(store, some, full=full)
