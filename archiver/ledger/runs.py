"""The runs the ledger remembers."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, insert, select, update

from archiver.errors import LedgerError
from archiver.ledger.backend import portions
from archiver.ledger.columns import from_milliseconds, original, plain
from archiver.ledger.entries import account_number
from archiver.ledger.tables import accounts, partition_claims, runs
from archiver.ledger.values import Outcome, Run
from archiver.ledger.values_claims import ClaimState


def begin_run(connection: Connection, run_id: str, *, started_ms: int) -> Run:
    """Note that a run began, under a number greater than any before."""
    added = insert(runs).values(run_id=plain(run_id), started_ms=started_ms, report=b"")
    (run_no,) = cast("tuple[int]", connection.execute(added).inserted_primary_key)
    return Run(run_no, run_id, from_milliseconds(started_ms), ended_at=None, outcome=None)


def end_run(connection: Connection, run_no: int, *, outcome: Outcome, ended_ms: int, report: bytes) -> None:
    """Note how a run ended; attempts that nobody waits for any more are lost, and write nothing from now on.

    Raises:
        LedgerError: the ledger knows no such run.
    """
    ended = update(runs).where(runs.c.run_no == run_no)
    if not connection.execute(ended.values(outcome=outcome.value, ended_ms=ended_ms, report=report)).rowcount:
        raise LedgerError(f"The ledger knows no run {run_no}: was it replaced by an older copy during the run?")
    claims = partition_claims.c
    held = update(partition_claims).where(claims.run_no == run_no, claims.state == ClaimState.HELD.value)
    connection.execute(held.values(state=ClaimState.LOST.value, ended_ms=ended_ms))


def hold_accounts(
    connection: Connection,
    run_no: int,
    names: Sequence[str],
    hold: Callable[[Connection, Sequence[str]], str | None],
) -> str | None:
    """Have these accounts for a run alone; the first that another has, and then nothing is changed."""
    refused = hold(connection, names)
    if refused is None:
        numbers = [account_number(connection, name) for name in names]
        for portion in portions(numbers):
            connection.execute(update(accounts).where(accounts.c.account_no.in_(portion)).values(run_no=run_no))
    return refused


def last_run(connection: Connection) -> Run | None:
    """The latest run, finished or not."""
    return _run(connection.execute(select(runs).order_by(runs.c.run_no.desc()).limit(1)).one_or_none())


def ended_runs(
    connection: Connection, outcomes: Collection[Outcome], *, before: int | None, limit: int
) -> Sequence[Run]:
    """Up to `limit` runs that ended in one of these ways, the latest first, those before a run's number only."""
    chosen = select(runs).where(runs.c.outcome.in_([outcome.value for outcome in outcomes]))
    if before is not None:
        chosen = chosen.where(runs.c.run_no < before)
    found = connection.execute(chosen.order_by(runs.c.run_no.desc()).limit(limit))
    return [run for row in found if (run := _run(row)) is not None]


def find_run(connection: Connection, run_id: str) -> Run | None:
    """The run of this id; the latest, should there be several."""
    chosen = select(runs).where(runs.c.run_id == plain(run_id)).order_by(runs.c.run_no.desc()).limit(1)
    return _run(connection.execute(chosen).one_or_none())


def _run(found: Row[Any] | None) -> Run | None:
    if found is None:
        return None
    return Run(
        run_no=found.run_no,
        run_id=original(found.run_id),
        started_at=from_milliseconds(found.started_ms),
        ended_at=None if found.ended_ms is None else from_milliseconds(found.ended_ms),
        outcome=None if found.outcome is None else Outcome(found.outcome),
        report=found.report,
    )
