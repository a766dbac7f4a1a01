"""What verifications have found and no repair has mended since, read from the audit trail, which outlives every command."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from archiver.proof.evidence.audit import Details, Record, What
from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import SHARES, Level, Scope

_LEVELS = {level.value: level for level in Level}
_KINDS = {kind.value: kind for kind in Kind}
_DEPTHS = (Level.PRESENCE, Level.SIZE, Level.FULL)
"""Each looks at everything that those before it look at."""
_IN_EVERY_SAMPLE = frozenset({Kind.AUDIT_EDITED, Kind.AUDIT_CUT, Kind.STALE_TEMPORARY})


class Extent(StrEnum):
    """How much of the archive a verification took."""

    ALL = "all"
    SAMPLE = "sample"
    PERIOD = "period"


@dataclass(frozen=True, slots=True)
class Fixity:
    """When each kind of verification was last carried through, and how much stands open, by the level that found it."""

    verified_at: Mapping[tuple[Level, Extent], datetime]
    findings: Mapping[Level, Mapping[Kind, int]]


@dataclass(slots=True)
class FixityHistory:
    """Takes the trail's records in their order.

    A verification takes back what an earlier one found in what it looked at, at its own depth and above; a repair takes
    back what it mended. Which recordings belong to a period, the trail does not say: one of a period takes nothing back.
    """

    _verified_at: dict[tuple[Level, Extent], datetime] = field(default_factory=dict)
    _open: dict[Level, set[tuple[Kind, str]]] = field(default_factory=dict)
    _level: Level | None = None

    def see(self, record: Record) -> None:
        """The next record; what this version does not know is passed over."""
        match record.what:
            case What.VERIFIED:
                self._verified(record)
            case What.FINDING:
                kind = _KINDS.get(record.result)
                if self._level is not None and kind is not None:
                    self._open[self._level].add((kind, record.subject))
            case What.REPAIRED if record.result == "repaired":
                # It looked closer than whoever found it, and may have another word for it.
                for level, found in self._open.items():
                    self._open[level] = {each for each in found if each[1] != record.subject}

    def fixity(self) -> Fixity:
        """What the records seen so far come to."""
        counts = {level: Counter(kind for kind, _ in found) for level, found in self._open.items()}
        return Fixity(dict(self._verified_at), counts)

    def open_findings(self) -> Sequence[tuple[Level, Kind, str]]:
        """What stands open, by the deepest level that found it, each kind and key once, in their order."""
        deepest: dict[tuple[Kind, str], Level] = {}
        for level in _DEPTHS:
            deepest.update(dict.fromkeys(self._open.get(level, ()), level))
        return [(level, *found) for found, level in sorted(deepest.items())]

    def _verified(self, record: Record) -> None:
        details = record.details
        self._level = level = _LEVELS.get(details.level or "")
        if level is None:
            return
        self._open.setdefault(level, set())
        if not details.complete:
            return
        share_from, share = details.share_from or 0, SHARES if details.share is None else details.share
        extent = extent_of(details)
        self._verified_at[level, extent] = datetime.fromisoformat(record.at).astimezone(UTC)
        scope = Scope(level, share_from=share_from, share=share)
        for depth in _DEPTHS[: _DEPTHS.index(level) + 1]:
            if depth in self._open:
                self._open[depth] = {each for each in self._open[depth] if not _looked_at(each, extent, scope)}


def extent_of(details: Details) -> Extent:
    """How much a verification took, from the details of its record."""
    if details.since:
        return Extent.PERIOD
    return Extent.ALL if details.share is None or details.share >= SHARES else Extent.SAMPLE


def _looked_at(found: tuple[Kind, str], extent: Extent, scope: Scope) -> bool:
    """Whether a verification looked at what had been found before."""
    kind, subject = found
    match extent:
        case Extent.ALL:
            return True
        case Extent.SAMPLE:
            return kind in _IN_EVERY_SAMPLE or scope.sampled(subject)
        case Extent.PERIOD:
            return False
