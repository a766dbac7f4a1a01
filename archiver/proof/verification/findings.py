"""What a verification can find, and how it gets there from the bare facts: a pure decision."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from archiver.ledger.values import ArchivedEntry
from archiver.proof.verification.inventory import Expected, Part
from archiver.recording import Fixity
from archiver.stores.base import ObjectHead


class Kind(StrEnum):
    """What is wrong."""

    MISSING_OBJECT = "missing_object"
    MISSING_SIDECAR = "missing_sidecar"
    FOREIGN_OBJECT = "foreign_object"
    RENAMED = "renamed"
    SIZE = "size"
    DIGEST = "digest"
    SWAPPED = "swapped"
    SIDECAR = "sidecar"
    LEDGER = "ledger"
    UNREADABLE = "unreadable"
    STALE_TEMPORARY = "stale_temporary"
    MANIFEST = "manifest"
    AUDIT_EDITED = "audit_edited"
    AUDIT_CUT = "audit_cut"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One discrepancy: what kind, at which key, what was expected and what was found; ids are empty where none is known.

    `repaired` and `repair` tell what `--repair` made of it.
    """

    kind: Kind
    key: str
    account_id: str
    recording_id: str
    expected: str
    found: str
    repaired: bool = False
    repair: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """An object that is not what the ledger says; `found` is a text where it could not be read or understood.

    `ledger_alone`: the object and its unchanged sidecar agree with one another.
    """

    expected: Expected
    found: Fixity | str
    ledger_alone: bool = False


@dataclass(frozen=True, slots=True)
class Stray:
    """An object that the ledger does not know; its fixity where it was read."""

    head: ObjectHead
    fixity: Fixity | None = None


@dataclass(slots=True)
class Facts:
    """What was seen, before anybody says what it means."""

    missing: list[Expected] = field(default_factory=list)
    different: list[Difference] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)


def findings_of(facts: Facts) -> list[Finding]:
    """One finding for each fact, but for a recording under another name, which is missing and a stray at once."""
    renamed = dict(_renamed(facts))
    elsewhere = set(renamed.values())
    by_found = {each.found: each for each in facts.different if isinstance(each.found, Fixity)}
    found = [_missing(item) for item in facts.missing if item.key not in elsewhere]
    found += [_different(difference, by_found) for difference in facts.different]
    by_key = {item.key: item for item in facts.missing}
    for stray in facts.strays:
        key = stray.head.key
        if key in renamed:
            entry = by_key[renamed[key]].entry
            found.append(_finding(Kind.RENAMED, renamed[key], entry, renamed[key], key))
        else:
            found.append(_finding(Kind.FOREIGN_OBJECT, key, None, "nothing", f"{stray.head.size_bytes} bytes"))
    found += [
        _finding(Kind.STALE_TEMPORARY, name, None, "nothing", "a temporary file of no run") for name in facts.stale
    ]
    return sorted(found, key=lambda finding: (finding.key, finding.kind))


def _renamed(facts: Facts) -> Iterator[tuple[str, str]]:
    """Strays that hold the bytes of what is missing: the key they lie under, and the one they belong under."""
    gone = {item.fixity: item.key for item in facts.missing if item.part is not Part.SIDECAR}
    for stray in facts.strays:
        if stray.fixity is not None and stray.fixity in gone:
            yield stray.head.key, gone.pop(stray.fixity)


def _missing(item: Expected) -> Finding:
    if item.part is not Part.SIDECAR:
        return _finding(Kind.MISSING_OBJECT, item.key, item.entry, _words(item.entry.fixity), "nothing")
    return _finding(Kind.MISSING_SIDECAR, item.key, item.entry, "a sidecar", "nothing")


def _different(difference: Difference, by_found: Mapping[Fixity, Difference]) -> Finding:
    item, found, entry = difference.expected, difference.found, difference.expected.entry
    if isinstance(found, str):
        return _finding(Kind.UNREADABLE, item.key, entry, _words(entry.fixity), found)
    if item.part is Part.SIDECAR:
        return _finding(Kind.SIDECAR, item.key, entry, "the sidecar as it was written", _words(found))
    if difference.ledger_alone:
        return _finding(Kind.LEDGER, item.key, entry, _words(entry.fixity), f"{_words(found)}, as the sidecar says")
    other = by_found.get(entry.fixity)
    if other is not None and other.expected.entry.fixity == found:
        return _finding(Kind.SWAPPED, item.key, entry, _words(entry.fixity), f"the bytes of {other.expected.key}")
    kind = Kind.DIGEST if found.size_bytes == entry.fixity.size_bytes else Kind.SIZE
    return _finding(kind, item.key, entry, _words(entry.fixity), _words(found))


def _words(fixity: Fixity) -> str:
    return f"{fixity.size_bytes} bytes" + (f", SHA-256 {fixity.sha256.hex()}" if fixity.sha256 else "")


def _finding(kind: Kind, key: str, entry: ArchivedEntry | None, expected: str, found: str) -> Finding:
    return Finding(
        kind=kind,
        key=key,
        account_id=entry.account_id if entry else "",
        recording_id=entry.recording_id if entry else "",
        expected=expected,
        found=found,
    )
