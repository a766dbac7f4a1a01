"""Reports as people read them on a terminal: plain lines, no colour, widths that fit 80 columns."""

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.demo import DemoResult
    from archiver.proof.verify import VerifyReport
    from archiver.reports.doctor import DoctorReport, Section
    from archiver.reports.explain import Explained, ExplainReport
    from archiver.reports.plan import PlanReport
    from archiver.reports.run_report import RunReport
    from archiver.reports.status import StatusReport

_SHOWN_PROBLEMS = 20


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
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        named = f"{problem.account_id} {problem.recording_id}".strip()
        lines.append(f"  ! {problem.status}: {_one_line(named)}: {_one_line(problem.reason)}")
    hidden = report.problems_total - min(len(report.problems), _SHOWN_PROBLEMS)
    if hidden > 0:
        lines.append(f"  … and {hidden:,} more; --json shows up to 200")
    if report.outcome == "complete":
        lines.append(f"All {done:,} recordings that were listed are in the archive or reported missing before.")
    elif report.outcome == "interrupted":
        lines.append("Interrupted: what was finished is safe; the same command goes on from here.")
    elif not report.error:
        lines.append("Something is left; the next run takes it up by itself.")
    return "\n".join(lines)


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
        lines.append(f"  stopped: {_one_line(report.error)}")
    # What is left comes first: that is what somebody must look at.
    for finding in sorted(report.findings, key=lambda each: each.repaired)[:_SHOWN_PROBLEMS]:
        lines += [f"  ! {finding.kind}: {finding.key}", f"      expected {finding.expected}, found {finding.found}"]
        if finding.repair:
            lines.append(f"      {'repaired' if finding.repaired else 'NOT repaired'}: {_printable(finding.repair)}")
    if len(report.findings) > _SHOWN_PROBLEMS:
        lines.append(f"  … and {len(report.findings) - _SHOWN_PROBLEMS:,} more: --json shows all of them")
    return "\n".join(lines)


def explain_words(report: "ExplainReport") -> str:
    """A recording's history, told in order."""
    return "\n\n".join("\n".join(_told(found)) for found in report.found)


def _told(found: "Explained") -> Iterator[str]:
    yield f"{found.recording_id} of account {found.account_id}: {found.status}"
    if found.reason:
        yield f"  because          {found.reason}: {found.detail}"
    yield f"  call             {found.call_started_at or 'at an unknown time'}, {_seconds(found.duration_ms)}"
    expected = "of unknown length" if found.expected_bytes is None else f"{found.expected_bytes:,} bytes"
    yield f"  listed           first at {found.first_listed_at}, {expected}; last in run {found.last_run_id}"
    for tried in found.failed_attempts:
        yield f"  try {tried.number:<4}         {tried.at} {tried.reason}: {tried.detail} (run {tried.run_id})"
    for version in found.versions:
        there = f"{version.size_bytes:,} bytes, {version.in_store} in the store"
        yield f"  version {version.version:<4}     {version.key}: {there}"
        yield f"                   SHA-256 {version.sha256}"
        yield f"                   archived at {version.archived_at} by run {version.run_id}"
        if version.damaged_at:
            yield f"                   found damaged at {version.damaged_at}, replaced by the next version, and left there"
        yield f"                   named by {version.manifest or 'no manifest yet'}"
    for record in found.audit:
        said = f", expected {record.expected}, found {record.found}" if record.found else ""
        yield f"  {record.what:<16} {record.at} {record.result}: {record.key}{said}"
    if found.verifications:
        last = found.verifications[-1]
        times = f"{found.verifications_total} time{'s'[: found.verifications_total > 1]}"
        yield f"  verified         {times}, last at {last.at} ({last.level})"
    if found.flags:
        because = f": {found.detail}" if found.detail and not found.reason else ""
        yield f"  flags            {', '.join(found.flags)}{because}"
    if found.quarantined_sha256:
        yield f"  quarantined      SHA-256 {found.quarantined_sha256}"
    if found.next_attempt_at:
        yield f"  next try         at {found.next_attempt_at} or in the next run after it"


def _seconds(duration_ms: int | None) -> str:
    return "unknown length" if duration_ms is None else f"{duration_ms / 1000:,.1f} s"


def demo_words(found: "DemoResult", root: str) -> str:
    """The demo's summary."""
    report, verified = found.run.report, found.verified
    good = not verified.findings and report.outcome == "complete"
    lines = [
        "",
        f"  A simulated PBX with {found.accounts} accounts listed {report.listed:,} recordings of the last days.",
        "",
        f"  archived         {report.archived:>8,} now, {report.already_archived:,} before   {size(report.bytes_archived)}",
        f"  verified         {verified.objects:>8,} read back to the last byte   {size(verified.bytes)}",
        f"  findings         {len(verified.findings):>8,}",
        f"  windows          {report.windows_complete:>8,} complete, {report.windows_incomplete} incomplete",
        f"  requests         {report.requests:>8,}   {report.pages} pages, {report.logins} sign-in",
        f"  took             {found.took_s:>8.1f} s",
        "",
        f"  Look around: {root}/<account>/<year>/<month>/<day>/<recording>.mp3, with a .json beside each.",
        "  Next: cp settings.example.toml settings.toml, point it at your PBX, and try `archiver plan --since 7d`.",
    ]
    lines += [f"  ! {finding.kind}: {finding.key}" for finding in verified.findings[:_SHOWN_PROBLEMS]]
    return "\n".join(
        [*lines, "", "  Nothing missing, nothing partial, nothing altered." if good else run_words(report)]
    )


@dataclass(frozen=True, slots=True)
class SimulatorAccess:
    """How to reach a simulator, and since when it has recordings."""

    base_url: str
    username: str
    domain: str
    password: str
    account_ids: Sequence[str]
    ca_file: Path | None
    begin: datetime
    recordings: int


def simulator_words(pbx: SimulatorAccess, root: Path) -> str:
    """Settings that a run can start with at once, as TOML up to the password, which stays out of the file."""
    pairs = {"base_url": pbx.base_url, "username": pbx.username, "domain": pbx.domain}
    pairs |= {"ca_file": str(pbx.ca_file)} if pbx.ca_file else {}
    lines = [
        f"# A simulated PBX is up, with {pbx.recordings:,} recordings; Ctrl-C ends it. Its settings.toml:",
        "",
        "[pbx]",
        *(f"{name} = {_toml(value)}" for name, value in pairs.items()),
        f"account_ids = [{', '.join(map(_toml, pbx.account_ids))}]",
        "",
        "[listing]",
        f"begin = {_toml(f'{pbx.begin:%Y-%m-%d}')}",
        "",
        "[store.local]",
        f"root = {_toml(str(root))}",
        "",
        "# The password goes into the environment:",
        f"export ARCHIVER_PBX__PASSWORD={pbx.password}",
    ]
    return "\n".join(lines)


def status_words(report: "StatusReport") -> str:
    """The status."""
    lines = []
    for account in report.accounts:
        lines.append(f"Account {_one_line(account.account_id)}")
        lines.append(f"  covered through   {account.covered_through or 'nothing yet'}")
        for status, count in account.recordings.items():
            volume = size(account.bytes[status]) if status in account.bytes else ""
            lines.append(f"  {status:<18}{count:>12,}   {volume}".rstrip())
        if account.oldest_pending:
            lines.append(
                f"  oldest pending    {account.oldest_pending}, next try {account.next_attempt or 'on demand'}"
            )
        lines += [
            f"  ! incomplete: {window['since']} to {window['until']}: {_one_line(window['reason'])}"
            for window in account.windows_incomplete[:_SHOWN_PROBLEMS]
        ]
    if report.last_run is None:
        lines.append("No run yet.")
    else:
        run = report.last_run
        lines.append(f"Last run {run.run_id}: {run.outcome or 'not finished'}, {run.ended_at or run.started_at}")
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
    lines.append(f"Fetching them takes {_duration(report.hours)} ({report.hours_limited_by}).")
    if report.free_bytes is not None:
        enough = "enough" if report.free_bytes > report.total.bytes else "NOT ENOUGH"
        lines.append(f"Free at the destination: {size(report.free_bytes)}, {enough}.")
    lines += [f"  ! incomplete: {_one_line(problem)}" for problem in report.problems[:_SHOWN_PROBLEMS]]
    return "\n".join(lines)


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
    place = f": {_printable(section.place)}" if section.place else ""
    lines = [f"{_TITLES[section.name]}{place}"]
    if section.not_examined:
        lines += _wrapped("  not examined: ", section.not_examined)
    for check in section.checks:
        lines += _wrapped(f"  {check.state:<8}{check.name.replace('_', ' '):<17}", check.found)
        if check.advice:
            lines.append(f"{'':27}→ {_printable(check.advice)}")  # in one piece, so that a command can be copied
    if section.name == "pbx" and section.checks:
        lines += _wrapped("  ", _NOT_TRIED)
    return [*lines, ""]


def _wrapped(start: str, text: str) -> list[str]:
    """A text in a column of its own; paths and addresses stay whole, so that they can be copied."""
    return textwrap.wrap(
        _printable(text),
        width=80,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def size(size_bytes: float) -> str:
    """Bytes for people: 3.8 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size_bytes) < 1000 or unit == "TB":  # noqa: PLR2004 - the decimal step
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("unreachable")


def _duration(hours: float) -> str:
    """Hours for people: minutes when there is less than one."""
    minutes = round(hours * 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"at least {minutes} minute{'s'[: minutes > 1]}"
    return f"at least {hours:,.1f} hours"


def _one_line(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")


def _printable(text: str) -> str:
    """A text for a person, who may paste a path from it; only what a terminal would obey is escaped."""
    return "".join(letter if letter.isprintable() else _one_line(letter) for letter in text)


def _toml(text: str) -> str:
    # TOML reads JSON's strings as they stand, but for characters that are not printed here.
    return json.dumps(text, ensure_ascii=False)
