"""Copies of the audit trail's lines in a store, as immutable objects with the lock that recordings have.

Where they lie out of reach of whoever can change the local file, they say what it held.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from archiver.errors import ObjectNotFound
from archiver.keys import AUDIT_PREFIX
from archiver.ledger.values_sealing import TrailMark
from archiver.proof.evidence.audit import BEGINNING, TRAIL_KEY, TrailFile, digest_of, record_of
from archiver.proof.evidence.audit_check import Examination, finding
from archiver.proof.evidence.in_memory import InMemory
from archiver.proof.verification.findings import Finding, Kind
from archiver.stores.base import NewObject, Store

_NAME = re.compile(re.escape(AUDIT_PREFIX) + r"(\d{12})-(\d{1,12})\.jsonl\Z")
_MOST_LINES = 50_000
"""Lines of one object."""


def copied_through(store: Store) -> int:
    """The last record that the store has a copy of, by the names of its objects; for a ledger that does not know.

    Raises:
        StoreUnavailable, StoreDenied.
    """
    return max((copy.through for copy in copies_in(store)), default=0)


def copy_lines(file: TrailFile, store: Store, *, after: int) -> TrailMark | None:
    """Put the lines that follow record `after` into the store; the last one that is there now, None if there were none.

    Raises:
        StoreError: the next command puts them.
    """
    last: TrailMark | None = None
    with file.reading() as opened:
        # Read to the end before anything is sent: nobody waits for the network.
        batches = list(_batches(opened.lines(), after)) if opened is not None else []
    for first, through, lines in batches:
        data = b"".join(lines)
        store.put([NewObject(f"{AUDIT_PREFIX}{first:012}-{through}.jsonl", InMemory(data), "application/x-ndjson")])
        last = TrailMark(through, digest_of(lines[-1]))
    return last


def restore_lines(file: TrailFile, store: Store) -> int:
    """Bring back the end of a trail that was lost with its disk; how many lines it was.

    Only for a ledger that knows of no record: otherwise what is missing was taken away, which must be seen. Killed, the
    file holds a part, and the same again brings the rest.

    Raises:
        StoreError.
    """
    restored = 0
    with file.writing() as opened:
        line, torn = opened.end()
        last = record_of(line) if line else None
        seq, previous = (last.seq, digest_of(line)) if last is not None else (0, BEGINNING)
        for copy in copies_in(store):
            if copy.through <= seq:
                continue
            fitting: list[bytes] = []
            for each in b"".join(store.open(copy.key)).splitlines(keepends=True):
                record = record_of(each)
                if record is not None and record.seq == seq + 1 and record.previous == previous:
                    fitting.append(each)
                    seq, previous = record.seq, digest_of(each)
            if fitting and torn:
                opened.cut(len(torn))
                torn = b""
            if fitting:
                opened.add(b"".join(fitting))
                restored += len(fitting)
    return restored


def _batches(lines: Iterator[bytes], after: int) -> Iterator[tuple[int, int, list[bytes]]]:
    seq, first, batch = 0, after + 1, list[bytes]()
    for line in lines:
        if not line.endswith(b"\n"):
            break
        record = record_of(line)
        seq = max(seq + 1, record.seq if record is not None else 0)
        if seq <= after:
            continue
        first = first if batch else seq
        batch.append(line)
        if len(batch) == _MOST_LINES:
            yield first, seq, batch
            batch = []
    if batch:
        yield first, seq, batch


@dataclass(frozen=True, slots=True)
class Copy:
    """An object with the records `first` to `through`."""

    key: str
    first: int
    through: int


def copies_in(store: Store) -> list[Copy]:
    """The objects that hold copies, in their order.

    Raises:
        StoreUnavailable, StoreDenied.
    """
    found = [_NAME.match(head.key) for head in store.list(AUDIT_PREFIX)]
    return [Copy(match[0], int(match[1]), int(match[2])) for match in found if match is not None]


def compare_copies(store: Store, copies: Sequence[Copy], local: Examination, put_mark: TrailMark | None) -> int:
    """Hold copies against the trail, which was walked through after they were listed; how many records have one.

    Raises:
        StoreUnavailable, StoreDenied.
    """
    seen = 0
    for copy in copies:
        if copy.first > seen + 1:
            local.findings.append(_gone(seen + 1, copy.first - 1))
        local.findings += _compared(store, copy.key, local)
        seen = max(seen, copy.through)
    if put_mark is not None and put_mark.seq > seen:
        local.findings.append(_gone(seen + 1, put_mark.seq))
    return seen


def _gone(first: int, last: int) -> Finding:
    return finding(Kind.AUDIT_CUT, AUDIT_PREFIX, f"an object with the records {first} to {last}", "none")


def _compared(store: Store, key: str, local: Examination) -> Iterator[Finding]:
    """At most one finding of each kind for an object."""
    try:
        lines = b"".join(store.open(key)).splitlines(keepends=True)
    except ObjectNotFound:
        return
    kinds: set[Kind] = set()
    for line in lines:
        record = record_of(line)
        ours = local.digests.get(record.seq) if record is not None else None
        if record is not None and ours is not None and ours.hex() == digest_of(line):
            continue
        if record is None or ours is not None:
            kind, expected, found = Kind.AUDIT_EDITED, f"what {key} holds", "another line"
        else:
            kind, expected, found = Kind.AUDIT_CUT, f"record {record.seq}, as {key} holds it", "no such record"
        if kind not in kinds:
            kinds.add(kind)
            where = "" if record is None else f" for record {record.seq}"
            yield finding(kind, TRAIL_KEY, expected, found + where)
