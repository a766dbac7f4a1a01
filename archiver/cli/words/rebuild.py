"""The reports of `rebuild` and `rebuild --adopt` as people read them on a terminal."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, one_line, size

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.reports.adopt_report import AdoptReport
    from archiver.reports.rebuild_report import RebuildReport

_LEDGER = {
    "replaced": "a new one was made from the archive",
    "updated": "it is sound, and was brought up to date",
    "unchanged": "unchanged",
}


def rebuild_words(report: "RebuildReport") -> str:
    """What became of the ledger."""
    lines = [f"Ledger: {_LEDGER[report.ledger]}"]
    if report.reason:
        lines.append(f"  because           {one_line(report.reason)}")
    if report.set_aside:
        lines.append(f"  the old one       {report.set_aside}")
    lines += [
        f"  recordings        {report.objects:>12,}   {size(report.bytes)}, {report.sidecars:,} sidecars",
        f"  entered           {report.entered:>12,}",
        f"  known before      {report.known:>12,}",
        *([f"  tombstones        {report.tombstones:>12,}"] if report.tombstones else []),
        f"  took              {report.duration_s:>12,.1f} s",
    ]
    for problem in report.problems[:SHOWN]:
        lines.append(f"  ! {problem.kind}: {one_line(problem.key)}: {one_line(problem.reason)}")
    if report.problems_total > SHOWN:
        lines.append(f"  … and {report.problems_total - SHOWN:,} more; --json shows all of them")
    if not report.complete:
        lines.append("Interrupted: a ledger is replaced as a whole or not at all; the same command begins anew.")
    elif report.calendar == "lost":
        lines.append("What was listed when can't be rebuilt, nor what was never archived: the next nightly run begins")
        lines.append("at listing.begin again and lists everything, but fetches nothing that is here.")
    else:
        lines.append("What was listed since the ledger's last run must be listed again; the next run does it.")
    return "\n".join(lines)


def adopt_words(report: "AdoptReport") -> str:
    """What was taken over, and what does not fit."""
    lines = [
        f"Adoption {report.run_id}: {report.outcome}",
        f"  period            {report.since} to {report.until}",
        f"  files             {report.files:>12,}",
        f"  adopted           {report.adopted:>12,}   {size(report.bytes_adopted)}",
        f"  archived before   {report.already_archived:>12,}   the same bytes",
        f"  not taken over    {report.misfits_total:>12,}",
        f"  listed            {report.listed:>12,}   {report.pending:,} of them still to be fetched by a run",
        f"  windows           {report.windows_complete:>12,} complete, {report.windows_incomplete} incomplete",
        f"  took              {report.duration_s:>12,.1f} s",
    ]
    lines += [f"  {note}" for note in report.notes]
    if report.error:
        lines.append(f"Stopped: {report.error}")
    for misfit in report.misfits[:SHOWN]:
        lines.append(f"  ! {misfit.reason}: {one_line(misfit.path)}: {one_line(misfit.detail)}")
    if report.misfits_total > SHOWN:
        lines.append(f"  … and {report.misfits_total - SHOWN:,} more; --json shows all of them")
    lines.append("The files themselves were left as they are.")
    return "\n".join(lines)
