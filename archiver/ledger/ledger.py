"""The ledger's promise kept over SQLAlchemy Core: each method is one job for the writer, or one outcome handed over."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row

from archiver.errors import LedgerError
from archiver.ledger import (
    claims,
    coverage,
    history,
    pages,
    reading,
    rebuilding,
    reconciling,
    repairing,
    runs,
    schema,
    sealing,
)
from archiver.ledger.backend import Backend
from archiver.ledger.base_repair import Repairable
from archiver.ledger.columns import milliseconds, plain, seconds
from archiver.ledger.entries import find_account
from archiver.ledger.retaining import RetentionCalls
from archiver.ledger.settling import Settled, settled_of, tries_of, write_settled
from archiver.ledger.sqlite import SqliteBackend
from archiver.ledger.values import (
    AccountSummary,
    ArchivedEntry,
    Attempt,
    History,
    ObjectRow,
    Outcome,
    PageResult,
    Piece,
    Run,
    Settlement,
    Task,
    WindowProgress,
    WindowState,
)
from archiver.ledger.values_rebuilding import Entering, StoredRecording
from archiver.ledger.values_reconciling import CdrFile, Standing
from archiver.ledger.values_sealing import Sealed, TrailMark, TrailMarkName, Unsealed
from archiver.ledger.walk import walked
from archiver.ledger.writer import Writer
from archiver.recording import Fixity, Recording, Status
from archiver.window import Window

_SQLITE = "sqlite:///"
_RUNS_BATCH = 10
"""Mostly the first is asked for; each may bring a report of some ten thousand bytes."""


async def open_ledger(url: str, *, create: bool = True, busy_timeout_s: float = 30.0) -> "SqlLedger":
    """Open the ledger at `url`, `sqlite:///` and a path, and bring its schema up to date.

    With `create` a ledger that is not there yet is made, readable by this user alone; its folder must exist.
    `busy_timeout_s` is how long a call waits while another process keeps the ledger locked. `close` it in the same
    event loop.

    Raises:
        LedgerTooNew: a newer program wrote it; it was left untouched.
        LedgerError: it can't be opened, is no ledger, or lies on a network file system.
    """
    backend = backend_of(url, busy_timeout_s=busy_timeout_s)
    writer = Writer[Settled](backend, write_settled)
    await writer.open(partial(schema.prepare, backend=backend), create=create)
    return SqlLedger(backend, writer)


class SqlLedger(RetentionCalls):
    """Keeps the promise of `base.Ledger`; made by `open_ledger`."""

    def __init__(self, backend: Backend, writer: Writer[Settled]) -> None:
        self._backend = backend
        self._writer = writer

    async def begin_run(self, run_id: str, *, started_at: datetime) -> Run:
        """See the promise; times are cut to the millisecond."""
        return await self._writer.write(partial(runs.begin_run, run_id=run_id, started_ms=milliseconds(started_at)))

    async def end_run(self, run: Run, *, outcome: Outcome, ended_at: datetime, report: bytes) -> None:
        """See the promise."""
        ended_ms = milliseconds(ended_at)
        await self._writer.write(
            partial(runs.end_run, run_no=run.run_no, outcome=outcome, ended_ms=ended_ms, report=report)
        )

    async def ask_for(self, account_id: str, windows: Sequence[Window]) -> None:
        """See the promise."""
        spans = [coverage.span_of(window) for window in windows]
        await self._writer.write(partial(coverage.ask_for, account_id=account_id, spans=spans))

    async def record_page(
        self,
        run: Run,
        account_id: str,
        window: Window,
        rows: Sequence[Recording],
        progress: WindowProgress,
        *,
        at: datetime,
        retry_missing: bool = False,
    ) -> PageResult:
        """See the promise; an id that stands twice in a page counts once, as it stands last."""
        page = pages.Page(
            run_no=run.run_no,
            account_id=account_id,
            span=coverage.span_of(window),
            rows=rows,
            progress=progress,
            at=seconds(at),
            retry_missing=retry_missing,
        )
        return await self._writer.write(partial(pages.record_page, page=page))

    async def classify_page(self, account_id: str, rows: Sequence[Recording]) -> Mapping[Status, int]:
        """See the promise."""
        return await self._writer.read(partial(pages.classify_page, account_id=account_id, rows=rows))

    async def finish_window(
        self, account_id: str, window: Window, *, state: WindowState, scanned_at: datetime, reason: str = ""
    ) -> None:
        """See the promise."""
        await self._writer.write(
            partial(
                coverage.finish_window,
                account_id=account_id,
                span=coverage.span_of(window),
                state=state,
                scanned_at=seconds(scanned_at),
                reason=reason,
            )
        )

    async def calendar(self, account_id: str) -> Sequence[Piece]:
        """See the promise."""

        def read(connection: Connection) -> Sequence[Piece]:
            account_no = find_account(connection, plain(account_id))
            return [] if account_no is None else coverage.read_pieces(connection, account_no)

        return await self._writer.read(read)

    async def claim_due(self, run: Run, account_id: str, *, at: datetime, limit: int) -> Sequence[Task]:
        """See the promise; those due longest come first."""
        return await self._writer.write(
            partial(claims.claim_due, run_no=run.run_no, account_id=account_id, at=seconds(at), limit=limit)
        )

    async def settle(self, run: Run, settlement: Settlement) -> None:
        """See the promise; waits while too many outcomes are not durable yet.

        Raises:
            ValueError: ARCHIVED without key, fixity or time; nothing was accepted.
        """
        await self._writer.hand_over(settled_of(run.run_no, settlement))

    async def flush(self) -> None:
        """See the promise."""
        await self._writer.flush()

    async def statuses(self, account_id: str, recording_ids: Sequence[str]) -> Mapping[str, Status]:
        """See the promise."""
        return await self._writer.read(
            partial(reading.read_statuses, account_id=account_id, recording_ids=recording_ids)
        )

    async def summaries(self, account_ids: Sequence[str] = ()) -> Sequence[AccountSummary]:
        """See the promise; in the order of the accounts' ids, accounts that the ledger doesn't know left out."""
        return await self._writer.read(partial(reading.read_summaries, account_ids=account_ids))

    async def last_run(self) -> Run | None:
        """See the promise."""
        return await self._writer.read(runs.last_run)

    async def ended_runs(self, outcomes: Collection[Outcome]) -> AsyncGenerator[Run, None]:
        """See the promise."""
        before: int | None = None
        while found := await self._writer.read(
            partial(runs.ended_runs, outcomes=outcomes, before=before, limit=_RUNS_BATCH)
        ):
            for run in found:
                yield run
            before = found[-1].run_no

    async def find_run(self, run_id: str) -> Run | None:
        """See the promise."""
        return await self._writer.read(partial(runs.find_run, run_id=run_id))

    async def enter(self, stored: Sequence[StoredRecording]) -> Sequence[Entering]:
        """See the promise."""
        return await self._writer.write(partial(rebuilding.enter, stored=stored))

    async def check(self) -> None:
        """Read the whole database and see whether it is sound; changes nothing.

        Raises:
            LedgerDamaged: it is not.
        """
        await self._writer.read(self._backend.check)

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
        await self._writer.flush()
        async with aclosing(walked(self._backend, reading.archived_objects(), _object_rows)) as batches:
            async for batch in batches:
                yield batch

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
        await self._writer.write(partial(reconciling.record_cdr_file, file=file))

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
        await self._writer.write(
            partial(
                repairing.replace_damaged,
                run_no=run.run_no,
                entry=entry,
                settled=settled,
                recording=recording,
                at_ms=at_ms,
            )
        )

    async def correct_entry(
        self, run: Run, entry: ArchivedEntry, *, fixity: Fixity | None = None, sidecar_sha256: bytes | None = None
    ) -> None:
        """See the promise."""
        await self._writer.write(
            partial(
                repairing.correct_entry, run_no=run.run_no, entry=entry, fixity=fixity, sidecar_sha256=sidecar_sha256
            )
        )

    async def note_tries(self, run: Run, entry: ArchivedEntry, tries: Sequence[Attempt]) -> None:
        """See the promise."""
        noted = tries_of(run.run_no, entry.entry_id, tries)
        await self._writer.write(partial(repairing.note_tries, entry=entry, tries=noted))

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

    async def close(self) -> None:
        """See the promise; raises what kept something accepted from being written. A second call does nothing."""
        await self._writer.close()


def _object_rows(_: Connection, rows: Sequence[Row[Any]]) -> Sequence[ObjectRow]:
    return [ObjectRow._make(row) for row in rows]


def backend_of(url: str, *, busy_timeout_s: float) -> SqliteBackend:
    """The database that the address names; nothing is opened yet.

    Raises:
        LedgerError: it names none that is known.
    """
    # What follows is a path, whatever characters it has: nothing in it is a host, an option or a password.
    path = url.removeprefix(_SQLITE)
    if path == url:
        # Not shown, since it may hold a password.
        raise LedgerError("ledger.url names no kind of ledger that is known: use sqlite:/// and the path of a file.")
    if path in {"", ":memory:"} or "\x00" in path:
        raise LedgerError("The ledger needs a file of its own: use sqlite:/// and its path.")
    return SqliteBackend(Path(path), busy_timeout_s=busy_timeout_s)
