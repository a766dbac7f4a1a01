"""What `doctor` found, for people."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import printable, wrapped

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from collections.abc import Sequence

    from archiver.reports.doctor import BehaviourLine, DoctorReport, Section


_TITLES = {
    "settings": "Settings",
    "store": "Store",
    "folder": "The archive's local folder",
    "ledger": "Ledger",
    "cluster": "Cluster",
    "pbx": "PBX",
}
_NOT_TOLD = "What could not be told may be told after more calls: try again then."


def doctor_words(report: "DoctorReport") -> str:
    """What `doctor` found, and what to do."""
    lines = [line for section in report.sections for line in _section_words(section)]
    lines += _behaviour_words(report.behaviours)
    states = [check.state for section in report.sections for check in section.checks]
    states += [one.state for one in report.behaviours if one.state != "unknown"]
    left_out = [_TITLES[section.name].lower() for section in report.sections if section.not_examined]
    if report.exit_code:
        count = states.count("failed")
        things = f"{count} thing{'s'[: count > 1]} {'stands' if count == 1 else 'stand'} in the way"
        lines.append(f"{things}: a run would end with exit code {report.exit_code:d}.")
    elif report.outcome == "weak":
        lines.append(f"A run can begin. Worth a look: {states.count('weak')}, marked weak.")
    else:
        lines.append("Everything that was looked at works; a run can begin.")
    if left_out:
        lines.append(f"Not examined: {', '.join(left_out)}.")
    return "\n".join(lines)


def _section_words(section: "Section") -> list[str]:
    place = f": {printable(section.place)}" if section.place else ""
    lines = [f"{_TITLES[section.name]}{place}"]
    if section.not_examined:
        lines += wrapped("  not examined: ", section.not_examined)
    for check in section.checks:
        lines += wrapped(f"  {check.state:<8}{check.name.replace('_', ' '):<17}", check.found)
        if check.advice:
            lines.append(f"{'':27}→ {printable(check.advice)}")  # in one piece, so that a command can be copied
    return [*lines, ""]


def _behaviour_words(behaviours: "Sequence[BehaviourLine]") -> list[str]:
    if not behaviours:
        return []
    lines = ["How this PBX behaves"]
    for one in behaviours:
        lines += wrapped(f"  {one.state:<8}{one.name.replace('_', ' '):<20} ", one.found)
        if one.state != "ok":
            lines += wrapped(" " * 31, f"({one.matters})")
        if one.advice:
            lines.append(f"{'':31}→ {printable(one.advice)}")
    if any(one.state == "unknown" for one in behaviours):
        lines += wrapped("  ", _NOT_TOLD)
    return [*lines, ""]
