"""The page that was written, for people."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import one_line, size

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.reports.page.written import PageWritten


def report_words(written: "PageWritten") -> str:
    """Where it is, and its one sentence."""
    lines = [f"{one_line(written.path)}: {size(written.bytes)}", one_line(written.figures.sentence)]
    if written.figures.not_recorded:
        lines.append(f"NOT in the audit trail: {one_line(written.figures.not_recorded)}")
    return "\n".join(lines)
