"""The part of the ledger that proves, mends and reports: objects, histories, call records, repairs, seals."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import date, datetime, tzinfo
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row

from archiver.ledger import (
    coverage,
    exporting,
    history,
    reading,
    rebuilding,
    reconciling,
    repairing,
    reporting,
    sealing,
)
from archiver.ledger.backend import portions
from archiver.ledger.base_repair import Repairable
from archiver.ledger.columns import milliseconds
from archiver.ledger.core import LedgerCore
from archiver.ledger.settling import settled_of, tries_of
from archiver.ledger.values import (
    ArchivedEntry,
    Attempt,
    History,
    ObjectRow,
    Run,
    Settlement,
)
from archiver.ledger.values_exporting import KnownRecording, Sought
from archiver.ledger.values_rebuilding import Entering, StoredRecording
from archiver.ledger.values_reconciling import CdrFile, Standing
from archiver.ledger.values_reporting import DayVolume, Noteworthy, Reasons
from archiver.ledger.values_sealing import Sealed, TrailMark, TrailMarkName, Unsealed
from archiver.recording import Fixity, Recording
from archiver.window import Window

_KNOWN_BATCH = 500


class ProofLedger(LedgerCore):
    """What was archived, and what became of it."""

    async def volumes(self, zone: tzinfo, *, now: datetime) -> Sequence[DayVolume]:
        """See the promise."""
        return await self._writer.read(partial(reporting.read_volumes, zone=zone, now=now))

    async def reasons(self) -> Reasons:
        """See the promise."""
        return await self._writer.read(reporting.read_reasons)

    async def noteworthy(self, limit: int) -> Sequence[Noteworthy]:
        """See the promise; what is expired is left out."""
        return await self._writer.read(partial(reporting.read_noteworthy, limit=limit))

    async def enter(self, stored: Sequence[StoredRecording]) -> Sequence[Entering]:
        """See the promise."""
        return await self._writer.write(partial(rebuilding.enter, stored=stored))

    async def histories(self, recording_id: str) -> Sequence[History]:
        """See the promise; in the order in which the accounts were first seen."""
        return await self._writer.read(partial(history.read_histories, recording_id=recording_id))

    async def objects(self) -> AsyncIterator[ArchivedEntry]:
        """See the promise."""
        async with aclosing(self.object_rows()) as batches:
            async for batch in batches:
                for row in batch:
                    yield row.entry

    async def object_rows(self) -> AsyncGenerator[Sequence[ObjectRow], None]:
        """See the promise; one long read of its own, which holds up nobody."""
        async for batch in self._walked(reading.archived_objects(), _object_rows):
            yield batch

    async def known_recordings(self, sought: Sought) -> AsyncGenerator[Sequence[KnownRecording], None]:
        """See the promise; named ones are found by their index, anything else takes one walk over the entries."""
        await self._writer.flush()
        if sought.recording_ids:
            for portion in portions(sorted(sought.recording_ids)):
                yield await self._writer.read(partial(exporting.read_named, sought=sought, recording_ids=portion))
            return
        after = 0
        while True:
            read = partial(exporting.read_batch, sought=sought, after=after, limit=_KNOWN_BATCH)
            batch = await self._writer.read(read)
            if not batch.recordings:
                return
            yield batch.recordings
            after = batch.last

    async def standings(self, account_id: str, recording_ids: Sequence[str]) -> Sequence[Standing]:
        """See the promise."""
        return await self._writer.read(
            partial(reconciling.standings, account_id=account_id, recording_ids=recording_ids)
        )

    async def standings_of(self, account_id: str, window: Window) -> Sequence[Standing]:
        """See the promise; it reads all entries of the account."""
        span = coverage.span_of(window)
        return await self._writer.read(partial(reconciling.standings_of, account_id=account_id, span=span))

    async def record_cdr_file(self, file: CdrFile) -> None:
        """See the promise.

        Raises:
            LedgerError: among others, the part is known already.
        """
        await self._write_for(file.account_id, partial(reconciling.record_cdr_file, file=file))

    async def cdr_files(self, account_id: str | None = None, day: date | None = None) -> Sequence[CdrFile]:
        """See the promise."""
        return await self._writer.read(partial(reconciling.read_cdr_files, account_id=account_id, day=day))

    async def damaged_keys(self) -> frozenset[str]:
        """See the promise."""
        return await self._writer.read(repairing.damaged_keys)

    async def repairable(self, entry: ArchivedEntry) -> Repairable | None:
        """See the promise."""
        return await self._writer.read(partial(repairing.repairable, entry=entry))

    async def replace_damaged(
        self, run: Run, entry: ArchivedEntry, settlement: Settlement, *, recording: Recording, at: datetime
    ) -> None:
        """See the promise."""
        settled, at_ms = settled_of(run.run_no, settlement), milliseconds(at)
        replace = partial(
            repairing.replace_damaged,
            run_no=run.run_no,
            entry=entry,
            settled=settled,
            recording=recording,
            at_ms=at_ms,
        )
        await self._write_for(entry.account_id, replace, run_no=run.run_no)

    async def correct_entry(
        self, run: Run, entry: ArchivedEntry, *, fixity: Fixity | None = None, sidecar_sha256: bytes | None = None
    ) -> None:
        """See the promise."""
        correct = partial(
            repairing.correct_entry, run_no=run.run_no, entry=entry, fixity=fixity, sidecar_sha256=sidecar_sha256
        )
        await self._write_for(entry.account_id, correct, run_no=run.run_no)

    async def note_tries(self, run: Run, entry: ArchivedEntry, tries: Sequence[Attempt]) -> None:
        """See the promise."""
        noted = tries_of(run.run_no, entry.entry_id, tries)
        note = partial(repairing.note_tries, entry=entry, tries=noted)
        await self._write_for(entry.account_id, note, run_no=run.run_no)

    async def unsealed(self, limit: int) -> Sequence[Unsealed]:
        """See the promise."""
        return await self._writer.read(partial(sealing.read_unsealed, limit=limit))

    async def seal(self, sealed: Sequence[Sealed]) -> None:
        """See the promise."""
        await self._writer.write(partial(sealing.seal, sealed=sealed))

    async def trail_mark(self, name: TrailMarkName) -> TrailMark | None:
        """See the promise."""
        return await self._writer.read(partial(sealing.read_mark, name=name))

    async def raise_trail_mark(self, name: TrailMarkName, mark: TrailMark) -> None:
        """See the promise."""
        await self._writer.write(partial(sealing.raise_mark, name=name, mark=mark))


def _object_rows(_: Connection, rows: Sequence[Row[Any]]) -> Sequence[ObjectRow]:
    return [ObjectRow._make(row) for row in rows]
