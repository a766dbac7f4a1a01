"""What a verification has found, for people."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, one_line, printable, size

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.proof.verification.verify import VerifyReport


_DEPTHS = {
    "presence": "each has its object and its sidecar",
    "size": "each has its object and its sidecar, of the right size",
    "full": "each read to the last byte",
}


def verify_words(report: "VerifyReport") -> str:
    """What a verification has found."""
    share = "" if report.sample_percent >= 100 else f" (a share of {report.sample_percent:g} %)"  # noqa: PLR2004
    lines = [f"  looked at   {report.objects:>10,} recordings, {size(report.bytes)}{share}"]
    if report.not_recorded:
        lines.append(f"  NOT in the audit trail: {report.not_recorded}")
    if not report.complete:
        lines.append("  stopped before its end: what it did not come to is not counted here")
    if not report.findings and not report.complete:
        return "\n".join([*lines, "  findings             0 so far"])
    if not report.findings:
        return "\n".join([*lines, f"  findings             0: {_DEPTHS[report.level]}, and nothing else lies there."])
    repaired = f", {report.repaired:,} repaired by run {report.repair_run_id}" if report.repair_run_id else ""
    lines.append(f"  findings    {len(report.findings):>10,}{repaired}")
    if report.error:
        lines.append(f"  stopped: {one_line(report.error)}")
    # What is left comes first: that is what somebody must look at.
    for finding in sorted(report.findings, key=lambda each: each.repaired)[:SHOWN]:
        lines += [f"  ! {finding.kind}: {finding.key}", f"      expected {finding.expected}, found {finding.found}"]
        if finding.repair:
            lines.append(f"      {'repaired' if finding.repaired else 'NOT repaired'}: {printable(finding.repair)}")
    if len(report.findings) > SHOWN:
        lines.append(f"  … and {len(report.findings) - SHOWN:,} more: --json shows all of them")
    return "\n".join(lines)
