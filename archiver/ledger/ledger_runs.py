"""The part of the ledger that a run works with: runs, pages, the calendar, outcomes."""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from archiver.errors import ArchiveInUse
from archiver.ledger import (
    claims,
    coverage,
    pages,
    reading,
    runs,
)
from archiver.ledger.columns import milliseconds, original, plain, seconds
from archiver.ledger.core import LedgerCore
from archiver.ledger.entries import find_account
from archiver.ledger.settling import settled_of
from archiver.ledger.values import (
    AccountSummary,
    Outcome,
    PageResult,
    Piece,
    Run,
    Settlement,
    Task,
    WindowProgress,
    WindowState,
)
from archiver.recording import Recording, Status
from archiver.window import Window

_RUNS_BATCH = 10
"""Mostly the first is asked for; each may bring a report of some ten thousand bytes."""


class RunLedger(LedgerCore):
    """Runs and what they find."""

    async def begin_run(self, run_id: str, *, started_at: datetime, holding: Collection[str] = ()) -> Run:
        """See the promise; times are cut to the millisecond."""
        names = [plain(account_id) for account_id in holding]

        def begin(connection: Connection) -> Run | str:
            refused = self._backend.hold(connection, names)
            if refused is not None:
                return refused
            run = runs.begin_run(connection, run_id, started_ms=milliseconds(started_at))
            runs.hold_accounts(connection, run.run_no, names, self._backend.hold)
            return run

        begun = await self._writer.write(begin)
        if isinstance(begun, str):
            raise _in_use(begun)
        self._has(begun, names)
        return begun

    async def hold_accounts(self, run: Run, account_ids: Collection[str]) -> None:
        """See the promise."""
        names = [plain(account_id) for account_id in account_ids]
        hold = partial(runs.hold_accounts, run_no=run.run_no, names=names, hold=self._backend.hold)
        refused = await self._writer.write(hold)
        if refused is not None:
            raise _in_use(refused)
        self._has(run, names)

    def _has(self, run: Run, names: Sequence[str]) -> None:
        self._run_no = run.run_no
        if names and self._backend.beat_s:
            self._writer.beat(self._backend.beat_s)

    def work_beside(self, run: Run) -> None:
        """See the promise."""
        self._run_no = run.run_no

    async def end_run(self, run: Run, *, outcome: Outcome, ended_at: datetime, report: bytes) -> None:
        """See the promise."""
        ended_ms = milliseconds(ended_at)
        await self._writer.write(
            partial(runs.end_run, run_no=run.run_no, outcome=outcome, ended_ms=ended_ms, report=report)
        )

    async def ask_for(self, account_id: str, windows: Sequence[Window]) -> None:
        """See the promise."""
        spans = [coverage.span_of(window) for window in windows]
        ask = partial(coverage.ask_for, account_id=account_id, spans=spans)
        await self._write_for(account_id, ask, shared=True)

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
            claim=self._claim,
        )
        return await self._writer.write(partial(pages.record_page, page=page), shared=True)

    async def classify_page(self, account_id: str, rows: Sequence[Recording]) -> Mapping[Status, int]:
        """See the promise."""
        return await self._writer.read(partial(pages.classify_page, account_id=account_id, rows=rows))

    async def finish_window(
        self, account_id: str, window: Window, *, state: WindowState, scanned_at: datetime, reason: str = ""
    ) -> None:
        """See the promise."""
        finish = partial(
            coverage.finish_window,
            account_id=account_id,
            span=coverage.span_of(window),
            state=state,
            scanned_at=seconds(scanned_at),
            reason=reason,
        )
        await self._write_for(account_id, finish, shared=True)

    async def calendar(self, account_id: str) -> Sequence[Piece]:
        """See the promise."""

        def read(connection: Connection) -> Sequence[Piece]:
            account_no = find_account(connection, plain(account_id))
            return [] if account_no is None else coverage.read_pieces(connection, account_no)

        return await self._writer.read(read)

    async def claim_due(self, run: Run, account_id: str, *, at: datetime, limit: int) -> Sequence[Task]:
        """See the promise; those due longest come first."""
        return await self._writer.write(
            partial(
                claims.claim_due,
                run_no=run.run_no,
                account_id=account_id,
                at=seconds(at),
                limit=limit,
                claim=self._claim,
            ),
            shared=True,
        )

    async def settle(self, run: Run, settlement: Settlement) -> None:
        """See the promise; waits while too many outcomes are not durable yet.

        Raises:
            ValueError: ARCHIVED without key, fixity or time; nothing was accepted.
        """
        await self._writer.hand_over(settled_of(run.run_no, settlement, self._claim))

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


def _in_use(account_id: str) -> ArchiveInUse:
    return ArchiveInUse(f"the account {original(account_id)} is being worked on by another run (by the ledger's word)")
