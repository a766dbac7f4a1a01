"""The last runs, for the page: what their reports say, and for how long all has gone well."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import msgspec

from archiver.ledger.base import Ledger
from archiver.ledger.values import Outcome, Run
from archiver.reports.page.values import RunFacts, RunKind

_MOST_RUNS = 30
_MOST_RUNS_LOOKED_AT = 2000


@dataclass(frozen=True, slots=True)
class LastRuns:
    """The last runs, and what all of them together say of how long things have gone well."""

    last: Sequence[RunFacts]
    good_since: datetime | None
    last_good_at: datetime | None


class _RunCounts(msgspec.Struct):
    """What the page takes of a run's report; each kind of run has some of it."""

    listed: int | None = None
    windows_complete: int | None = None
    cdrs: int | None = None
    archived: int | None = None
    fetched_archived: int | None = None
    pending: int | None = None
    quarantined: int | None = None
    bytes_archived: int | None = None
    error: str | None = None


async def last_runs(ledger: Ledger) -> LastRuns:
    """The last runs of the ledger, that under way or killed included.

    Raises:
        LedgerError.
    """
    last = await ledger.last_run()
    shown = [_run_facts(last)] if last is not None and last.outcome is None else []
    good_since, last_good_at, unbroken, looked_at = None, None, True, 0
    async with aclosing(ledger.ended_runs(frozenset(Outcome))) as found:
        async for run in found:
            looked_at += 1
            facts = _run_facts(run)
            if len(shown) < _MOST_RUNS:
                shown.append(facts)
            if facts.kind is RunKind.RUN and run.outcome is Outcome.COMPLETE:
                last_good_at = last_good_at or run.ended_at
                good_since = run.ended_at if unbroken else good_since
            elif facts.kind is RunKind.RUN:
                unbroken = False
            enough = len(shown) == _MOST_RUNS and last_good_at is not None and not unbroken
            if enough or looked_at == _MOST_RUNS_LOOKED_AT:
                break
    return LastRuns(shown, good_since, last_good_at)


def _run_facts(run: Run) -> RunFacts:
    try:
        counts = msgspec.json.decode(run.report or b"{}", type=_RunCounts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        counts = _RunCounts()
    is_run = (counts.listed is not None and counts.windows_complete is not None) or not run.report
    left = [number for number in (counts.pending, counts.quarantined) if number is not None]
    return RunFacts(
        run_id=run.run_id,
        kind=RunKind.RUN if is_run else RunKind.RECONCILE if counts.cdrs is not None else RunKind.OTHER,
        started_at=run.started_at,
        ended_at=run.ended_at,
        outcome=run.outcome.value if run.outcome is not None else "",
        listed=counts.listed,
        archived=counts.archived if counts.archived is not None else counts.fetched_archived,
        left=sum(left) if left else None,
        bytes_archived=counts.bytes_archived,
        error=counts.error or "",
    )
