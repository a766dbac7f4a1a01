"""Verification in full: every archived object is read back, digested, and compared with the ledger and its sidecar."""

import hashlib
from collections.abc import Sequence

import msgspec

from archiver import sidecar
from archiver.errors import ObjectNotFound
from archiver.keys import sidecar_key
from archiver.ledger.base import ArchivedEntry, Ledger
from archiver.pipeline.threads import Threads
from archiver.recording import Fixity
from archiver.stores.base import Store


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One discrepancy: what kind, at which key, what was expected and what was found."""

    kind: str
    key: str
    account_id: str
    recording_id: str
    expected: str
    found: str


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """How much was read, and everything that does not agree."""

    objects: int
    bytes: int
    findings: list[Finding]


async def verify_full(ledger: Ledger, store: Store, threads: Threads, account_ids: Sequence[str]) -> VerifyReport:
    """Verify the archived objects of these accounts.

    Raises:
        LedgerError, StoreError: when the comparison itself is not possible.
    """
    objects, size_bytes = 0, 0
    findings: list[Finding] = []
    for account_id in account_ids:
        async for entry in ledger.archived(account_id):
            objects += 1
            size_bytes += entry.fixity.size_bytes
            findings += await threads.run(_look, store, account_id, entry)
    return VerifyReport(objects=objects, bytes=size_bytes, findings=findings)


def _look(store: Store, account_id: str, entry: ArchivedEntry) -> list[Finding]:
    def finding(kind: str, key: str, expected: str, found: str) -> Finding:
        return Finding(
            kind=kind, key=key, account_id=account_id, recording_id=entry.recording_id, expected=expected, found=found
        )

    try:
        found = _fixity(store, entry.key)
    except ObjectNotFound:
        return [finding("missing_object", entry.key, f"{entry.fixity.size_bytes} bytes", "nothing")]
    findings = []
    if found.size_bytes != entry.fixity.size_bytes:
        findings.append(finding("size", entry.key, str(entry.fixity.size_bytes), str(found.size_bytes)))
    elif found.sha256 != entry.fixity.sha256:
        findings.append(finding("digest", entry.key, entry.fixity.sha256.hex(), found.sha256.hex()))
    beside = sidecar_key(entry.key)
    try:
        said = sidecar.decode(b"".join(store.open(beside)))
    except ObjectNotFound:
        return [*findings, finding("missing_sidecar", beside, "a sidecar", "nothing")]
    if said is None or said.fixity != entry.fixity or said.key != entry.key:
        findings.append(
            finding("sidecar", beside, entry.fixity.sha256.hex(), said.fixity.sha256.hex() if said else "?")
        )
    return findings


def _fixity(store: Store, key: str) -> Fixity:
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in store.open(key):
        digest.update(chunk)
        size_bytes += len(chunk)
    return Fixity(size_bytes, digest.digest())
