"""The tombstone: one JSON object in the place of a recording that is gone, for all its versions."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import msgspec

from archiver.errors import InvalidKey
from archiver.keys import check_key, safe_id, tombstone_key
from archiver.ledger.values_retention import (
    Expiry,
    KeptObject,
    RetentionRow,
    StoredTombstone,
    TombstoneKind,
)
from archiver.recording import Fixity

SCHEMA = 1
CONTENT_TYPE = "application/json"


class TombstoneFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tombstone says. One for an erasure holds nothing about the call: no day, no sizes, no digests.

    `keys` are the media that were removed, `sizes` and `sha256` theirs in the same order; `size_bytes` is their sum.
    """

    schema: int
    kind: TombstoneKind
    account_id: str
    recording_id: str
    keys: tuple[str, ...]
    expired_at: datetime
    run_id: str
    rule: str = ""
    kept_until: datetime | None = None
    reference: str = ""
    dated_on: str = ""
    size_bytes: int = 0
    sizes: tuple[int, ...] = ()
    sha256: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a recording goes, as its tombstone and the ledger tell."""

    kind: TombstoneKind
    rule: str
    until_at: datetime | None
    reference: str
    at: datetime
    run_id: str
    timezone: tzinfo


def expiry_of(row: RetentionRow, key: str, ending: Ending) -> Expiry:
    """The tombstone of a recording, under the key that it gets."""
    about = ending.kind is TombstoneKind.EXPIRED
    dated_at = row.called_at or row.archived_at
    said = TombstoneFile(
        schema=SCHEMA,
        kind=ending.kind,
        account_id=row.account_id,
        recording_id=row.recording_id,
        keys=tuple(each.key for each in row.objects),
        expired_at=_whole(ending.at),
        run_id=ending.run_id,
        rule=ending.rule if about else "",
        # From which the call's own date could be told.
        kept_until=_whole(ending.until_at) if about and ending.until_at is not None else None,
        reference=ending.reference,
        dated_on=f"{dated_at.astimezone(ending.timezone):%Y-%m-%d}" if about and dated_at is not None else "",
        size_bytes=row.size_bytes if about else 0,
        sizes=tuple(each.fixity.size_bytes for each in row.objects) if about else (),
        sha256=tuple(each.fixity.sha256.hex() for each in row.objects) if about else (),
    )
    body = json.dumps(msgspec.to_builtins(said)).encode("ascii") + b"\n"
    fixity = Fixity(len(body), hashlib.sha256(body).digest())
    return Expiry(
        row.entry_id, key, body, fixity, ending.kind, ending.rule, ending.reference, ending.at, len(row.objects)
    )


def key_of(objects: Sequence[KeptObject], otherwise: str) -> str:
    """Where the tombstone of these objects belongs: beside the newest; `otherwise` is the name of one never archived."""
    return tombstone_key(objects[-1].key if objects else otherwise)


def said_by(body: bytes) -> TombstoneFile | None:
    """What a tombstone says; None when it is none of ours."""
    try:
        # Not msgspec's own decoder: an id may hold what UTF-8 can't.
        return msgspec.convert(json.loads(body), TombstoneFile)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def stored_tombstone(key: str, body: bytes, *, is_alone: bool) -> StoredTombstone | str:
    """A tombstone as it was found, or in what it contradicts its place or itself."""
    said = said_by(body)
    if said is None:
        return "it can't be understood as a tombstone"
    if said.schema != SCHEMA:
        return f"schema {said.schema} is of a newer program"
    if not all(_belongs(name, said) for name in (key, *said.keys)):
        return "its account, recording or objects don't belong under this name"
    if said.expired_at.tzinfo is None or not 0 <= said.size_bytes < 1 << 63:
        return "its time or size make no sense"
    try:
        called_at = datetime.fromisoformat(said.dated_on).replace(hour=12, tzinfo=UTC) if said.dated_on else None
    except ValueError:
        return "its day makes no sense"
    fixity = Fixity(len(body), hashlib.sha256(body).digest())
    return StoredTombstone(
        account_id=said.account_id,
        recording_id=said.recording_id,
        key=key,
        body=body,
        fixity=fixity,
        kind=said.kind,
        rule=said.rule,
        reference=said.reference,
        expired_at=said.expired_at,
        called_at=called_at,
        size_bytes=said.size_bytes,
        run_id=said.run_id,
        is_alone=is_alone,
    )


def _belongs(key: str, said: TombstoneFile) -> bool:
    """Whether a key is one of this recording's: whatever a tombstone names will be removed."""
    try:
        check_key(key)
    except InvalidKey:
        return False
    folder, _, name = key.rpartition("/")
    return name.partition(".")[0] == safe_id(said.recording_id) and safe_id(said.account_id) in folder.split("/")


def _whole(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)
