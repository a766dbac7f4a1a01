"""The reports about retention and holds as people read them on a terminal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, printable, size, wrapped

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.proof.retention.plan import PlannedGroup, RetentionPlan
    from archiver.reports.retention_report import ApplyReport, EraseReport, ExtendReport, HoldReport, ShownHold

_WHY = {
    "rule": "",
    "no_rule": "no rule is for them: kept for ever",
    "held": "held",
    "locked": "time over, locked by the store",
    "undated": "nobody knows when the call was: kept",
    "unreadable": "whether the rule is for them can't be read: kept",
}
_ERASED = {
    "erased": "Erased: its media and metadata are gone; a tombstone without personal data stands for it.",
    "already_gone": "Already gone: nothing of it lies here any more but its tombstone.",
    "held_by_rule": "Not erased.",
    "held_by_hold": "Not erased.",
    "locked": "Not erased.",
    "unknown_date": "Not erased.",
}


def plan_words(report: "RetentionPlan") -> str:
    """What would go now, and what comes next."""
    lines = [
        f"Retention on {report.at}: {report.recordings:,} recordings, {size(report.bytes)}",
        f"  would expire      {report.expire:>12,}   {size(report.expire_bytes)}",
        f"  stay              {report.keep:>12,}",
        "",
    ]
    for group in report.groups:
        lines += _group(group)
    if not report.rules:
        lines.append("There are no rules ([[retention.rules]] in the settings): nothing ever expires.")
    if report.holds:
        lines += wrapped("active holds: ", ", ".join(report.holds))
    if report.cdr_files:
        lines.append(f"Archived CDRs: {report.cdr_files_expire:,} of {report.cdr_files:,} files would expire, too.")
    if report.unreadable:
        lines.append(f"Of {report.unreadable:,} the metadata were needed and say nothing, or could not be read.")
    going = [each for group in report.groups if group.verdict == "expire" for each in group.first]
    if going:
        lines += ["", "Would expire now:"]
    for each in going[:SHOWN]:
        lines.append(f"  {each.recording_id}  of {(each.call_date or '')[:10]}, {each.rule}, until {each.until}")
    if report.expire > SHOWN:
        lines.append(f"  … and {report.expire - min(SHOWN, len(going)):,} more; --csv FILE has all of them")
    lines += ["", "Nothing was changed. `archiver retention apply` removes what would expire then."]
    return "\n".join(map(printable, lines))


def _group(group: "PlannedGroup") -> Iterator[str]:
    why = _WHY[group.reason]
    name = f"rule {group.rule}" if group.rule else ""
    said = ", ".join(part for part in (name, why) if part)
    verdict = "expire" if group.verdict == "expire" else "keep"
    yield f"  {verdict:<8}{group.recordings:>12,}   {size(group.bytes):<9}  {said}"
    if group.next_until is not None and group.verdict == "keep":
        yield f"{'':24}next on {group.next_until[:10]}; {group.soon:,} within 30 days"


def apply_words(report: "ApplyReport") -> str:
    """What was removed."""
    lines = [
        f"Retention applied ({report.outcome}), run {report.run_id}",
        f"  looked at         {report.recordings:>12,}",
        f"  expired           {report.expired:>12,}   {size(report.bytes)}",
        f"  kept              {report.kept:>12,}",
        f"  held              {report.held:>12,}",
        f"  locked            {report.locked:>12,}",
    ]
    if report.cdr_files:
        lines.append(f"  files of CDRs     {report.cdr_files:>12,}   removed")
    if report.finished:
        lines.append(f"  finished          {report.finished:>12,}   begun by an earlier command")
    if report.changed:
        lines.append(f"  changed meanwhile {report.changed:>12,}   decided anew the next time")
    lines += [
        f"  ! locked until {each.locked_until or 'its legal hold is lifted'}: {each.recording_id}"
        for each in report.locked_first[:SHOWN]
    ]
    lines += [f"  ! not removed whole: {left.recording_id}: {left.reason}" for left in report.left[:SHOWN]]
    if report.left_total > SHOWN:
        lines.append(f"  … and {report.left_total - SHOWN:,} more; --json names them")
    lines += [line for note in report.notes for line in wrapped("", note)]
    if report.error:
        lines += wrapped("ended early: ", report.error)
    if report.not_recorded:
        lines += wrapped("the audit trail has no copy yet: ", report.not_recorded)
    if report.outcome == "interrupted":
        lines.append("Interrupted; the next one goes on from there.")
    return "\n".join(map(printable, lines))


def erase_words(report: "EraseReport") -> str:
    """The answer to an erasure request."""
    lines = [f"{report.recording_id} of account {report.account_id}"]
    if report.result == "held_by_rule":
        lines.append(f"Held by rule {report.rule} until {report.until or 'for ever'}.")
    elif report.result == "held_by_hold":
        lines.append(f"Held by {'hold' if len(report.holds) == 1 else 'holds'} {', '.join(report.holds)}.")
    elif report.result == "locked":
        lines.append(f"Locked by the store until {report.locked_until or 'its legal hold is lifted'}.")
    elif report.result == "unknown_date":
        lines.append(f"Nobody knows when the call was, so rule {report.rule} may still hold it.")
    lines.append(_ERASED[report.result])
    if report.tombstone:
        lines.append(f"  tombstone         {report.tombstone}")
    if report.left:
        lines += wrapped("  not whole yet     ", report.left)
    if report.not_recorded:
        lines += wrapped("the audit trail has no copy yet: ", report.not_recorded)
    return "\n".join(map(printable, lines))


def extend_words(report: "ExtendReport") -> str:
    """How many locks are longer now."""
    lines = [
        f"  recordings        {report.recordings:>12,}",
        f"  objects           {report.objects:>12,}",
        f"  locks extended    {report.extended:>12,}",
    ]
    if not report.complete:
        lines.append("Interrupted; the same command goes on.")
    if report.not_recorded:
        lines += wrapped("the audit trail has no copy yet: ", report.not_recorded)
    return "\n".join(map(printable, lines))


def holds_words(report: "HoldReport") -> str:
    """Holds, one after another."""
    if not report.holds:
        return "There are no active holds."
    lines = [line for hold in report.holds for line in _hold(hold)]
    if report.not_recorded:
        lines += wrapped("the audit trail could not take it: ", report.not_recorded)
    return "\n".join(map(printable, lines))


def _hold(hold: "ShownHold") -> Iterator[str]:
    yield f"{hold.name}: {'active' if hold.active else 'released'}"
    yield f"  placed            {hold.placed_at} by {hold.placed_by}"
    yield from wrapped("  reason            ", hold.reason)
    yield from wrapped("  reference         ", hold.reference or "none")
    conditions = []
    if hold.account_id:
        conditions.append(f"account {hold.account_id}")
    if hold.since or hold.until:
        conditions.append(f"calls from {hold.since or 'the first'} until {hold.until or 'the last'}")
    if hold.recording_ids:
        conditions.append(f"recordings {', '.join(hold.recording_ids)}")
    if hold.users:
        conditions.append(f"parties {', '.join(hold.users)}")
    yield from wrapped("  covers            ", " and ".join(conditions) or "everything")
    if not hold.active:
        yield f"  released          {hold.released_at} by {hold.released_by}: {hold.release_reason}"
