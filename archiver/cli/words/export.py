"""What became of an export, for people."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, one_line, printable, size

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.proof.export.report import ExportReport


def export_words(report: "ExportReport") -> str:
    """What became of an export."""
    return "\n".join([*_outcome(report), *_left(report), *(f"  note: {printable(note)}" for note in report.notes)])


def _outcome(report: "ExportReport") -> Iterator[str]:
    yield f"  selected    {report.recordings:>10,} recordings"
    if report.outcome == "interrupted":
        yield "  Stopped before its end: there is no bag."
    elif not report.bag:
        yield "  Nothing fits all of these conditions: there is no bag."
    else:
        beside = f"{report.cdrs:,} CDRs, {report.audit_records:,} audit records"
        yield f"  in the bag  {report.exported:>10,} with {size(report.bytes)}, {beside}"
        yield f"  bag         {printable(report.bag)}"
        yield f"  manifest    SHA-256 {report.manifest_sha256}"


def _left(report: "ExportReport") -> Iterator[str]:
    if report.not_archived_total:
        yield f"  ! not archived, and so not in the bag: {report.not_archived_total:,}"
        for each in report.not_archived[:SHOWN]:
            reason = f": {one_line(each.reason)}" if each.reason else ""
            yield f"      {each.status}{reason}: {one_line(each.recording_id)}"
    if report.not_found_total:
        yield f"  ! asked for by id, and not found: {report.not_found_total:,}"
        yield from (f"      {one_line(each)}" for each in report.not_found[:SHOWN])
    if report.undecided:
        yield f"  ! without metadata, so that nobody can tell whether they were meant: {report.undecided:,}"
    if report.findings_total:
        yield f"  ! damaged or gone, and so not in the bag: {report.findings_total:,}; `archiver verify` says more"
        yield from (f"      {each.kind}: {each.key}" for each in report.findings[:SHOWN])
