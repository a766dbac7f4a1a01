"""Whether everything is fine, in one sentence, and what to do where it is not: a pure decision over the facts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import Level
from archiver.recording import Status
from archiver.reports.fixity import Extent
from archiver.reports.page.days import DayState
from archiver.reports.page.values import PageFacts
from archiver.reports.page.wording import at, counted, words
from archiver.reports.status import AlarmReason

_HARMLESS = frozenset({Kind.FOREIGN_OBJECT, Kind.STALE_TEMPORARY})
"""Something is there that nobody expects; nothing that was archived is affected."""
_VERIFIED_WITHIN = timedelta(days=35)
_REPAIR = "Delete nothing. Look at the disk or the bucket, then run `archiver verify --repair`."
_MEANINGS = {
    Kind.MISSING_OBJECT: ("archived recording is gone", "archived recordings are gone"),
    Kind.MISSING_SIDECAR: ("sidecar is gone", "sidecars are gone"),
    Kind.FOREIGN_OBJECT: ("file lies in the archive that nobody knows", "files lie in the archive that nobody knows"),
    Kind.RENAMED: ("recording lies under another name", "recordings lie under other names"),
    Kind.SIZE: ("archived recording has another size now", "archived recordings have another size now"),
    Kind.DIGEST: ("archived recording holds other bytes now", "archived recordings hold other bytes now"),
    Kind.SWAPPED: ("recording holds the bytes of another one", "recordings hold the bytes of other ones"),
    Kind.SIDECAR: ("sidecar was changed", "sidecars were changed"),
    Kind.LEDGER: ("row of the ledger was changed", "rows of the ledger were changed"),
    Kind.UNREADABLE: ("archived recording can't be read", "archived recordings can't be read"),
    Kind.STALE_TEMPORARY: ("temporary file was left behind", "temporary files were left behind"),
    Kind.MANIFEST: ("manifest is gone or was changed", "manifests are gone or were changed"),
    Kind.AUDIT_EDITED: ("record of the audit trail was changed", "records of the audit trail were changed"),
    Kind.AUDIT_CUT: ("piece of the audit trail is missing", "pieces of the audit trail are missing"),
}
"""What a kind of finding says, of one and of several."""
_ALARMS = {
    AlarmReason.RUN: (
        "no run has come to its end for too long",
        "See whether the timer starts `archiver run`, and what its log says.",
    ),
    AlarmReason.COVERAGE: (
        "recent calls are not all listed",
        "`archiver run` lists what is missing, and says why where it can't.",
    ),
    AlarmReason.PENDING: (
        "recordings have waited for too long",
        "See their reasons below; `archiver explain` shows each try of one of them.",
    ),
}


class Mood(StrEnum):
    """How things are: fine, worth a look, or such that somebody has to act."""

    FINE = "fine"
    LOOK = "look"
    ACT = "act"


@dataclass(frozen=True, slots=True)
class Point:
    """Something that is not as it should be: what, what it means, and what to do."""

    mood: Mood
    what: str
    meaning: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence, what stands behind it, the points from the worst on, and what is worth knowing besides."""

    mood: Mood
    sentence: str
    since: str
    points: Sequence[Point]
    notes: Sequence[str]


def meaning_of(kind: Kind) -> str:
    """What a kind of finding says, for several of them."""
    return _MEANINGS[kind][1]


def verdict(facts: PageFacts, incomplete_days: int) -> Verdict:
    """The verdict; `incomplete_days` counts those of all accounts that were listed and not whole."""
    points = sorted(_points(facts, incomplete_days), key=lambda point: point.mood is not Mood.ACT)
    mood = points[0].mood if points else Mood.FINE
    return Verdict(mood, _sentence(facts, mood, points), _since(facts), points, list(_notes(facts)))


def total(facts: PageFacts, *statuses: Status) -> int:
    """How many recordings of all accounts are in one of these statuses."""
    return sum(account.recordings.get(status, 0) for account in facts.accounts for status in statuses)


def _sentence(facts: PageFacts, mood: Mood, points: Sequence[Point]) -> str:
    if not facts.ledger_is_there:
        return "Nothing has been archived yet, or the archive's memory is gone."
    if mood is Mood.FINE:
        pending = total(facts, Status.PENDING)
        rest = f"{counted(pending, 'recording')} still {'waits' if pending == 1 else 'wait'} for the next try"
        of_them = "every recording that the PBX has" if total(facts, Status.MISSING) else "every recording"
        done = rest if pending else f"{of_them} is archived"
        return f"Everything is fine: every call up to {_covered(facts)} is listed, and {done}."
    first = points[0].what
    others = len(points) - 1
    more = f" There {'is' if others == 1 else 'are'} {counted(others, 'more point')} below." if others else ""
    opening = "Somebody has to act" if mood is Mood.ACT else "The archive works, and something wants a look"
    return f"{opening}: {first}.{more}"


def _since(facts: PageFacts) -> str:
    if not facts.ledger_is_there:
        return ""
    if facts.good_since is not None:
        return f"Every run since {at(facts.good_since, facts.zone)} has left nothing undone."
    if facts.last_good_at is not None:
        return f"The last run that left nothing undone ended on {at(facts.last_good_at, facts.zone)}."
    return "No run has left nothing undone yet."


def _covered(facts: PageFacts) -> str:
    through = [account.covered_through for account in facts.accounts if account.expected and account.covered_through]
    return at(min(through), facts.zone) if through else "now"


def _points(facts: PageFacts, incomplete_days: int) -> Iterator[Point]:
    if not facts.ledger_is_there:
        yield Point(
            Mood.ACT,
            "there is no ledger",
            "What was archived, and what is missing, can't be told.",
            "In a new archive start `archiver run`. If there was one, `archiver rebuild` brings the ledger back.",
        )
        return
    yield from _from_verifications(facts)
    yield from _from_runs(facts)
    yield from _from_recordings(facts, incomplete_days)


def _from_verifications(facts: PageFacts) -> Iterator[Point]:
    if not facts.fixity_known:
        yield Point(
            Mood.ACT,
            "the audit trail can't be read",
            "What verifications have found can't be told.",
            "See what `archiver audit check` says.",
        )
        return
    for kind, found in facts.findings_total.items():
        mood = Mood.LOOK if kind in _HARMLESS else Mood.ACT
        remedy = "See which they are below; the archiver never deletes them." if mood is Mood.LOOK else _REPAIR
        if kind in {Kind.AUDIT_CUT, Kind.AUDIT_EDITED}:
            remedy = "See where with `archiver audit check`, and find out who could write there."
        yield Point(
            mood, counted(found, *_MEANINGS[kind]), "A verification found it, and nothing has mended it since.", remedy
        )
    full = [
        when
        for (level, extent), when in facts.verified_at.items()
        if level is Level.FULL and extent is not Extent.PERIOD
    ]
    if total(facts, Status.ARCHIVED) and (not full or facts.made_at - max(full) > _VERIFIED_WITHIN):
        since = f"since {at(max(full), facts.zone)}" if full else "yet"
        yield Point(
            Mood.LOOK,
            f"no verification has read the recordings {since}",
            "Damage that nobody looks for is found when it is too late to repair it.",
            "Run `archiver verify`, or a share each night with `archiver verify --sample 5`.",
        )


def _from_runs(facts: PageFacts) -> Iterator[Point]:
    for reason, (what, remedy) in _ALARMS.items():
        alarms = [alarm for alarm in facts.alarms if alarm.reason is reason]
        if not alarms:
            continue
        of = alarms[0].account_id
        whose = "" if of is None else f" (account {of})" if len(alarms) == 1 else f" ({len(alarms):,} accounts)"
        mood = Mood.LOOK if reason is AlarmReason.PENDING else Mood.ACT
        # What to do stands in the alarm as well, in words for a terminal.
        meaning = alarms[0].detail.partition(". ")[0].rstrip(".")
        first = "" if len(alarms) == 1 else f"Account {of}: "
        yield Point(mood, f"{what}{whose}", f"{first}{meaning[:1].upper()}{meaning[1:]}.", remedy)
    last = facts.runs[0] if facts.runs else None
    if last is not None and last.outcome == "failed":
        yield Point(
            Mood.LOOK, "the last run failed", last.error, "Most often the next one mends it; `archiver doctor` looks."
        )


def _from_recordings(facts: PageFacts, incomplete_days: int) -> Iterator[Point]:
    quarantined = total(facts, Status.QUARANTINED)
    if quarantined:
        yield Point(
            Mood.LOOK,
            f"{counted(quarantined, 'recording')} in quarantine",
            "What the PBX served contradicts what it says of the recording, so it does not count as archived.",
            "See why with `archiver explain` and the id below; each run tries again.",
        )
    if incomplete_days:
        yield Point(
            Mood.LOOK,
            f"{counted(incomplete_days, 'day')} listed incompletely",
            "Calls of these days may be missing from the archive without anybody knowing.",
            "The next run lists them again; if they stay, the reason stands under Coverage.",
        )


def _notes(facts: PageFacts) -> Iterator[str]:
    pending, missing, expired = (total(facts, status) for status in (Status.PENDING, Status.MISSING, Status.EXPIRED))
    if pending:
        yield f"{counted(pending, 'recording')} waiting to be archived; each run tries those that are due."
    if missing:
        yield f"{counted(missing, 'recording')} missing at the PBX itself: listed, but it has no media of them."
    if expired:
        yield f"{counted(expired, 'recording')} removed by retention; a tombstone of each is kept."
    flags: dict[str, int] = {}
    for each in facts.flags:
        flags[each.flag] = flags.get(each.flag, 0) + each.recordings
    for flag, found in sorted(flags.items()):
        yield f"{counted(found, 'recording')} archived and flagged: {words(flag)}."
    unexpected = [account for account in facts.accounts if not account.expected]
    if unexpected:
        yield f"{counted(len(unexpected), 'account')} not in the settings any more; nothing new is archived for them."


def incomplete_total(found: Sequence[Sequence[DayState]]) -> int:
    """How many days of all accounts were listed and not whole."""
    return sum(1 for account in found for state in account if state is DayState.INCOMPLETE)
