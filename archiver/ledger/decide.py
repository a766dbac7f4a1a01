"""What a listed row means for the entry we have: pure decisions, the same for `record_page` and `classify_page`."""

from collections.abc import Collection
from enum import Enum, auto
from typing import NamedTuple

from archiver.ledger.columns import fitting, plain, seconds_or_none
from archiver.recording import Recording, Status


class Facts(NamedTuple):
    """What the PBX says of a recording, as the columns of the same names hold it."""

    start_at: int | None
    saved_at: int | None
    duration_ms: int | None
    length_bytes: int | None
    digest_md5: bytes | None
    extension: str
    doubt: str


class Known(NamedTuple):
    """An entry as far as decisions and tasks need it."""

    entry_id: int
    recording_id: str
    status: Status
    run_no: int
    claim_no: int | None
    version: int
    size_bytes: int | None
    attempts: int
    retries_used: int
    next_attempt_at: int | None
    quarantined_sha256: bytes | None
    facts: Facts


class Verdict(Enum):
    """What to do about a listed row."""

    CLAIMED = auto()
    """This run has seen it already: nothing."""
    NEW = auto()
    """Unknown until now."""
    SETTLED = auto()
    """Needs no work: claim it only."""
    WORK = auto()
    """Pending or quarantined: work on it."""
    REVIVED = auto()
    """Missing, but the source changed its metadata: the ladder begins anew."""
    AGAIN = auto()
    """Missing, and the caller wants it tried once more."""
    CHANGED = auto()
    """Archived, but the source now has other media: a new version."""


def facts_of(recording: Recording) -> Facts:
    """The facts in the shape of columns; a length that isn't positive says nothing."""
    length_bytes = fitting(recording.length_bytes)
    return Facts(
        seconds_or_none(recording.start_at),
        seconds_or_none(recording.saved_at),
        fitting(recording.duration_ms),
        length_bytes if length_bytes is not None and length_bytes > 0 else None,
        recording.digest_md5,
        plain(recording.extension),
        plain(recording.doubt),
    )


def decide(
    known: Known | None,
    listed: Facts,
    *,
    bare: bool,
    run_no: int | None,
    retry_missing: bool = False,
    lost: Collection[int] = (),
) -> Verdict:
    """What `listed` means; `bare` says that only a CDR named the recording, which then changes nothing we know.

    What `lost` attempts of this run have claimed is not claimed any more.
    """
    if known is None:
        return Verdict.NEW
    if known.run_no == run_no and known.claim_no not in lost:
        return Verdict.CLAIMED
    verdict = Verdict.SETTLED
    match known.status:
        case Status.PENDING | Status.QUARANTINED:
            verdict = Verdict.WORK
        case Status.ARCHIVED if not bare and other_media(known, listed):
            verdict = Verdict.CHANGED
        case Status.MISSING if not bare and known.facts != listed:
            verdict = Verdict.REVIVED
        case Status.MISSING if retry_missing:
            verdict = Verdict.AGAIN
    return verdict


def other_media(known: Known, listed: Facts) -> bool:
    """Whether the source lists other media than we archived: another positive length, or another digest."""
    if listed.length_bytes is not None and listed.length_bytes != known.size_bytes:
        return True
    before, now = known.facts.digest_md5, listed.digest_md5
    return before is not None and now is not None and before != now
