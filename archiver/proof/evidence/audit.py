"""The audit trail: who did what, when, in which run and with what result, one JSON object a line, each bound to the last.

Each record holds the SHA-256 of the line before it, newline included, so that nothing can be changed, taken out or put in
without all that follows saying so; the ledger's mark does that for the end. Records hold ids, keys, counts and stable
words only: no metadata, no text of an error, nothing that could be a name, a phone number or a secret.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from archiver.ledger.values_sealing import TrailMark

BEGINNING = "0" * 64
"""What the first record has for the line before it."""
TRAIL_KEY = ".archiver/audit.jsonl"
_LONGEST_TEXT = 1200
_NUMBER = re.compile(r"(?<![A-Za-z0-9])\d{7,15}(?![A-Za-z0-9])")


class What(StrEnum):
    """What was done; stable words."""

    RUN_BEGAN = "run_began"
    RUN_ENDED = "run_ended"
    VERIFIED = "verified"
    FINDING = "finding"
    REPAIRED = "repaired"
    REBUILT = "rebuilt"
    ADOPTED = "adopted"
    RECONCILED = "reconciled"
    MANIFEST = "manifest"
    RECOVERED = "recovered"
    EXPIRED = "expired"
    ERASED = "erased"
    EXTENDED = "extended"
    HOLD_ADDED = "hold_added"
    HOLD_RELEASED = "hold_released"
    EXPORTED = "exported"
    LOOKED_UP = "looked_up"
    REPORTED = "reported"


class Details(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The small facts of a record; each kind of record has a few of them. Texts are stable words, digests, or sizes.

    `since` and `until` bound a period; `share_from` and `share` (of 10,000) are the sample of a verification; `lines` and
    `size_bytes` are a manifest's; `dropped_bytes` is the torn end that a dead process left. `case`, `reference` and `by`
    stand here as somebody gave them on the command line. `rule` and `kept_until` are of retention; `ids`, `ids_count` and
    `patterns` (the SHA-256 of each) of a hold, whose file has them in full.
    """

    since: str | None = None
    until: str | None = None
    accounts: tuple[str, ...] = ()
    listed: int | None = None
    archived: int | None = None
    already_archived: int | None = None
    pending: int | None = None
    missing: int | None = None
    quarantined: int | None = None
    bytes: int | None = None
    level: str | None = None
    share_from: int | None = None
    share: int | None = None
    complete: bool | None = None
    objects: int | None = None
    findings: int | None = None
    kind: str | None = None
    expected: str | None = None
    found: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    lines: int | None = None
    dropped_bytes: int | None = None
    reason: str | None = None
    case: str | None = None
    reference: str | None = None
    by: str | None = None
    rule: str | None = None
    kept_until: str | None = None
    ids: tuple[str, ...] = ()
    ids_count: int | None = None
    patterns: tuple[str, ...] = ()


_NONE = Details()


@dataclass(frozen=True, slots=True)
class Draft:
    """A record to be: `subject` is the key or id it is about, `result` one stable word."""

    what: What
    subject: str = ""
    result: str = ""
    details: Details = _NONE
    run_id: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the trail; `who` is the operating system's user at its host, `at` UTC."""

    seq: int
    at: str
    who: str
    run_id: str = ""
    what: str
    subject: str = ""
    result: str = ""
    details: Details = _NONE
    previous: str


class OpenTrail(Protocol):
    """The trail's file while its lock is held (see `stores.trail_file`)."""

    def lines(self) -> Iterator[bytes]:
        """Its lines with their newlines; only the last may lack one."""
        ...

    def end(self) -> tuple[bytes, bytes]:
        """The last line with its newline, and the torn bytes behind it."""
        ...

    def cut(self, size_bytes: int) -> None:
        """Drop bytes from the end."""
        ...

    def add(self, data: bytes) -> None:
        """Add to the end, durably."""
        ...


class TrailFile(Protocol):
    """The trail's file (see `stores.trail_file`)."""

    def reading(self) -> AbstractContextManager[OpenTrail | None]:
        """The file as it is between two additions; None when there is none."""
        ...

    def writing(self) -> AbstractContextManager[OpenTrail]:
        """The file to add to, which nobody else reads or changes meanwhile."""
        ...


def record_of(line: bytes) -> Record | None:
    """The record in a line; None when it is none."""
    try:
        return msgspec.json.decode(line, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def digest_of(line: bytes) -> str:
    """What the next record says of a line, and a mark too: its SHA-256, as `sha256sum` would print it."""
    return hashlib.sha256(line).hexdigest()


def add_records(
    file: TrailFile, drafts: Sequence[Draft], *, who: str, at: datetime, mark: TrailMark | None
) -> TrailMark:
    """Add records at the end and say where it is now; blocking. `mark` is the last record that is known to be there.

    A torn end that a dead process left is cut off first, and a record says so; that it was torn and not taken away is
    certain only while every record up to the mark is there. Where one is not, the torn bytes stay as a line of their own,
    and what follows is bound to the mark's record, so that a check finds the place for ever after.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable: none of them counts; a torn end may be left.
    """
    with file.writing() as opened:
        line, torn = opened.end()
        last = record_of(line) if line else None
        seq = last.seq if last is not None else 0
        previous = digest_of(line) if line else BEGINNING
        healed: list[Draft] = []
        if torn and _reaches(seq, previous, mark):
            opened.cut(len(torn))
            healed = [Draft(What.RECOVERED, TRAIL_KEY, "torn_end_cut", Details(dropped_bytes=len(torn)))]
        elif torn:
            opened.add(b"\n")
        if mark is not None and mark.seq >= seq:
            # The same, unless somebody changed or cut the end: then what follows it never fits.
            seq, previous = mark.seq, mark.sha256
        added: list[bytes] = []
        for draft in (*healed, *drafts):
            seq += 1
            added.append(_line(draft, seq=seq, at=at, who=who, previous=previous))
            previous = digest_of(added[-1])
        opened.add(b"".join(added))
        return TrailMark(seq, previous)


def _reaches(seq: int, digest: str, mark: TrailMark | None) -> bool:
    """Whether the last whole line is the mark's record or a later one."""
    return mark is None or seq > mark.seq or (seq, digest) == (mark.seq, mark.sha256)


def _line(draft: Draft, *, seq: int, at: datetime, who: str, previous: str) -> bytes:
    record = Record(
        seq=seq,
        at=stamp(at),
        who=plain(who),
        run_id=plain(draft.run_id),
        what=draft.what.value,
        subject=plain(draft.subject),
        result=draft.result,
        details=draft.details,
        previous=previous,
    )
    return msgspec.json.encode(record) + b"\n"


def stamp(at: datetime) -> str:
    """A time as the trail writes it: UTC, whole seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(text: str) -> str:
    """A text of a bounded length in printable ASCII."""
    return text.encode("unicode_escape").decode("ascii")[:_LONGEST_TEXT]


def nameless(key: str) -> str:
    """The name of something that is not ours, without what could be a phone number."""
    return _NUMBER.sub("[number]", key)
