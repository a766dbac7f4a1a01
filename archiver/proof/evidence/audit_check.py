"""Whether the audit trail is whole: each record bound to the one before it, and the last one to the ledger's mark."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from archiver.ledger.values_sealing import TrailMark
from archiver.proof.evidence.audit import BEGINNING, TRAIL_KEY, Record, digest_of, plain, record_of
from archiver.proof.verification.findings import Finding, Kind

_LONGEST_LINE = 1 << 20
"""Bytes; longer lines are none of ours."""


class TrailReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of the trail has found.

    `head` is the SHA-256 of the last line: noted elsewhere, it proves later that nothing was changed up to here.
    `beyond_mark` records came after the ledger's mark (a process died in between); `torn_bytes` is an addition that never
    was finished, which the next command clears. `copies` are the records that lie in the store as well.
    """

    records: int
    since: str
    until: str
    head: str
    beyond_mark: int
    torn_bytes: int
    copies: int
    whole: bool
    findings: list[Finding]


@dataclass(slots=True)
class Examination:
    """A walk over the trail's lines; `digests` are theirs by number, for the copies in the store."""

    mark: TrailMark | None
    findings: list[Finding] = field(default_factory=list)
    digests: dict[int, bytes] = field(default_factory=dict)
    records: int = 0
    since: str = ""
    until: str = ""
    torn_bytes: int = 0
    seq: int = 0
    previous: str = BEGINNING
    _blamed: bool = False

    def walk(self, lines: Iterator[bytes]) -> Iterator[Record]:
        """Look at each line; the records that could be read come out."""
        for place, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                self.torn_bytes = len(line)
                break
            record = self._look(place, line)
            if record is not None:
                self.since = self.since or record.at
                self.until = record.at
                yield record
        self._at_end()

    def _look(self, place: int, line: bytes) -> Record | None:
        """Hold a line against the one before it. A line that was changed is told by the next one, the last by the mark."""
        self.records += 1
        record = record_of(line) if len(line) <= _LONGEST_LINE else None
        seq = self.seq + 1 if record is None else record.seq
        blamed = record is None
        if record is None:
            self._edited(place, "a record of the trail", "a line that is none")
        elif seq > self.seq + 1:
            self._cut(f"record {self.seq + 1}", f"record {seq} in line {place}")
        elif seq <= self.seq:
            self._edited(place, f"record {self.seq + 1}", f"record {seq}")
            blamed = True
        elif record.previous != self.previous and not self._blamed:
            self._edited(
                place - 1, f"SHA-256 {plain(record.previous)}, as line {place} says", f"SHA-256 {self.previous}"
            )
        mark = self.mark
        digest = digest_of(line)
        if mark is not None and mark.seq == seq and mark.sha256 != digest and not blamed:
            self._edited(place, f"SHA-256 {plain(mark.sha256)}, as the ledger says", f"SHA-256 {digest}")
        self.seq, self.previous, self._blamed = max(seq, self.seq), digest, blamed
        self.digests[seq] = bytes.fromhex(digest)
        return record

    def _at_end(self) -> None:
        if self.mark is not None and self.mark.seq > self.seq:
            self._cut(
                f"record {self.mark.seq}, which the ledger names as one of the last", f"record {self.seq} at its end"
            )

    def _edited(self, place: int, expected: str, found: str) -> None:
        self.findings.append(finding(Kind.AUDIT_EDITED, TRAIL_KEY, expected, f"line {place}: {found}"))

    def _cut(self, expected: str, found: str) -> None:
        self.findings.append(finding(Kind.AUDIT_CUT, TRAIL_KEY, expected, found))

    def report(self, copies: int = 0) -> TrailReport:
        """What was found."""
        beyond = max(0, self.seq - self.mark.seq) if self.mark is not None else 0
        return TrailReport(
            records=self.records,
            since=self.since,
            until=self.until,
            head=self.previous if self.records else "",
            beyond_mark=beyond,
            torn_bytes=self.torn_bytes,
            copies=copies,
            whole=not self.findings,
            findings=self.findings,
        )


def finding(kind: Kind, key: str, expected: str, found: str) -> Finding:
    """A finding about evidence, which belongs to no recording."""
    return Finding(kind=kind, key=key, account_id="", recording_id="", expected=expected, found=found)
