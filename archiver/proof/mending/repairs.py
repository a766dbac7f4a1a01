"""What can be done about findings: a pure decision, from findings and entries to repairs.

Nothing that lies in the store is ever overwritten, so what is damaged stays and a new version comes beside it. That
holds for a damaged sidecar too: sidecar and media share their name but for its ending, so that a whole pair is made anew
from the stored media, rather than a third kind of name invented that rebuild, export and people would have to know.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from archiver.keys import TOMBSTONE_ENDING, sidecar_key
from archiver.ledger.values import ArchivedEntry
from archiver.proof.verification.findings import Finding, Kind


class Action(StrEnum):
    """What is to be done."""

    FETCH_AGAIN = "fetch_again"
    """The media are gone: fetch them and put them where they were, unless the source has others by now."""
    FETCH_BESIDE = "fetch_beside"
    """The media are damaged: fetch them and put them beside, as the next version."""
    COPY_BESIDE = "copy_beside"
    """The media are whole, the sidecar is not: put the media and a new sidecar beside, as the next version."""
    WRITE_SIDECAR = "write_sidecar"
    """The media are whole, the sidecar is gone: write it anew where it was."""
    CORRECT_LEDGER = "correct_ledger"
    """Media and sidecar agree: put the ledger right."""
    LEAVE = "leave"
    """Nothing can be done here; why is said."""


@dataclass(frozen=True, slots=True)
class Repair:
    """One thing to do, and the places of the findings that it answers; `entry` is None where no entry is meant.

    `why` is the reason to leave it, or what else is to be said. `without_sidecar` says that the sidecar is gone, too.
    `stray_key` is where the bytes of a renamed recording lie now.
    """

    action: Action
    findings: tuple[int, ...]
    entry: ArchivedEntry | None = None
    why: str = ""
    without_sidecar: bool = False
    stray_key: str = ""


_GONE = frozenset({Kind.MISSING_OBJECT, Kind.RENAMED})
_DAMAGED = frozenset({Kind.SIZE, Kind.DIGEST, Kind.SWAPPED, Kind.UNREADABLE})
_FORMER = "an earlier version, and the source serves the later one only; it was left as it is"
_UNDECIDED = "the ledger and the sidecar were both changed, and nobody can tell who is right"
_WITNESS = "evidence is never written anew; docs/evidence.md says what it still proves"
_OF_CDRS = "CDRs that are gone or damaged are archived again by `archiver reconcile` of their day"
_OF_TOMBSTONE = "a tombstone is never written anew; the audit trail tells of what it stood for"
_LEFT = {
    Kind.FOREIGN_OBJECT: "no entry names it; it was not touched",
    Kind.STALE_TEMPORARY: "not touched; the next run clears it",
    Kind.MANIFEST: _WITNESS,
    Kind.AUDIT_EDITED: _WITNESS,
    Kind.AUDIT_CUT: _WITNESS,
}


def repairs_of(findings: Sequence[Finding], entries: Mapping[str, ArchivedEntry]) -> list[Repair]:
    """What to do, one repair for each recording's object; `entries` by their media's key. Each finding is in just one."""
    of_media = {key: key for key in entries} | {sidecar_key(key): key for key in entries}
    grouped: dict[str, list[int]] = {}
    repairs: list[Repair] = []
    for place, finding in enumerate(findings):
        key = None if finding.kind in _LEFT else of_media.get(finding.key)
        if key is None:
            otherwise = _OF_TOMBSTONE if finding.key.endswith(TOMBSTONE_ENDING) else _OF_CDRS
            why = _LEFT.get(finding.kind, otherwise)
            repairs.append(Repair(Action.LEAVE, (place,), why=why))
        else:
            grouped.setdefault(key, []).append(place)
    repairs += [_repair(entries[key], tuple(places), findings) for key, places in grouped.items()]
    return repairs


def _repair(entry: ArchivedEntry, places: tuple[int, ...], findings: Sequence[Finding]) -> Repair:
    media = {findings[place].kind for place in places if findings[place].key == entry.key}
    beside = {findings[place].kind for place in places if findings[place].key != entry.key}
    action = _action(entry, media, beside)
    strays = [findings[place].found for place in places if findings[place].kind is Kind.RENAMED]
    return Repair(
        action,
        places,
        entry,
        why="" if action is not Action.LEAVE else _UNDECIDED if entry.is_current else _FORMER,
        without_sidecar=Kind.MISSING_SIDECAR in beside,
        stray_key=strays[0] if strays else "",
    )


def _action(entry: ArchivedEntry, media: AbstractSet[Kind], beside: AbstractSet[Kind]) -> Action:
    """What to do about what was found of a recording's media and of its sidecar: the first rule that holds."""
    rules = (
        (media == {Kind.LEDGER} and _fits_the_ledger(entry, beside), Action.CORRECT_LEDGER),
        (not media and beside == {Kind.MISSING_SIDECAR}, Action.WRITE_SIDECAR),
        (not entry.is_current, Action.LEAVE),
        (bool(media & _GONE) and beside <= {Kind.MISSING_SIDECAR}, Action.FETCH_AGAIN),
        (bool(media & (_GONE | _DAMAGED)), Action.FETCH_BESIDE),
        (not media and bool(beside), Action.COPY_BESIDE),
    )
    return next((action for holds, action in rules if holds), Action.LEAVE)


def _fits_the_ledger(entry: ArchivedEntry, beside: AbstractSet[Kind]) -> bool:
    """Whether what is found of the sidecar says no more than that the ledger is wrong."""
    return not beside or (beside == {Kind.SIDECAR} and entry.sidecar_sha256 is None)
