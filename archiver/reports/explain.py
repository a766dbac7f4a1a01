"""The history of one recording, as `explain` shows it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from archiver.ledger.values import History, Version
from archiver.ledger.values_retention import Tombstone
from archiver.proof.retention.decide import Decision
from archiver.reports.explained_proof import ExplainedRecord, ExplainedVerification, Proof
from archiver.reports.run_report import stamp


class ExplainedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """An archived object; `in_store` says what the store shows of it now, `damaged_at` when it was found so.

    `manifest` is the part of its day's manifest that names it.
    """

    version: int
    key: str
    size_bytes: int
    sha256: str
    sidecar_sha256: str | None
    archived_at: str
    run_id: str
    in_store: str
    manifest: str | None
    damaged_at: str | None = None


class ExplainedTry(msgspec.Struct, frozen=True, kw_only=True):
    """A failed try."""

    number: int
    at: str
    run_id: str
    reason: str
    detail: str


class ExplainedRetention(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules and holds make of it now; `until` is null where no rule says when."""

    verdict: str
    reason: str
    rule: str
    until: str | None
    holds: list[str]
    locked_until: str | None


class ExplainedTombstone(msgspec.Struct, frozen=True, kw_only=True):
    """What stands for a recording that is gone; `removed_at` is null while something of it may still lie there."""

    key: str
    kind: str
    rule: str
    reference: str
    expired_at: str
    removed_at: str | None
    run_id: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recording in one account."""

    account_id: str
    recording_id: str
    status: str
    first_listed_at: str
    call_started_at: str | None
    saved_at: str | None
    duration_ms: int | None
    expected_bytes: int | None
    expected_md5: str | None
    versions: list[ExplainedVersion]
    attempts: int
    failed_attempts: list[ExplainedTry]
    reason: str
    detail: str
    flags: list[str]
    next_attempt_at: str | None
    quarantined_sha256: str | None
    last_run_id: str
    verifications: list[ExplainedVerification]
    verifications_total: int
    audit: list[ExplainedRecord]
    retention: ExplainedRetention | None
    tombstone: ExplainedTombstone | None


class ExplainReport(msgspec.Struct, frozen=True, kw_only=True):
    """A recording's history, once for each account that has one of this id.

    `not_recorded` says why the audit trail could not take that somebody looked, if so.
    """

    recording_id: str
    found: list[Explained]
    not_recorded: str | None = None


def explained(known: History, in_store: Sequence[str], proof: Proof, decision: Decision | None) -> Explained:
    """What the ledger knows, what the store shows of each version just now, what the audit trail and the rules say."""
    return Explained(
        account_id=known.account_id,
        recording_id=known.recording_id,
        status=known.status.value,
        first_listed_at=stamp(known.listed_at),
        call_started_at=_stamp(known.start_at),
        saved_at=_stamp(known.saved_at),
        duration_ms=known.duration_ms,
        expected_bytes=known.length_bytes,
        expected_md5=_hex(known.digest_md5),
        versions=[
            _version(version, shown, manifest)
            for version, shown, manifest in zip(known.versions, in_store, proof.manifests, strict=True)
        ],
        attempts=known.tries_count,
        failed_attempts=[
            ExplainedTry(
                number=tried.attempt.number,
                at=stamp(tried.attempt.at),
                run_id=tried.run_id,
                reason=tried.attempt.reason,
                detail=tried.attempt.detail,
            )
            for tried in known.tries
        ],
        reason=known.reason,
        detail=known.detail,
        flags=list(known.flags),
        next_attempt_at=_stamp(known.next_attempt_at),
        quarantined_sha256=_hex(known.quarantined_sha256),
        last_run_id=known.last_run_id,
        verifications=proof.verifications,
        verifications_total=proof.verifications_total,
        audit=proof.records,
        retention=None if decision is None else _retention(decision),
        tombstone=None if known.tombstone is None else _tombstone(known.tombstone),
    )


def _retention(decision: Decision) -> ExplainedRetention:
    return ExplainedRetention(
        verdict=decision.verdict.value,
        reason=decision.reason.value,
        rule=decision.rule,
        until=_stamp(decision.until_at),
        holds=list(decision.holds),
        locked_until=_stamp(decision.lock_until_at),
    )


def _tombstone(known: Tombstone) -> ExplainedTombstone:
    return ExplainedTombstone(
        key=known.key,
        kind=known.kind.value,
        rule=known.rule,
        reference=known.reference,
        expired_at=stamp(known.expired_at),
        removed_at=_stamp(known.removed_at),
        run_id=known.run_id,
    )


def _version(version: Version, shown: str, manifest: str | None) -> ExplainedVersion:
    return ExplainedVersion(
        version=version.version,
        key=version.key,
        size_bytes=version.fixity.size_bytes,
        sha256=version.fixity.sha256.hex(),
        sidecar_sha256=_hex(version.sidecar_sha256),
        archived_at=stamp(version.archived_at),
        run_id=version.run_id,
        in_store=shown,
        damaged_at=_stamp(version.damaged_at),
        manifest=manifest,
    )


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()
