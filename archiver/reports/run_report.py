"""The report of a run (contract, section 7), and the exit code it stands for."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from archiver.errors import ExitCode
from archiver.ledger.values import Outcome
from archiver.pbx.base import Traffic
from archiver.pipeline.run import Ended
from archiver.pipeline.tally import Problem, Tally
from archiver.window import Window


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """`listed` = `archived` + `already_archived` + `pending` + `missing` + `quarantined`, each id counted once.

    `flagged` are archived ones whose audio is shorter than said, or can't be measured; `refusals` answers of the PBX that
    asked for fewer requests (429, 503).
    """

    run_id: str
    outcome: Outcome
    since: str | None
    until: str | None
    accounts: list[str]
    listed: int
    archived: int
    already_archived: int
    pending: int
    missing: int
    quarantined: int
    bytes_archived: int
    pages: int
    requests: int
    retries: int
    logins: int
    refusals: int
    login_refusals: int
    windows_complete: int
    windows_incomplete: int
    duration_s: float
    problems: list[Problem]
    problems_total: int
    changed_at_source: int
    flagged: int
    notes: list[str]
    error: str | None


def run_report(
    *,
    run_id: str,
    period: Window | None,
    accounts: list[str],
    tally: Tally,
    traffic: Traffic,
    ended: Ended,
    duration_s: float,
    notes: Sequence[str] = (),
) -> RunReport:
    """The report of a run from its counts; `notes` are what it has to say besides."""
    return RunReport(
        run_id=run_id,
        outcome=outcome(tally, ended),
        since=stamp(period.start_at) if period else None,
        until=stamp(period.end_at) if period else None,
        accounts=accounts,
        listed=tally.listed,
        archived=tally.archived,
        already_archived=tally.already_archived,
        pending=tally.pending,
        missing=tally.missing,
        quarantined=tally.quarantined,
        bytes_archived=tally.bytes_archived,
        pages=traffic.pages,
        requests=traffic.requests,
        retries=traffic.retries,
        logins=traffic.logins,
        refusals=traffic.refusals,
        login_refusals=traffic.login_refusals,
        windows_complete=tally.windows_complete,
        windows_incomplete=tally.windows_incomplete,
        duration_s=round(duration_s, 3),
        problems=tally.shown,
        problems_total=tally.problems_total,
        changed_at_source=tally.changed,
        flagged=tally.flagged,
        notes=list(notes),
        error=str(ended.error) if ended.error else None,
    )


def outcome(tally: Tally, ended: Ended) -> Outcome:
    """How the run ended, in one word."""
    if ended.error is not None:
        return Outcome.FAILED
    if ended.stopped:
        return Outcome.INTERRUPTED
    return Outcome.INCOMPLETE if tally.something_left else Outcome.COMPLETE


def exit_code(tally: Tally, pages: int, ended: Ended, *, signal: int | None) -> ExitCode:
    """The exit code (contract, section 3); `pages` is how many were had, `signal` what stopped the run."""
    if ended.error is not None:
        return ended.error.exit_code
    if ended.stopped and signal is not None:
        return ExitCode(128 + signal)
    if tally.windows_incomplete and not pages and not tally.windows_complete:
        return ExitCode.PBX
    return ExitCode.LEFT if tally.something_left else ExitCode.DONE


def stamp(at: datetime) -> str:
    """A UTC time as reports write it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
