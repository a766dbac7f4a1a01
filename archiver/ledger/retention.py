"""What retention reads and changes: what recordings still have, expiries, tombstones."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from archiver.keys import sidecar_key
from archiver.ledger.backend import portions
from archiver.ledger.columns import from_milliseconds, from_seconds_or_none, milliseconds, original, plain, seconds
from archiver.ledger.decide import Facts
from archiver.ledger.entries import account_number, find_metadata
from archiver.ledger.fencing import check_right
from archiver.ledger.holding import newest_active
from archiver.ledger.tables import (
    accounts,
    attempts,
    cdr_files,
    entries,
    former_versions,
    listed_metadata,
    runs,
    tombstones,
)
from archiver.ledger.tally import TallyChange, weight
from archiver.ledger.values_retention import (
    Expiring,
    Expiry,
    KeptObject,
    RetentionRow,
    StoredTombstone,
    Tombstone,
    TombstoneKind,
    Unfinished,
)
from archiver.recording import Fixity, Status

_SUBJECT_STATUSES = (Status.ARCHIVED.value, Status.MISSING.value, Status.QUARANTINED.value)
_CALLED_AT = func.coalesce(entries.c.start_at, entries.c.saved_at)
_COLUMNS = (
    entries.c.entry_id,
    accounts.c.account_id,
    entries.c.recording_id,
    entries.c.status,
    _CALLED_AT.label("called_at"),
    entries.c.archived_ms,
    entries.c.extension,
    entries.c.key,
    entries.c.size_bytes,
    entries.c.sha256,
    entries.c.sidecar_sha256,
)
_OF_ACCOUNT = accounts.c.account_no == entries.c.account_no
# What is about the call, and is taken out when a recording is erased.
_NOTHING = ("size_bytes", "sha256", "sidecar_sha256", "archived_ms", "archived_run_no", "manifest_part")
_ABOUT_THE_CALL = dict.fromkeys(
    (*(name for name in Facts._fields if name not in {"extension", "doubt"}), *_NOTHING)
) | {
    "doubt": "",
    "detail": "",
}


def rows_of(account_ids: Sequence[str]) -> Select[Any]:
    """The entries that retention decides about, in the order of their keys."""
    chosen = select(*_COLUMNS).where(_OF_ACCOUNT, entries.c.status.in_(_SUBJECT_STATUSES))
    if account_ids:
        chosen = chosen.where(accounts.c.account_id.in_([plain(account_id) for account_id in account_ids]))
    return chosen.order_by(entries.c.key, entries.c.entry_id)


def completed(connection: Connection, rows: Sequence[Any]) -> Sequence[RetentionRow]:
    """Rows with their former versions, and the metadata where the ledger has them."""
    former: defaultdict[int, list[KeptObject]] = defaultdict(list)
    columns = former_versions.c
    for portion in portions([row.entry_id for row in rows]):
        chosen = select(columns.entry_id, columns.key, columns.size_bytes, columns.sha256, columns.sidecar_sha256)
        for entry_id, key, size_bytes, sha256, beside in connection.execute(
            chosen.where(columns.entry_id.in_(portion)).order_by(columns.entry_id, columns.version)
        ):
            former[entry_id].append(KeptObject(original(key), Fixity(size_bytes, sha256), beside is not None))
    bare = [row.entry_id for row in rows if row.status != Status.ARCHIVED.value]
    metadata = find_metadata(connection, bare) if bare else {}
    return [_row(row, former.get(row.entry_id, []), metadata.get(row.entry_id, b"")) for row in rows]


def read_row(connection: Connection, account_id: str, recording_id: str) -> RetentionRow | None:
    """See the ledger's promise."""
    chosen = select(*_COLUMNS).where(
        _OF_ACCOUNT,
        accounts.c.account_id == plain(account_id),
        entries.c.recording_id == plain(recording_id),
        entries.c.status != Status.EXPIRED.value,
    )
    rows = connection.execute(chosen).all()
    return completed(connection, rows)[0] if rows else None


def expire(
    connection: Connection, run_no: int, expiries: Sequence[Expiry], *, holds_through: int
) -> Sequence[Expiring]:
    """See the ledger's promise; runs within the caller's transaction."""
    for portion in portions([expiry.entry_id for expiry in expiries]):
        theirs = select(entries.c.account_no).where(entries.c.entry_id.in_(portion))
        check_right(connection, None, run_no, accounts.c.account_no.in_(theirs))
    if newest_active(connection) > holds_through:
        return [Expiring.HELD] * len(expiries)
    tally = TallyChange()
    became = [_expire(connection, run_no, expiry, tally) for expiry in expiries]
    tally.write(connection)
    return became


def read_unfinished(connection: Connection, limit: int, after: int) -> Sequence[Unfinished]:
    """See the ledger's promise."""
    chosen = (
        select(
            tombstones.c.entry_id,
            accounts.c.account_id,
            entries.c.recording_id,
            tombstones.c.key,
            tombstones.c.body,
            tombstones.c.kind,
            _CALLED_AT,
        )
        .where(tombstones.c.removed_ms.is_(None), tombstones.c.entry_id == entries.c.entry_id, _OF_ACCOUNT)
        .where(tombstones.c.entry_id > after)
        .order_by(tombstones.c.entry_id)
        .limit(limit)
    )
    return [
        Unfinished(
            entry_id,
            original(account_id),
            original(recording_id),
            original(key),
            body or b"",
            TombstoneKind(kind),
            from_seconds_or_none(called_at),
        )
        for entry_id, account_id, recording_id, key, body, kind, called_at in connection.execute(chosen)
    ]


def note_removed(connection: Connection, entry_ids: Sequence[int], *, at_ms: int) -> None:
    """See the ledger's promise."""
    for portion in portions(entry_ids):
        which = tombstones.c.entry_id.in_(portion), tombstones.c.removed_ms.is_(None)
        connection.execute(update(tombstones).where(*which).values(removed_ms=at_ms, body=None))


def expire_cdr_files(connection: Connection, keys: Sequence[str], *, at_ms: int, holds_through: int) -> bool:
    """See the ledger's promise."""
    if newest_active(connection) > holds_through:
        return False
    for portion in portions([plain(key) for key in keys]):
        connection.execute(update(cdr_files).where(cdr_files.c.key.in_(portion)).values(expired_ms=at_ms))
    return True


def forget_cdr_files(connection: Connection, keys: Sequence[str]) -> None:
    """See the ledger's promise."""
    for portion in portions([plain(key) for key in keys]):
        which = cdr_files.c.key.in_(portion), cdr_files.c.expired_ms.is_not(None)
        connection.execute(delete(cdr_files).where(*which))


def tombstone_rows() -> Select[Any]:
    """Tombstones that must lie in the store, as `TombstoneRow` has them, in the order of their keys."""
    chosen = select(
        tombstones.c.entry_id,
        tombstones.c.key,
        tombstones.c.size_bytes,
        tombstones.c.sha256,
        tombstones.c.expired_ms,
        accounts.c.account_id,
        entries.c.recording_id,
        _CALLED_AT,
    ).where(tombstones.c.removed_ms.is_not(None), tombstones.c.entry_id == entries.c.entry_id, _OF_ACCOUNT)
    return chosen.order_by(tombstones.c.key)


def unfinished_keys(connection: Connection) -> frozenset[str]:
    """See the ledger's promise; they are few, since an expiry is finished before the next ones begin."""
    chosen = select(tombstones.c.key, tombstones.c.body).where(tombstones.c.removed_ms.is_(None))
    dying = select(cdr_files.c.key).where(cdr_files.c.expired_ms.is_not(None))
    found = {original(key) for (key,) in connection.execute(dying)}
    for key, body in connection.execute(chosen):
        found.add(original(key))
        for media in _keys_in(body):
            found |= {media, sidecar_key(media)}
    return frozenset(found)


def read_tombstone(connection: Connection, entry_id: int) -> Tombstone | None:
    """What stands for one entry."""
    chosen = select(tombstones, runs.c.run_id).outerjoin(runs, runs.c.run_no == tombstones.c.run_no)
    row = connection.execute(chosen.where(tombstones.c.entry_id == entry_id)).mappings().one_or_none()
    if row is None:
        return None
    return Tombstone(
        key=original(row["key"]),
        kind=TombstoneKind(row["kind"]),
        rule=original(row["rule"]),
        reference=original(row["reference"]),
        expired_at=from_milliseconds(row["expired_ms"]),
        removed_at=None if row["removed_ms"] is None else from_milliseconds(row["removed_ms"]),
        run_id=original(row["run_id"] or ""),
    )


def enter_tombstones(connection: Connection, stored: Sequence[StoredTombstone]) -> int:
    """See the ledger's promise; runs within the caller's transaction."""
    tally = TallyChange()
    count = sum(_enter(connection, each, tally) for each in stored)
    tally.write(connection)
    return count


def _keys_in(body: bytes | None) -> Sequence[str]:
    """The media that a tombstone names."""
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        return [str(key) for key in json.loads(body or b"{}")["keys"]]
    return []


def _row(row: Row[Any], former: list[KeptObject], metadata: bytes) -> RetentionRow:
    objects = list(former)
    if row.key:
        objects.append(
            KeptObject(original(row.key), Fixity(row.size_bytes, row.sha256), row.sidecar_sha256 is not None)
        )
    return RetentionRow(
        entry_id=row.entry_id,
        account_id=original(row.account_id),
        recording_id=original(row.recording_id),
        status=Status(row.status),
        called_at=from_seconds_or_none(row.called_at),
        archived_at=None if row.archived_ms is None else from_milliseconds(row.archived_ms),
        extension=original(row.extension),
        objects=tuple(objects),
        metadata=metadata,
    )


def _expire(connection: Connection, run_no: int, expiry: Expiry, tally: TallyChange) -> Expiring:
    of_entry = entries.c.entry_id == expiry.entry_id
    before = connection.execute(
        select(
            entries.c.account_no, entries.c.status, entries.c.key, entries.c.size_bytes, entries.c.length_bytes
        ).where(of_entry)
    ).one_or_none()
    former = select(func.count()).select_from(former_versions).where(former_versions.c.entry_id == expiry.entry_id)
    erased = expiry.kind is TombstoneKind.ERASED
    statuses = (*_SUBJECT_STATUSES, Status.PENDING.value) if erased else _SUBJECT_STATUSES
    if before is None or before.status not in statuses:
        return Expiring.CHANGED
    if int(connection.execute(former).scalar() or 0) + bool(before.key) != expiry.versions:
        return Expiring.CHANGED
    tally.remove(before.account_no, before.status, weight(before.size_bytes, before.length_bytes))
    changes: dict[str, Any] = {"next_attempt_at": None, "reason": "", "quarantined_sha256": None}
    if erased:
        # Nor when it was listed or archived, from which the call's date could be told.
        changes |= _ABOUT_THE_CALL | {"listed_at": seconds(expiry.expired_at), "run_no": run_no}
        connection.execute(delete(former_versions).where(former_versions.c.entry_id == expiry.entry_id))
        connection.execute(delete(attempts).where(attempts.c.entry_id == expiry.entry_id))
    connection.execute(update(entries).where(of_entry).values(status=Status.EXPIRED.value, **changes))
    connection.execute(delete(listed_metadata).where(listed_metadata.c.entry_id == expiry.entry_id))
    after = 0 if erased else weight(before.size_bytes, before.length_bytes)
    tally.add(before.account_no, Status.EXPIRED.value, after)
    connection.execute(
        insert(tombstones).values(
            entry_id=expiry.entry_id,
            key=plain(expiry.key),
            size_bytes=expiry.fixity.size_bytes,
            sha256=expiry.fixity.sha256,
            kind=expiry.kind.value,
            rule=plain(expiry.rule),
            reference=plain(expiry.reference),
            expired_ms=milliseconds(expiry.expired_at),
            run_no=run_no,
            body=expiry.body,
        )
    )
    return Expiring.EXPIRED


def _enter(connection: Connection, stored: StoredTombstone, tally: TallyChange) -> bool:
    account_no = account_number(connection, plain(stored.account_id))
    which = entries.c.account_no == account_no, entries.c.recording_id == plain(stored.recording_id)
    known = connection.execute(
        select(entries.c.entry_id, entries.c.status, entries.c.size_bytes, entries.c.length_bytes).where(*which)
    ).one_or_none()
    expired_ms = milliseconds(stored.expired_at)
    run_no = _run_no(connection, stored)
    if known is None:
        erased = stored.kind is TombstoneKind.ERASED
        size_bytes = None if erased else stored.size_bytes
        added = connection.execute(
            insert(entries).values(
                account_no=account_no,
                recording_id=plain(stored.recording_id),
                status=Status.EXPIRED.value,
                run_no=run_no,
                listed_at=seconds(stored.expired_at),
                start_at=None if stored.called_at is None else seconds(stored.called_at),
                size_bytes=size_bytes,
                flags="rebuilt",
            )
        )
        key = added.inserted_primary_key
        entry_id = int(key[0]) if key is not None else 0
        tally.add(account_no, Status.EXPIRED.value, size_bytes or 0)
    else:
        entry_id = known.entry_id
        if known.status != Status.EXPIRED.value:
            size_bytes = weight(known.size_bytes, known.length_bytes)
            tally.remove(account_no, known.status, size_bytes)
            tally.add(account_no, Status.EXPIRED.value, size_bytes)
            changed = update(entries).where(entries.c.entry_id == entry_id)
            connection.execute(changed.values(status=Status.EXPIRED.value, next_attempt_at=None, reason="", detail=""))
            connection.execute(delete(listed_metadata).where(listed_metadata.c.entry_id == entry_id))
        if connection.execute(select(tombstones.c.key).where(tombstones.c.entry_id == entry_id)).first() is not None:
            return False
    connection.execute(
        insert(tombstones).values(
            entry_id=entry_id,
            key=plain(stored.key),
            size_bytes=stored.fixity.size_bytes,
            sha256=stored.fixity.sha256,
            kind=stored.kind.value,
            rule=plain(stored.rule),
            reference=plain(stored.reference),
            expired_ms=expired_ms,
            run_no=run_no,
            removed_ms=expired_ms if stored.is_alone else None,
            body=None if stored.is_alone else stored.body,
        )
    )
    return True


def _run_no(connection: Connection, stored: StoredTombstone) -> int:
    """The number of the run that expired it; one that the ledger doesn't know is noted, with no end."""
    run_id = plain(stored.run_id)
    found = connection.execute(select(runs.c.run_no).where(runs.c.run_id == run_id)).scalar()
    if found is not None:
        return int(found)
    added = connection.execute(
        insert(runs).values(run_id=run_id, started_ms=milliseconds(stored.expired_at), report=b"")
    )
    key = added.inserted_primary_key
    return int(key[0]) if key is not None else 0
