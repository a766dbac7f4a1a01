"""The sidecar: one JSON object beside each recording, with the metadata exactly as the PBX sent them (contract, 5)."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from archiver.recording import Fixity, Recording

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a sidecar says of its recording's object."""

    account_id: str
    recording_id: str
    key: str
    fixity: Fixity
    run_id: str


def encode(
    recording: Recording,
    *,
    key: str,
    fixity: Fixity,
    content_type: str,
    archived_at: datetime,
    run_id: str,
    source: str,
) -> bytes:
    """The sidecar's bytes: ASCII JSON, but for the metadata, which stand in it byte for byte (null when there are none)."""
    head = {
        "schema": SCHEMA,
        "account_id": recording.account_id,
        "recording_id": recording.recording_id,
        "key": key,
        "size_bytes": fixity.size_bytes,
        "sha256": fixity.sha256.hex(),
        "content_type": content_type,
        "archived_at": archived_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "run_id": run_id,
        "source": source,
    }
    return json.dumps(head)[:-1].encode("ascii") + b', "recording": ' + (recording.metadata or b"null") + b"}\n"


def decode(data: bytes) -> Sidecar | None:
    """What a sidecar says, or None when it is no sidecar."""
    try:
        found = json.loads(data)
        return Sidecar(
            account_id=str(found["account_id"]),
            recording_id=str(found["recording_id"]),
            key=str(found["key"]),
            fixity=Fixity(int(found["size_bytes"]), bytes.fromhex(found["sha256"])),
            run_id=str(found["run_id"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
