"""What `reconcile` has found, for people."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, size
from archiver.proof.reconciliation.classes import CallRecord, Class

if TYPE_CHECKING:
    from archiver.proof.reconciliation.completeness import ReconcileReport

_SHOWN_DAYS = 40
CLASSES = {
    Class.ARCHIVED: "archived",
    Class.GONE: "archived, but the store shows none",
    Class.PENDING: "pending",
    Class.MISSING: "missing at the source",
    Class.QUARANTINED: "quarantined",
    Class.EXPIRED: "expired",
    Class.UNANSWERED: "nothing there: unanswered",
    Class.TOO_SHORT: "nothing there: too short",
    Class.ORPHAN: "objects that nobody knows",
}
CALL_RECORDS = {
    CallRecord.IN_BOTH: "listed and in a CDR",
    CallRecord.NO_CDR: "listed, but in no CDR",
    CallRecord.NEVER_LISTED: "in a CDR, but never listed",
    CallRecord.IN_NEITHER: "in neither",
}


def reconcile_words(report: "ReconcileReport") -> str:
    """The report: classes, days, and what is to be said of single recordings."""
    whole = f"{report.days_whole} whole, {report.days_incomplete} not listed whole"
    lines = [
        f"Run {report.run_id}: {report.outcome}",
        f"  period            {report.since} to {report.until}",
        f"  days              {len(report.days):>10,}   {whole}",
        f"  CDRs              {report.cdrs:>10,}   {report.cdrs_archived:,} in the archive",
        f"  fetched by id     {report.fetched:>10,}   {report.fetched_archived:,} of them archived",
        "",
        f"  {'recordings':<36}{report.recordings:>10,}",
    ]
    lines += [
        f"    {CLASSES[kind]:<34}{found.count:>10,}   {size(found.bytes)}"
        for kind, found in report.classes.items()
        if found.count
    ]
    lines += ["  of these"] if report.recordings else []
    lines += [f"    {CALL_RECORDS[each]:<34}{count:>10,}" for each, count in report.call_records.items() if count]
    lines += ["", *_days(report)]
    # What is archived all the same comes last.
    for noted in sorted(report.noted, key=lambda noted: noted.kind is Class.ARCHIVED)[:SHOWN]:
        name = noted.recording_id or noted.key
        lines.append(f"  ! {noted.day} {_plain(name)}: {CLASSES[noted.kind]}, {CALL_RECORDS[noted.call_record]}")
    if len(report.noted) > SHOWN:
        lines.append(f"  … and {len(report.noted) - SHOWN:,} more: --json shows all of them")
    return "\n".join([*lines, _verdict(report)])


def _days(report: "ReconcileReport") -> Iterator[str]:
    shown = [day for day in report.days if not day.whole or day.recordings or day.cdrs]
    if shown:
        yield f"  {'day':<12}{'recordings':>11}{'archived':>10}{'bytes':>11}{'CDRs':>8}  account"
    for day in shown[:_SHOWN_DAYS]:
        archived = day.classes[Class.ARCHIVED]
        yield (
            f"  {day.day:<12}{day.recordings:>11,}{archived.count:>10,}{size(archived.bytes):>11}{day.cdrs:>8,}"
            f"  {_plain(day.account_id)}"
        )
        yield from (f"      {_plain(reason)}" for reason in day.reasons)
    if len(shown) > _SHOWN_DAYS:
        yield f"  … and {len(shown) - _SHOWN_DAYS:,} more days: --json and --csv show all of them"


def _verdict(report: "ReconcileReport") -> str:
    if report.error:
        return f"Stopped: {report.error}"
    if report.outcome == "interrupted":
        return "Interrupted: the days above are done; the same command goes on from here."
    if report.complete:
        return "Complete: what the PBX knows of this period is archived, or its absence is explained."
    return (
        "Something is left. What is pending is the next run's work; `archiver explain ID` tells a recording's history."
    )


def _plain(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")
