"""The report of `ledger copy` as people read it on a terminal."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import printable, wrapped

if TYPE_CHECKING:
    # For its shape only: a command loads what it needs and nothing else.
    from archiver.reports.copy_report import CopyReport


def copy_words(report: "CopyReport") -> str:
    """What was copied, and what to do now."""
    lines = [
        "Ledger: copied and checked" if report.checked else "Ledger: not copied; interrupted",
        f"  from              {printable(report.source)}",
        f"  to                {printable(report.target)}",
        *(f"  {table.table:<17} {table.rows:>12,} rows" for table in report.tables if table.rows),
        f"  took              {report.duration_s:>12,.1f} s",
    ]
    if report.checked:
        lines.append("Every row was read back, and is what the source has.")
    return "\n".join([*lines, *wrapped("", report.next)])
