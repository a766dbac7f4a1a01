"""The part of the ledger's promise that is about retention and holds (`base_retention`)."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from archiver.ledger import holding, reconciling, retention
from archiver.ledger.backend import Backend
from archiver.ledger.columns import milliseconds
from archiver.ledger.settling import Settled
from archiver.ledger.values import Run
from archiver.ledger.values_reconciling import CdrFile
from archiver.ledger.values_retention import (
    Expiring,
    Expiry,
    Hold,
    KnownHold,
    RetentionRow,
    StoredTombstone,
    TombstoneRow,
    Unfinished,
)
from archiver.ledger.walk import walked
from archiver.ledger.writer import Writer


class RetentionCalls:
    """What `SqlLedger` does for retention; each method is one job for the writer, or one long read."""

    _backend: Backend
    _writer: Writer[Settled]

    async def tombstone_rows(self) -> AsyncGenerator[Sequence[TombstoneRow], None]:
        """See the promise."""
        await self._writer.flush()
        async with aclosing(walked(self._backend, retention.tombstone_rows(), _tombstone_rows)) as batches:
            async for batch in batches:
                yield batch

    async def retention_rows(self, account_ids: Sequence[str] = ()) -> AsyncGenerator[Sequence[RetentionRow], None]:
        """See the promise; one long read of its own, which holds up nobody."""
        await self._writer.flush()
        async with aclosing(walked(self._backend, retention.rows_of(account_ids), retention.completed)) as batches:
            async for batch in batches:
                yield batch

    async def unfinished_keys(self) -> frozenset[str]:
        """See the promise."""
        return await self._writer.read(retention.unfinished_keys)

    async def known_holds(self) -> Sequence[KnownHold]:
        """See the promise."""
        return await self._writer.read(holding.read_holds)

    async def add_hold(self, hold: Hold) -> bool:
        """See the promise."""
        return await self._writer.write(partial(holding.add_hold, hold=hold))

    async def release_hold(self, name: str, *, by: str, at: datetime, reason: str) -> Hold | None:
        """See the promise."""
        job = partial(holding.release_hold, name=name, by=by, at_ms=milliseconds(at), reason=reason)
        return await self._writer.write(job)

    async def retention_row(self, account_id: str, recording_id: str) -> RetentionRow | None:
        """See the promise."""
        return await self._writer.read(partial(retention.read_row, account_id=account_id, recording_id=recording_id))

    async def expire(self, run: Run, expiries: Sequence[Expiry], *, holds_through: int) -> Sequence[Expiring]:
        """See the promise."""
        return await self._writer.write(
            partial(retention.expire, run_no=run.run_no, expiries=expiries, holds_through=holds_through)
        )

    async def unfinished_expiries(self, limit: int, *, after: int = 0) -> Sequence[Unfinished]:
        """See the promise."""
        return await self._writer.read(partial(retention.read_unfinished, limit=limit, after=after))

    async def removed(self, entry_ids: Sequence[int], *, at: datetime) -> None:
        """See the promise."""
        await self._writer.write(partial(retention.note_removed, entry_ids=entry_ids, at_ms=milliseconds(at)))

    async def expire_cdr_files(self, files: Sequence[CdrFile], *, at: datetime, holds_through: int) -> bool:
        """See the promise."""
        keys = [file.key for file in files]
        return await self._writer.write(
            partial(retention.expire_cdr_files, keys=keys, at_ms=milliseconds(at), holds_through=holds_through)
        )

    async def expiring_cdr_files(self) -> Sequence[CdrFile]:
        """See the promise."""
        return await self._writer.read(partial(reconciling.read_cdr_files, account_id=None, day=None, expired=True))

    async def forget_cdr_files(self, files: Sequence[CdrFile]) -> None:
        """See the promise."""
        await self._writer.write(partial(retention.forget_cdr_files, keys=[file.key for file in files]))

    async def enter_tombstones(self, stored: Sequence[StoredTombstone]) -> int:
        """See the promise."""
        return await self._writer.write(partial(retention.enter_tombstones, stored=stored))


def _tombstone_rows(_: Connection, rows: Sequence[Row[Any]]) -> Sequence[TombstoneRow]:
    return [TombstoneRow._make(row) for row in rows]
