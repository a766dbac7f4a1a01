"""What the audit trail and the manifests say of one recording, for `explain`."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo

import msgspec

from archiver.ledger.values import History
from archiver.proof.evidence.audit import Record, What, stamp
from archiver.proof.evidence.manifests import day_of, manifest_key
from archiver.proof.verification.verify import SHARES, Level, Scope

_MOST_VERIFICATIONS = 20


class ExplainedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record of the audit trail about one of the recording's objects: a finding, a repair, a hold."""

    seq: int
    at: str
    what: str
    key: str
    result: str
    expected: str | None
    found: str | None


class ExplainedVerification(msgspec.Struct, frozen=True, kw_only=True):
    """A complete verification that looked at the recording."""

    seq: int
    at: str
    level: str
    result: str


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Of each version the part of its day's manifest that names it, None while none does; what the trail says.

    `verifications` are the last twenty that looked at the recording, of `verifications_total`; `damage` in them may be
    elsewhere in the archive, what was found here stands in `records`.
    """

    manifests: list[str | None]
    verifications: list[ExplainedVerification]
    verifications_total: int
    records: list[ExplainedRecord]


def proof_of(known: History, records: Iterable[Record], timezone: tzinfo) -> Proof:
    """From a recording's history, and the trail's records about its keys and about verifications."""
    called_at = known.start_at or known.saved_at
    day = day_of(known.recording_id, called_at, timezone)
    manifests = [
        manifest_key(known.account_id, day, version.manifest_part) if version.manifest_part else None
        for version in known.versions
    ]
    about = list(records)
    looked = list(_looked(known, called_at, about))
    return Proof(
        manifests=manifests,
        verifications=looked[-_MOST_VERIFICATIONS:],
        verifications_total=len(looked),
        records=[
            ExplainedRecord(
                seq=record.seq,
                at=record.at,
                what=record.what,
                key=record.subject,
                result=record.result,
                expected=record.details.expected,
                found=record.details.found,
            )
            for record in about
            if record.what != What.VERIFIED
        ],
    )


def _looked(known: History, called_at: datetime | None, records: Sequence[Record]) -> Iterator[ExplainedVerification]:
    if not known.versions:
        return
    first = known.versions[0]
    dated_at = stamp(called_at or first.archived_at)
    for record in records:
        details = record.details
        if record.what != What.VERIFIED or not details.complete or record.at < stamp(first.archived_at):
            continue
        share = SHARES if details.share is None else details.share
        scope = Scope(Level.FULL, share_from=details.share_from or 0, share=share)
        if not any(scope.sampled(version.key) for version in known.versions):
            continue
        # Times of the trail are in order as texts.
        if (details.since or "") <= dated_at and (details.until is None or dated_at < details.until):
            level = details.level or ""
            yield ExplainedVerification(seq=record.seq, at=record.at, level=level, result=record.result)
