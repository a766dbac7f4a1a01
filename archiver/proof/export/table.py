"""`data/recordings.csv`: one row for each version of a recording, and for each recording that is not archived."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from archiver.cells import BEGINNING, line_of
from archiver.proof.export.payload import Handed, Payload
from archiver.proof.export.selection import Call
from archiver.recording import Status

TABLE = "data/recordings.csv"
COLUMNS: dict[str, str] = {
    "account_id": "the account of the telephone system that the recording belongs to",
    "recording_id": "the telephone system's own name for the recording",
    "version": "1, or higher when the telephone system later served other bytes under the same name",
    "status": "archived, or why there is no recording: pending, missing, quarantined, expired",
    "problem": "what is wrong with the archive's copy, which is left out then; else the reason of the status",
    "start_utc": "when the call began (or was saved, where that is all that is known), in UTC",
    "start_local": "the same in the archive's time zone",
    "duration_s": "seconds, as the telephone system says",
    "direction": "inbound or outbound, as the telephone system says",
    "caller_number": "who called",
    "caller_name": "who called",
    "callee_number": "who was called",
    "callee_name": "who was called",
    "from": "the caller's address",
    "to": "the address that was called",
    "owner_id": "whose recording it is in the telephone system",
    "username": "the user's sign-in name",
    "user_name": "the user's first and last name",
    "call_id": "the telephone system's name for this leg of the call",
    "interaction_id": "its name for the whole call, which all legs share",
    "cdr_id": "its name for the call record",
    "size_bytes": "of the recording",
    "sha256": "of the recording",
    "path": "the recording in this bag; empty when it is not in it",
    "metadata_path": "what the telephone system said of it, in this bag",
    "archived_at": "when it was archived, in UTC",
    "flags": "what was odd when it was archived, such as shorter_than_said",
}


def write_table(payload: Payload, handed: Sequence[Handed], timezone: tzinfo) -> None:
    """Write all rows; blocking.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable.
    """
    with payload.writing(TABLE) as file:
        file.write(BEGINNING.encode() + line_of(list(COLUMNS)))
        for each in handed:
            file.write(line_of(list(row_of(each, timezone).values())))


def row_of(handed: Handed, timezone: tzinfo) -> dict[str, str]:
    """The texts of a row, by column, before anything is made harmless."""
    known, version, call = handed.known, handed.version, handed.call or Call()
    called_at = known.called_at
    is_current = version is None or (known.status is Status.ARCHIVED and version is known.objects[-1])
    problem = ", ".join(found.kind.value for found in handed.findings) or (known.reason if version is None else "")
    return {
        "account_id": known.account_id,
        "recording_id": known.recording_id,
        "version": str(version.version) if version else "",
        "status": Status.ARCHIVED.value if version else known.status.value,
        "problem": problem,
        "start_utc": _stamp(called_at, UTC),
        "start_local": _stamp(called_at, timezone),
        "duration_s": f"{known.duration_ms / 1000:g}" if known.duration_ms is not None else "",
        "direction": call.direction,
        "caller_number": call.caller_number,
        "caller_name": call.caller_name,
        "callee_number": call.callee_number,
        "callee_name": call.callee_name,
        "from": call.from_address,
        "to": call.to_address,
        "owner_id": call.owner_id,
        "username": call.username,
        "user_name": call.user_name,
        "call_id": call.call_id,
        "interaction_id": call.interaction_id,
        "cdr_id": call.cdr_id,
        "size_bytes": str(version.fixity.size_bytes) if version else "",
        "sha256": version.fixity.sha256.hex() if version else "",
        "path": handed.path,
        "metadata_path": handed.metadata_path,
        "archived_at": _stamp(version.archived_at, UTC) if version else "",
        "flags": known.flags if is_current else "",
    }


def _stamp(at: datetime | None, timezone: tzinfo) -> str:
    return "" if at is None else at.astimezone(timezone).isoformat(timespec="seconds").replace("+00:00", "Z")
