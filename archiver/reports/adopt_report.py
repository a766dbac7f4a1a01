"""What `rebuild --adopt` reports, and the exit code it stands for."""

from collections.abc import Sequence

import msgspec

from archiver.errors import ExitCode
from archiver.ledger.values import Outcome
from archiver.pipeline.run import Ended
from archiver.pipeline.tally import Tally
from archiver.proof.restoration.adopt import Adoption, NotTaken
from archiver.reports.run_report import stamp
from archiver.window import Window


class AdoptReport(msgspec.Struct, frozen=True, kw_only=True):
    """`files` = `adopted` + `already_archived` + `misfits_total`, unless it was stopped; `pending` is for a later run."""

    run_id: str
    outcome: Outcome
    since: str
    until: str
    accounts: list[str]
    files: int
    adopted: int
    bytes_adopted: int
    already_archived: int
    misfits: list[NotTaken]
    misfits_total: int
    listed: int
    pending: int
    windows_complete: int
    windows_incomplete: int
    duration_s: float
    notes: list[str]
    error: str | None
    exit_code: int


def adopt_report(
    adoption: Adoption,
    tally: Tally,
    ended: Ended,
    *,
    run_id: str,
    period: Window,
    accounts: list[str],
    took_s: float,
    notes: Sequence[str],
) -> AdoptReport:
    """The report of an adoption from its counts."""
    left = bool(adoption.not_taken or tally.windows_incomplete)
    outcome = Outcome.FAILED if ended.error else Outcome.INTERRUPTED if ended.stopped else Outcome.COMPLETE
    if outcome is Outcome.COMPLETE and left:
        outcome = Outcome.INCOMPLETE
    code = ended.error.exit_code if ended.error else ExitCode.LEFT if left else ExitCode.DONE
    return AdoptReport(
        run_id=run_id,
        outcome=outcome,
        since=stamp(period.start_at),
        until=stamp(period.end_at),
        accounts=accounts,
        files=adoption.files,
        adopted=adoption.adopted,
        bytes_adopted=adoption.bytes_adopted,
        already_archived=adoption.already_archived,
        misfits=adoption.not_taken,
        misfits_total=len(adoption.not_taken),
        listed=tally.listed,
        pending=tally.pending,
        windows_complete=tally.windows_complete,
        windows_incomplete=tally.windows_incomplete,
        duration_s=round(took_s, 3),
        notes=list(notes),
        error=str(ended.error) if ended.error else None,
        exit_code=int(code),
    )
