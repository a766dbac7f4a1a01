"""Evidence as people read it on a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.evidence import ShownRecords
    from archiver.proof.evidence.audit import Record
    from archiver.proof.evidence.audit_check import TrailReport


def trail_words(report: "TrailReport") -> str:
    """Whether the audit trail is whole."""
    if not report.records and report.whole:
        return "There is no audit trail yet: the first run begins it."
    lines = [f"  records     {report.records:>10,}, from {report.since or 'nowhere'} to {report.until or 'nowhere'}"]
    if report.copies:
        lines.append(f"  in the store{report.copies:>10,} have a copy")
    if report.head:
        lines.append(f"  last line   SHA-256 {report.head}")
    if report.beyond_mark:
        lines.append(
            f"  {report.beyond_mark} at the end came after what the ledger has noted: a command died in between"
        )
    if report.torn_bytes:
        lines.append(f"  {report.torn_bytes} bytes at the end were never finished: the next command clears them")
    if report.whole:
        return "\n".join([*lines, "Whole: no record was changed, taken out or put in."])
    for finding in report.findings[:SHOWN]:
        lines += [f"  ! {finding.kind}: {finding.key}", f"      expected {finding.expected}, found {finding.found}"]
    if len(report.findings) > SHOWN:
        lines.append(f"  … and {len(report.findings) - SHOWN:,} more: --json shows all of them")
    return "\n".join([*lines, "NOT whole: somebody cut or edited the trail, or its disk is failing."])


def records_words(shown: "ShownRecords") -> str:
    """Records, one to a line."""
    if not shown.records:
        return "There is no audit trail yet: the first run begins it."
    return "\n".join("  ".join(_told(record)) for record in shown.records)


def _told(record: "Record") -> Iterator[str]:
    yield f"{record.seq:>6}"
    yield record.at
    yield record.who
    yield f"{record.what:<11}"
    yield from (text for text in (record.result, record.subject, record.run_id) if text)
    details = record.details
    said = {name: getattr(details, name) for name in details.__struct_fields__}
    yield from (f"{name}={value}" for name, value in said.items() if value not in {None, ()} and name != "kind")
