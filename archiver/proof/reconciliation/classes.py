"""What reconciling says of a recording: exactly one class, and exactly one word about its call record. Pure decisions.

The class is where the recording stands. The call record says who knows of it: the CDRs, the listing, both or neither. The
two are independent, so that each recording is counted once by either.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from archiver.recording import Cdr, Status


class Class(StrEnum):
    """Where a recording stands; `orphan` is an object, and no recording that anybody knows."""

    ARCHIVED = "archived"
    """By the ledger, and the store shows the object."""
    GONE = "gone"
    """Archived by the ledger, but the store shows no object."""
    PENDING = "pending"
    MISSING = "missing"
    QUARANTINED = "quarantined"
    EXPIRED = "expired"
    UNANSWERED = "unanswered"
    """Only CDRs name it, the PBX has no media, and none of these calls was answered."""
    TOO_SHORT = "too_short"
    """Likewise, and the call was shorter than `listing.min_recording_s`."""
    ORPHAN = "orphan"
    """An object in the store that no entry of the ledger names."""


class CallRecord(StrEnum):
    """Who knows of a recording."""

    IN_BOTH = "in_both"
    NO_CDR = "no_cdr"
    """Listed, but named by no CDR."""
    NEVER_LISTED = "never_listed"
    """Named by a CDR, but never listed."""
    IN_NEITHER = "in_neither"
    """Only the ledger or the store: listed long ago, or an orphan."""


class Cause(StrEnum):
    """A benign reason why a call has no recording."""

    UNANSWERED = "unanswered"
    TOO_SHORT = "too_short"


LEFT = frozenset({Class.GONE, Class.PENDING, Class.QUARANTINED, Class.ORPHAN})
"""What is still to be done; a missing recording only while that is news."""
_NOT_THERE = "not_there"
_NOBODY_TOOK_IT = frozenset(
    {
        "NO_ANSWER",
        "NO_USER_RESPONSE",
        "ORIGINATOR_CANCEL",
        "USER_BUSY",
        "CALL_REJECTED",
        "SUBSCRIBER_ABSENT",
        "USER_NOT_REGISTERED",
        "UNALLOCATED_NUMBER",
        "LOSE_RACE",
        "PICKED_OFF",
    }
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is known of one recording, or of one object that no entry names (then `status` is None and `orphan` true).

    `status` is None also for a recording that a CDR names and the ledger does not know. `present`: the store shows the
    object of the ledger's key. `reason` is that of the ledger, `cause` the benign one of its CDRs.
    """

    status: Status | None
    present: bool = False
    listed: bool = False
    named: bool = False
    reason: str = ""
    cause: Cause | None = None
    orphan: bool = False


def class_of(subject: Subject) -> Class:
    """The one class of a subject."""
    if subject.orphan:
        return Class.ORPHAN
    match subject.status:
        case Status.ARCHIVED:
            return Class.ARCHIVED if subject.present else Class.GONE
        case Status.QUARANTINED:
            return Class.QUARANTINED
        case Status.EXPIRED:
            return Class.EXPIRED
        case _:
            never_listed = subject.named and not subject.listed
            if never_listed and subject.cause is not None and subject.reason == _NOT_THERE:
                return Class(subject.cause.value)
            return Class.MISSING if subject.status is Status.MISSING else Class.PENDING


def call_record_of(subject: Subject) -> CallRecord:
    """The one word about a subject's call record."""
    if subject.orphan:
        return CallRecord.IN_NEITHER
    if subject.named:
        return CallRecord.IN_BOTH if subject.listed else CallRecord.NEVER_LISTED
    return CallRecord.NO_CDR if subject.listed else CallRecord.IN_NEITHER


def cause_of(cdr: Cdr, *, least_s: int) -> Cause | None:
    """Why a leg may well have no recording; None when it should have one. `least_s` is the shortest that is recorded."""
    if cdr.billed_s is not None:
        if cdr.billed_s <= 0:
            return Cause.UNANSWERED
        return Cause.TOO_SHORT if cdr.billed_s < least_s else None
    if cdr.hangup_cause in _NOBODY_TOOK_IT:
        return Cause.UNANSWERED
    return Cause.TOO_SHORT if cdr.lasted_s is not None and cdr.lasted_s < least_s else None


def together(causes: Iterable[Cause | None]) -> Cause | None:
    """The cause of several legs of one call: each must have one; one that was answered tells more than one that wasn't."""
    found = set(causes)
    if None in found or not found:
        return None
    return Cause.TOO_SHORT if Cause.TOO_SHORT in found else Cause.UNANSWERED
