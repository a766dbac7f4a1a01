"""The history of one recording, as `explain` shows it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from archiver.ledger.values import History, Version
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


class ExplainReport(msgspec.Struct, frozen=True, kw_only=True):
    """A recording's history, once for each account that has one of this id."""

    recording_id: str
    found: list[Explained]


def explained(known: History, in_store: Sequence[str], proof: Proof) -> Explained:
    """What the ledger knows, what the store shows of each version just now, and what the audit trail says."""
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
