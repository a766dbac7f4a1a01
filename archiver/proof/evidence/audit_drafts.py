"""What the audit trail says of runs and verifications: ids, keys, counts and stable words, never what an error says."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from archiver.ledger.values import Outcome
from archiver.pipeline.tally import Tally
from archiver.proof.evidence.audit import Details, Draft, What, nameless, plain, stamp
from archiver.proof.evidence.manifest_check import UNREADABLE
from archiver.proof.reconciliation.classes import Class
from archiver.proof.reconciliation.completeness import ReconcileReport
from archiver.proof.verification.findings import Finding, Kind
from archiver.proof.verification.verify import Scope, VerifyReport
from archiver.window import Window

_FOREIGN = frozenset({Kind.FOREIGN_OBJECT, Kind.STALE_TEMPORARY})


def run_began(period: Window | None, account_ids: Sequence[str]) -> Draft:
    """A run begins, over this period in all."""
    return Draft(
        What.RUN_BEGAN, details=Details(since=_since(period), until=_until(period), accounts=tuple(account_ids))
    )


def run_ended(outcome: Outcome, tally: Tally, *, reason: str | None) -> Draft:
    """A run's outcome and counts; `reason` is the code of the error that ended it."""
    details = Details(
        listed=tally.listed,
        archived=tally.archived,
        already_archived=tally.already_archived,
        pending=tally.pending,
        missing=tally.missing,
        quarantined=tally.quarantined,
        bytes=tally.bytes_archived,
        reason=reason,
    )
    return Draft(What.RUN_ENDED, result=outcome.value, details=details)


def verification(report: VerifyReport, scope: Scope) -> Iterator[Draft]:
    """A verification and each of its findings."""
    result = "damage" if report.findings else "whole" if report.complete else "stopped"
    details = Details(
        since=_since(scope.period),
        until=_until(scope.period),
        level=report.level.value,
        share_from=scope.share_from,
        share=scope.share,
        complete=report.complete,
        objects=report.objects,
        bytes=report.bytes,
        findings=len(report.findings),
    )
    yield Draft(What.VERIFIED, result=result, details=details)
    for finding in report.findings:
        yield _found(finding)


def repairs(report: VerifyReport) -> Iterator[Draft]:
    """What became of each finding that a repair looked at."""
    for finding in report.findings:
        told = _found(finding)
        yield replace(told, what=What.REPAIRED, result="repaired" if finding.repaired else "left")


def rebuilt(*, replaced: bool, complete: bool, entered: int, known: int, problems: int) -> Draft:
    """The ledger was rebuilt from the archive, or brought up to date."""
    details = Details(complete=complete, archived=entered, already_archived=known, findings=problems)
    return Draft(What.REBUILT, result="replaced" if replaced else "updated", details=details)


def adopted(period: Window, account_ids: Sequence[str], *, recordings: int, size_bytes: int) -> Draft:
    """Recordings that another tool had saved were taken over."""
    details = Details(
        since=_since(period), until=_until(period), accounts=tuple(account_ids), archived=recordings, bytes=size_bytes
    )
    return Draft(What.ADOPTED, result="adopted", details=details)


def reconciled(report: ReconcileReport) -> Draft:
    """A reconciliation with its counts."""
    classes = report.classes
    details = Details(
        since=report.since,
        until=report.until,
        accounts=tuple(report.accounts),
        complete=report.complete,
        listed=report.recordings,
        archived=classes[Class.ARCHIVED].count if Class.ARCHIVED in classes else 0,
        lines=report.cdrs_archived,
    )
    return Draft(What.RECONCILED, result=report.outcome.value, details=details)


def looked_up(recording_id: str, account_ids: Sequence[str]) -> Draft:
    """Somebody was told the history of a recording, in these accounts."""
    return Draft(What.LOOKED_UP, plain(recording_id), "told", Details(accounts=tuple(account_ids)))


def reported(*, recordings: int, findings: int) -> Draft:
    """A page was made that names caller and callee of so many recordings, and of so many findings."""
    return Draft(What.REPORTED, result="with_parties", details=Details(listed=recordings, findings=findings))


def _found(finding: Finding) -> Draft:
    key, found = finding.key, finding.found
    if finding.kind is Kind.UNREADABLE or found.startswith(UNREADABLE):
        # The rest is what the store said.
        found = UNREADABLE
    if finding.kind in _FOREIGN:
        # A name that others gave.
        key = nameless(key)
    if finding.kind is Kind.RENAMED:
        found = nameless(found)
    details = Details(kind=finding.kind.value, expected=finding.expected, found=found)
    return Draft(What.FINDING, key, finding.kind.value, details)


def _since(period: Window | None) -> str | None:
    return None if period is None else stamp(period.start_at)


def _until(period: Window | None) -> str | None:
    return None if period is None else stamp(period.end_at)
