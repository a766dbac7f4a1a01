"""What `doctor` found, for people."""

from typing import TYPE_CHECKING

from archiver.cli.words.layout import printable, wrapped

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.reports.doctor import DoctorReport, Section


_TITLES = {
    "settings": "Settings",
    "store": "Store",
    "folder": "The archive's local folder",
    "ledger": "Ledger",
    "pbx": "PBX",
}
_NOT_TRIED = "how it lists (paging, time filter) is not tried out in this version"


def doctor_words(report: "DoctorReport") -> str:
    """What `doctor` found, and what to do."""
    lines = [line for section in report.sections for line in _section_words(section)]
    states = [check.state for section in report.sections for check in section.checks]
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
    if section.name == "pbx" and section.checks:
        lines += wrapped("  ", _NOT_TRIED)
    return [*lines, ""]
