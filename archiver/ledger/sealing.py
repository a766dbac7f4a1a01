"""Which archived objects no manifest names yet, and how far the audit trail has come."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal_column, select, update

from archiver.ledger.backend import insert_or
from archiver.ledger.columns import from_seconds_or_none, original, plain
from archiver.ledger.tables import accounts, cdr_files, entries, former_versions, marks, tombstones
from archiver.ledger.values_sealing import Sealable, Sealed, TrailMark, TrailMarkName, Unsealed
from archiver.recording import Status

_CALLED_AT = func.coalesce(entries.c.start_at, entries.c.saved_at)
# Not a bound value, so that the planner sees that the partial index `entries_unsealed` applies.
_ARCHIVED = entries.c.status == literal_column(f"'{Status.ARCHIVED.value}'")

_SEAL = {
    Sealable.ENTRY: update(entries)
    .where(entries.c.entry_id == bindparam("of_entry"), entries.c.key == bindparam("of_key"))
    .values(manifest_part=bindparam("in_part")),
    Sealable.FORMER: update(former_versions)
    .where(
        former_versions.c.entry_id == bindparam("of_entry"),
        former_versions.c.version == bindparam("of_version"),
        former_versions.c.key == bindparam("of_key"),
    )
    .values(manifest_part=bindparam("in_part")),
    Sealable.TOMBSTONE: update(tombstones)
    .where(tombstones.c.entry_id == bindparam("of_entry"), tombstones.c.key == bindparam("of_key"))
    .values(manifest_part=bindparam("in_part")),
    Sealable.CDRS: update(cdr_files)
    .where(cdr_files.c.key == bindparam("of_key"))
    .values(manifest_part=bindparam("in_part")),
}


def read_unsealed(connection: Connection, limit: int) -> Sequence[Unsealed]:
    """See the ledger's promise; costs no more than what it finds, but for the few former versions and files of CDRs."""
    return list(islice(_unsealed(connection, limit), limit))


def seal(connection: Connection, sealed: Sequence[Sealed]) -> None:
    """See the ledger's promise; an object that has moved meanwhile stays without a manifest until the next time."""
    for where, statement in _SEAL.items():
        rows = [
            {
                "of_entry": each.unsealed.entry_id,
                "of_version": each.unsealed.version,
                "of_key": plain(each.unsealed.key),
                "in_part": each.part,
            }
            for each in sealed
            if each.unsealed.where is where
        ]
        names = set(statement.compile().params)
        if rows:
            connection.execute(statement, [{name: row[name] for name in row if name in names} for row in rows])


def read_mark(connection: Connection, name: TrailMarkName) -> TrailMark | None:
    """See the ledger's promise."""
    value = connection.execute(select(marks.c.value).where(marks.c.name == name.value)).scalar()
    seq, _, sha256 = (value or "").partition(" ")
    # Whatever somebody wrote there: a mark that fits no record is found out by whoever holds the trail against it.
    return None if value is None else TrailMark(int(seq) if seq.isascii() and seq.isdigit() else 2**62, sha256)


def raise_mark(connection: Connection, name: TrailMarkName, mark: TrailMark) -> None:
    """See the ledger's promise."""
    known = read_mark(connection, name)
    if known is None or known.seq < mark.seq:
        added = insert_or(connection, marks).values(name=name.value, value=f"{mark.seq} {mark.sha256}")
        changed = added.on_conflict_do_update(index_elements=["name"], set_={"value": added.excluded.value})
        connection.execute(changed)


def _unsealed(connection: Connection, limit: int) -> Iterator[Unsealed]:
    whose = (accounts.c.account_id, entries.c.recording_id, _CALLED_AT)
    of_account = accounts.c.account_no == entries.c.account_no
    now = (
        select(entries.c.entry_id, entries.c.version, *_object(entries), *whose)
        .where(entries.c.manifest_part.is_(None), entries.c.archived_ms.is_not(None), _ARCHIVED, of_account)
        .order_by(entries.c.entry_id)
        .limit(limit)
    )
    for row in connection.execute(now):
        yield _of_row(Sealable.ENTRY, row)
    former = former_versions
    before = (
        select(former.c.entry_id, former.c.version, *_object(former), *whose)
        .where(former.c.manifest_part.is_(None), former.c.damaged_ms.is_(None))
        .where(former.c.entry_id == entries.c.entry_id, entries.c.status != Status.EXPIRED.value, of_account)
        .order_by(former.c.entry_id, former.c.version)
        .limit(limit)
    )
    for row in connection.execute(before):
        yield _of_row(Sealable.FORMER, row)
    beside = tombstones
    dead = (
        select(beside.c.entry_id, literal_column("0"), beside.c.key, beside.c.sha256, literal_column("NULL"), *whose)
        .where(beside.c.manifest_part.is_(None), beside.c.removed_ms.is_not(None))
        .where(beside.c.entry_id == entries.c.entry_id, of_account)
        .order_by(beside.c.entry_id)
        .limit(limit)
    )
    for row in connection.execute(dead):
        yield _of_row(Sealable.TOMBSTONE, row)
    files = (
        select(cdr_files.c.key, cdr_files.c.sha256, cdr_files.c.day, accounts.c.account_id)
        .where(cdr_files.c.manifest_part.is_(None), cdr_files.c.expired_ms.is_(None))
        .where(accounts.c.account_no == cdr_files.c.account_no)
        .order_by(cdr_files.c.key)
        .limit(limit)
    )
    for key, sha256, day, account_id in connection.execute(files):
        yield Unsealed(Sealable.CDRS, 0, 0, original(account_id), "", None, original(key), sha256, day=day)


def _object(table: Any) -> tuple[Any, ...]:
    return table.c.key, table.c.sha256, table.c.sidecar_sha256


def _of_row(where: Sealable, row: Sequence[Any]) -> Unsealed:
    entry_id, version, key, sha256, sidecar_sha256, account_id, recording_id, called_at = row
    return Unsealed(
        where,
        entry_id,
        version,
        original(account_id),
        original(recording_id),
        from_seconds_or_none(called_at),
        original(key),
        sha256,
        sidecar_sha256,
    )
