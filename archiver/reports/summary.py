"""A report in two breaths: what was counted, and why not all is well; for those who are only told of it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from archiver.proof.reconciliation.classes import LEFT, Class
from archiver.proof.reconciliation.completeness import ReconcileReport
from archiver.proof.verification.verify import VerifyReport
from archiver.recording import Status
from archiver.reports.run_report import RunReport


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts as a sentence, and each reason with how often it stands in the report, the most frequent first."""

    counts: str = ""
    reasons: Sequence[tuple[str, int]] = ()
    error: str = ""


def summary_of(report: msgspec.Struct) -> Summary:
    """The summary of a run's, a verification's or a reconciliation's report; of any other there is none.

    It names no recording, and of what lies outside of the archive only what a reason says.
    """
    match report:
        case RunReport():
            return _run(report)
        case VerifyReport():
            return _verification(report)
        case ReconcileReport():
            return _reconciliation(report)
        case _:
            return Summary()


def _run(report: RunReport) -> Summary:
    counts = (
        f"{report.listed:,} listed: {report.archived:,} archived now, {report.already_archived:,} before, "
        f"{report.pending:,} pending, {report.missing:,} missing, {report.quarantined:,} quarantined; "
        f"{report.windows_complete:,} windows complete, {report.windows_incomplete:,} incomplete"
    )
    bad = (problem for problem in report.problems if problem.status != Status.ARCHIVED)
    reasons = _counted(f"{problem.status}: {problem.reason}" for problem in bad)
    return Summary(counts, reasons, report.error or "")


def _verification(report: VerifyReport) -> Summary:
    left = [finding for finding in report.findings if not finding.repaired]
    counts = (
        f"{report.objects:,} recordings looked at, findings: {len(report.findings):,}, repaired: {report.repaired:,}"
    )
    reasons = _counted(f"{finding.kind.value}{f': {finding.repair}' if finding.repair else ''}" for finding in left)
    if report.not_recorded:
        reasons = [(f"not in the audit trail: {report.not_recorded}", 1), *reasons]
    return Summary(counts, reasons, report.error or "")


def _reconciliation(report: ReconcileReport) -> Summary:
    counts = (
        f"{report.recordings:,} recordings in {len(report.days):,} days, {report.days_incomplete:,} of them not listed "
        f"whole; {report.cdrs:,} CDRs, {report.fetched:,} fetched by id, {report.newly_missing:,} newly missing"
    )
    left = [(kind.value, report.classes[kind].count) for kind in Class if kind in LEFT and kind in report.classes]
    days = _counted(reason for day in report.days for reason in day.reasons)
    return Summary(counts, [*((kind, count) for kind, count in left if count), *days], report.error or "")


def _counted(reasons: Iterable[str]) -> list[tuple[str, int]]:
    return Counter(reasons).most_common()
