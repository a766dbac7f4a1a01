"""Reads what an export takes from the store, each object held against the ledger while it is read."""

import hashlib
import json
from dataclasses import dataclass

from archiver import sidecar
from archiver.errors import ObjectNotFound, StoreError
from archiver.keys import sidecar_key
from archiver.ledger.values import Version
from archiver.ledger.values_exporting import KnownRecording
from archiver.proof.export.selection import Call, call_from, call_of
from archiver.proof.verification.findings import Finding, Kind
from archiver.recording import Fixity
from archiver.stores.base import Store


@dataclass(frozen=True, slots=True)
class ReadSidecar:
    """A sidecar as it was read: its bytes where they are what was written, and what is wrong, if anything is.

    `call` is what its metadata say; None when it has none, as for a recording that only a CDR named.
    """

    data: bytes = b""
    call: Call | None = None
    finding: Finding | None = None
    error: StoreError | None = None


def read_sidecar(store: Store, known: KnownRecording, version: Version) -> ReadSidecar:
    """The sidecar of an object; one that is not there is a finding only where the ledger noted one."""
    key, noted = sidecar_key(version.key), version.sidecar_sha256
    try:
        data = b"".join(store.open(key))
    except ObjectNotFound:
        missing = finding(Kind.MISSING_SIDECAR, key, known, "a sidecar", "nothing") if noted is not None else None
        return ReadSidecar(finding=missing)
    except StoreError as error:
        return ReadSidecar(finding=finding(Kind.UNREADABLE, key, known, "a sidecar", str(error)), error=error)
    said = sidecar.decode(data)
    ours = (version.key, known.account_id, known.recording_id, version.fixity)
    agrees = said is not None and (said.key, said.account_id, said.recording_id, said.fixity) == ours
    if not agrees or (noted is not None and hashlib.sha256(data).digest() != noted):
        wrong = finding(Kind.SIDECAR, key, known, "the sidecar as it was written", f"{len(data)} other bytes")
        return ReadSidecar(finding=wrong)
    return ReadSidecar(data, call_from(json.loads(data).get("recording")))


def listed_call(known: KnownRecording) -> Call | None:
    """What the ledger's own copy of the metadata says, kept until the recording is archived."""
    return call_of(known.metadata) if known.metadata else None


def finding(kind: Kind, key: str, known: KnownRecording | None, expected: str, found: str) -> Finding:
    """A finding about a recording's object."""
    account_id, recording_id = (known.account_id, known.recording_id) if known is not None else ("", "")
    return Finding(kind=kind, key=key, account_id=account_id, recording_id=recording_id, expected=expected, found=found)


def words_of(fixity: Fixity) -> str:
    """Size and digest for people."""
    return f"{fixity.size_bytes} bytes, SHA-256 {fixity.sha256.hex()}"


def difference(key: str, known: KnownRecording | None, expected: Fixity, found: Fixity) -> Finding | None:
    """What is wrong with an object that was read to its end."""
    if found == expected:
        return None
    kind = Kind.DIGEST if found.size_bytes == expected.size_bytes else Kind.SIZE
    return finding(kind, key, known, words_of(expected), words_of(found))
