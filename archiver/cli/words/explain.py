"""A recording's history, for people."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archiver.cli.words.layout import one_line

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.reports.explain import Explained, ExplainReport


def explain_words(report: "ExplainReport") -> str:
    """A recording's history, told in order."""
    told = ["\n".join(_told(found)) for found in report.found]
    not_recorded = [f"NOT in the audit trail: {one_line(report.not_recorded)}"] if report.not_recorded else []
    return "\n\n".join([*told, *not_recorded])


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
    yield from _retention(found)
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


def _retention(found: "Explained") -> Iterator[str]:
    """What rules and holds make of it, or what stands in its place."""
    dead, said = found.tombstone, found.retention
    if dead is not None:
        why = f"by rule {dead.rule}" if dead.kind == "expired" else f"at a request ({dead.reference})"
        yield f"  gone             {dead.kind} {why} at {dead.expired_at}, run {dead.run_id}"
        yield f"  tombstone        {dead.key}"
        if dead.removed_at is None:
            yield "                   not removed whole yet; the next `archiver retention apply` finishes it"
    if said is not None:
        until = f" until {said.until}" if said.until else ""
        by = f"rule {said.rule}{until}" if said.rule else "no rule, for ever"
        yield f"  retention        {said.verdict} ({said.reason}): {by}"
        if said.holds:
            yield f"  held             by {', '.join(said.holds)}"
        if said.reason == "locked":
            yield f"  locked           until {said.locked_until or 'the legal hold of the store is lifted'}"


def _seconds(duration_ms: int | None) -> str:
    return "unknown length" if duration_ms is None else f"{duration_ms / 1000:,.1f} s"
