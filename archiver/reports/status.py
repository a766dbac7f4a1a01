"""`status`: per account what is covered, archived and left, and how the last run ended."""

from collections.abc import Sequence

import msgspec

from archiver.ledger.base import Ledger
from archiver.ledger.values import AccountSummary, Run
from archiver.recording import Status
from archiver.reports.run_report import stamp


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One account; `bytes` are those of the statuses that have any."""

    account_id: str
    covered_through: str | None
    recordings: dict[str, int]
    bytes: dict[str, int]
    windows_incomplete: list[dict[str, str]]
    oldest_pending: str | None
    next_attempt: str | None


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """The latest run; `outcome` is None when it was killed or still goes on."""

    run_id: str
    started_at: str
    ended_at: str | None
    outcome: str | None


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """All accounts and the last run."""

    accounts: list[AccountStatus]
    last_run: LastRun | None


async def status_report(ledger: Ledger, account_ids: Sequence[str]) -> StatusReport:
    """The status of the named accounts and of every other that the ledger knows.

    Raises:
        LedgerError.
    """
    found = {summary.account_id: summary for summary in await ledger.summaries()}
    for account_id in account_ids:
        found.setdefault(account_id, AccountSummary(account_id, {}, {}, None))
    return StatusReport(
        accounts=[_account(found[account_id]) for account_id in sorted(found)],
        last_run=_last_run(await ledger.last_run()),
    )


def _account(summary: AccountSummary) -> AccountStatus:
    return AccountStatus(
        account_id=summary.account_id,
        covered_through=stamp(summary.covered_through) if summary.covered_through else None,
        recordings={status.value: summary.recordings.get(status, 0) for status in Status},
        bytes={status.value: summary.bytes.get(status, 0) for status in Status if summary.bytes.get(status)},
        windows_incomplete=[
            {"since": stamp(piece.window.start_at), "until": stamp(piece.window.end_at), "reason": piece.reason}
            for piece in summary.incomplete
        ],
        oldest_pending=stamp(summary.oldest_pending_at) if summary.oldest_pending_at else None,
        next_attempt=stamp(summary.next_attempt_at) if summary.next_attempt_at else None,
    )


def _last_run(run: Run | None) -> LastRun | None:
    if run is None:
        return None
    return LastRun(
        run_id=run.run_id,
        started_at=stamp(run.started_at),
        ended_at=stamp(run.ended_at) if run.ended_at else None,
        outcome=run.outcome.value if run.outcome else None,
    )


def empty_account(account_id: str) -> AccountStatus:
    """An account of which nothing is known yet."""
    return _account(AccountSummary(account_id, {}, {}, None))
