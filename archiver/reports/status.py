"""`status`: per account what is covered, archived and left, how the last run ended, and what has waited for too long."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from archiver.ledger.base import Ledger
from archiver.ledger.values import AccountSummary, Outcome, Run
from archiver.recording import Status
from archiver.reports.run_report import stamp

_SUCCESS = frozenset({Outcome.COMPLETE})
_TO_ITS_END = frozenset({Outcome.COMPLETE, Outcome.INCOMPLETE})


class AlarmReason(StrEnum):
    """What has waited for too long."""

    COVERAGE = "coverage"
    RUN = "run"
    PENDING = "pending"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """Something older than it may be; `since` is how old, None when there is nothing at all that could have an age.

    `account_id` is None when it concerns all accounts. `detail` is a sentence that says what is wrong and what to do.
    """

    account_id: str | None
    reason: AlarmReason
    since: str | None
    detail: str


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One account; `bytes` are those of the statuses that have any.

    `oldest_pending` is the oldest pending call's start, `pending_since` when the recording that is pending and known
    longest was first listed.
    """

    account_id: str
    covered_through: str | None
    recordings: dict[str, int]
    bytes: dict[str, int]
    windows_incomplete: list[dict[str, str]]
    oldest_pending: str | None
    pending_since: str | None
    next_attempt: str | None


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """The latest run; `outcome` is None when it was killed or still goes on."""

    run_id: str
    started_at: str
    ended_at: str | None
    outcome: str | None


class LastSuccess(msgspec.Struct, frozen=True, kw_only=True):
    """The latest run that listed and left nothing undone; reconciliations, repairs and rebuilds are none."""

    run_id: str
    ended_at: str


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """All accounts, the last run and the last success.

    `alarms` is what is older than `max_age_s` seconds; nothing was looked for where that is None.
    """

    accounts: list[AccountStatus]
    last_run: LastRun | None
    last_success: LastSuccess | None
    max_age_s: float | None = None
    alarms: list[Alarm] = []


class _Listed(msgspec.Struct):
    """What tells the report of a run that listed from any other's."""

    listed: int


async def status_report(
    ledger: Ledger | None, account_ids: Sequence[str], *, now: datetime, max_age: timedelta | None = None
) -> StatusReport:
    """The status of the named accounts and of every other that the ledger knows; None is a ledger that is not there.

    With `max_age` nothing that is older may be left undone. Only the named accounts can alarm.

    Raises:
        LedgerError.
    """
    found = {summary.account_id: summary for summary in (await ledger.summaries() if ledger is not None else ())}
    for account_id in account_ids:
        found.setdefault(account_id, AccountSummary(account_id, {}, {}, None))
    success = await _latest(ledger, _SUCCESS)
    alarms: list[Alarm] = []
    if max_age is not None:
        reached = await _latest(ledger, _TO_ITS_END)
        chosen = [found[account_id] for account_id in sorted(set(account_ids))]
        alarms = list(_alarms(chosen, reached, now=now, max_age=max_age))
    return StatusReport(
        accounts=[_account(found[account_id]) for account_id in sorted(found)],
        last_run=_last_run(await ledger.last_run() if ledger is not None else None),
        last_success=None
        if success is None or success.ended_at is None
        else LastSuccess(run_id=success.run_id, ended_at=stamp(success.ended_at)),
        max_age_s=None if max_age is None else max_age.total_seconds(),
        alarms=alarms,
    )


async def _latest(ledger: Ledger | None, outcomes: Collection[Outcome]) -> Run | None:
    """The latest run that ended so and that listed: a rebuild or a repair says nothing about the PBX's recordings."""
    if ledger is not None:
        async with aclosing(ledger.ended_runs(outcomes)) as found:
            async for run in found:
                if _has_listed(run):
                    return run
    return None


def _has_listed(run: Run) -> bool:
    try:
        msgspec.json.decode(run.report, type=_Listed)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _alarms(
    accounts: Sequence[AccountSummary], reached: Run | None, *, now: datetime, max_age: timedelta
) -> Iterator[Alarm]:
    """What is older than `max_age`; what is exactly as old is not."""

    def is_old(at: datetime | None) -> bool:
        return at is None or now - at > max_age

    ended_at = reached.ended_at if reached is not None else None
    if is_old(ended_at):
        last = f"the last one did at {stamp(ended_at)}" if ended_at else "none ever did, or the ledger is gone"
        yield _alarm(
            None,
            AlarmReason.RUN,
            ended_at,
            f"no run came to its end: {last}. See whether the timer starts `archiver run` and what its log says"
            + ("." if ended_at else "; `archiver rebuild` brings a lost ledger back."),
        )
    for account in accounts:
        covered = account.covered_through
        if is_old(covered):
            what = f"listed whole only up to {stamp(covered)}" if covered else "nothing was ever listed whole"
            windows = f"; {len(account.incomplete)} windows are incomplete" if account.incomplete else ""
            detail = f"{what}{windows}. `archiver run` lists what is missing and says why where it can't."
            yield _alarm(account.account_id, AlarmReason.COVERAGE, covered, detail)
        waiting = account.pending_since
        if waiting is not None and is_old(waiting):
            count = account.recordings.get(Status.PENDING, 0)
            detail = (
                f"{count:,} recordings are pending, one of them since {stamp(waiting)}. `archiver run --json` names them "
                "with their reasons."
            )
            yield _alarm(account.account_id, AlarmReason.PENDING, waiting, detail)


def _alarm(account_id: str | None, reason: AlarmReason, since: datetime | None, detail: str) -> Alarm:
    return Alarm(account_id=account_id, reason=reason, since=stamp(since) if since else None, detail=detail)


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
        pending_since=stamp(summary.pending_since) if summary.pending_since else None,
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
