"""Runs and plans, for people."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, duration, one_line, size

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.reports.plan import PlanReport
    from archiver.reports.run_report import RunReport


def run_words(report: "RunReport") -> str:
    """The run report."""
    done = report.archived + report.already_archived
    lines = [
        f"Run {report.run_id}: {report.outcome}",
        *([f"  period            {report.since} to {report.until}"] if report.since else []),
        f"  listed            {report.listed:>12,}",
        f"  archived now      {report.archived:>12,}   {size(report.bytes_archived)}",
        f"  already archived  {report.already_archived:>12,}",
        f"  pending           {report.pending:>12,}",
        f"  missing at source {report.missing:>12,}",
        f"  quarantined       {report.quarantined:>12,}",
        *([f"  flagged           {report.flagged:>12,}   archived, but not as long as said"] if report.flagged else []),
        *(
            [f"  changed at source {report.changed_at_source:>12,}   new versions beside the old"]
            if report.changed_at_source
            else []
        ),
        f"  windows           {report.windows_complete:>12,} complete, {report.windows_incomplete} incomplete",
        f"  requests          {report.requests:>12,}   {report.retries} retries, {report.logins} sign-ins",
        f"  took              {report.duration_s:>12,.1f} s",
    ]
    lines += [f"  {note}" for note in report.notes]
    if report.error:
        lines.append(f"Stopped: {report.error}")
    for problem in report.problems[:SHOWN]:
        named = f"{problem.account_id} {problem.recording_id}".strip()
        lines.append(f"  ! {problem.status}: {one_line(named)}: {one_line(problem.reason)}")
    hidden = report.problems_total - min(len(report.problems), SHOWN)
    if hidden > 0:
        lines.append(f"  … and {hidden:,} more; --json shows up to 200")
    if report.outcome == "complete":
        lines.append(f"All {done:,} recordings that were listed are in the archive or reported missing before.")
    elif report.outcome == "interrupted":
        lines.append("Interrupted: what was finished is safe; the same command goes on from here.")
    elif not report.error:
        lines.append("Something is left; the next run takes it up by itself.")
    return "\n".join(lines)


def plan_words(report: "PlanReport") -> str:
    """The plan."""
    lines = [f"{'month':<10}{'recordings':>12}{'bytes':>12}{'audio hours':>14}"]
    for month, volume in [*report.months.items(), ("total", report.total)]:
        lines.append(f"{month:<10}{volume.recordings:>12,}{size(volume.bytes):>12}{volume.audio_hours:>14,.1f}")
    if report.total.without_length:
        lines.append(f"{report.total.without_length:,} recordings give no length and are not in the bytes.")
    if report.already_archived:
        lines.append(f"Already archived: {report.already_archived:,}; to archive: {report.to_archive:,}.")
    lines.append(f"Fetching them takes {duration(report.hours)} ({report.hours_limited_by}).")
    if report.free_bytes is not None:
        enough = "enough" if report.free_bytes > report.total.bytes else "NOT ENOUGH"
        lines.append(f"Free at the destination: {size(report.free_bytes)}, {enough}.")
    lines += [f"  ! incomplete: {one_line(problem)}" for problem in report.problems[:SHOWN]]
    return "\n".join(lines)
