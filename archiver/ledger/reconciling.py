"""What reconciling asks and tells: how recordings stand, by id or by the call's date, and the archived CDRs."""

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from archiver.ledger.backend import portions
from archiver.ledger.columns import from_milliseconds, from_seconds_or_none, milliseconds, original, plain
from archiver.ledger.entries import account_number, find_account
from archiver.ledger.pieces import Span
from archiver.ledger.tables import accounts, cdr_files, entries, listed_metadata
from archiver.ledger.values_reconciling import CdrFile, Standing
from archiver.recording import Fixity, Status

_DATED_AT = func.coalesce(entries.c.start_at, entries.c.saved_at)
_STANDING = select(
    entries.c.recording_id,
    entries.c.status,
    entries.c.key,
    entries.c.size_bytes,
    entries.c.length_bytes,
    _DATED_AT,
    entries.c.saved_at,
    entries.c.duration_ms,
    listed_metadata.c.entry_id,
    entries.c.next_attempt_at,
    entries.c.reason,
).select_from(entries.outerjoin(listed_metadata, listed_metadata.c.entry_id == entries.c.entry_id))
_CDR_FILE = ("day", "part", "key", "size_bytes", "sha256", "rows", "archived_ms")


def standings(connection: Connection, account_id: str, recording_ids: Sequence[str]) -> list[Standing]:
    """See the ledger's promise."""
    account_no = find_account(connection, plain(account_id))
    if account_no is None:
        return []
    found: list[Standing] = []
    for portion in portions([plain(recording_id) for recording_id in recording_ids]):
        found += _standings(connection, account_no, entries.c.recording_id.in_(portion))
    return found


def standings_of(connection: Connection, account_id: str, span: Span) -> list[Standing]:
    """See the ledger's promise; reads the account's entries once from end to end."""
    account_no = find_account(connection, plain(account_id))
    if account_no is None:
        return []
    return _standings(connection, account_no, span.start <= _DATED_AT, span.end > _DATED_AT)


def record_cdr_file(connection: Connection, file: CdrFile) -> None:
    """See the ledger's promise; one that was about to be removed is wanted again."""
    account_no = account_number(connection, plain(file.account_id))
    part = cdr_files.c.account_no == account_no, cdr_files.c.day == file.day.isoformat(), cdr_files.c.part == file.part
    columns = (cdr_files.c.key, cdr_files.c.size_bytes, cdr_files.c.sha256, cdr_files.c.rows)
    known = connection.execute(select(*columns).where(*part, cdr_files.c.expired_ms.is_(None))).first()
    if known == (plain(file.key), file.fixity.size_bytes, file.fixity.sha256, file.rows):
        return
    connection.execute(delete(cdr_files).where(*part, cdr_files.c.expired_ms.is_not(None)))
    connection.execute(
        insert(cdr_files).values(
            account_no=account_no,
            day=file.day.isoformat(),
            part=file.part,
            key=plain(file.key),
            size_bytes=file.fixity.size_bytes,
            sha256=file.fixity.sha256,
            rows=file.rows,
            archived_ms=milliseconds(file.archived_at),
        )
    )


def read_cdr_files(
    connection: Connection, account_id: str | None, day: date | None, *, expired: bool = False
) -> list[CdrFile]:
    """See the ledger's promise; those that are about to be removed only where `expired`."""
    chosen = select(accounts.c.account_id, *(cdr_files.c[name] for name in _CDR_FILE)).join(
        accounts, accounts.c.account_no == cdr_files.c.account_no
    )
    chosen = chosen.where(cdr_files.c.expired_ms.is_not(None) if expired else cdr_files.c.expired_ms.is_(None))
    if account_id is not None:
        chosen = chosen.where(accounts.c.account_id == plain(account_id))
    if day is not None:
        chosen = chosen.where(cdr_files.c.day == day.isoformat())
    found = [_cdr_file(row) for row in connection.execute(chosen)]
    # Databases may sort by their own alphabet.
    return sorted(found, key=lambda file: file.key)


def _cdr_file(row: Sequence[Any]) -> CdrFile:
    account_id, day, part, key, size_bytes, sha256, rows, archived_ms = row
    return CdrFile(
        account_id=original(account_id),
        day=date.fromisoformat(day),
        part=part,
        key=original(key),
        fixity=Fixity(size_bytes, sha256),
        rows=rows,
        archived_at=from_milliseconds(archived_ms),
    )


def _standings(connection: Connection, account_no: int, *which: ColumnElement[bool]) -> list[Standing]:
    chosen = _STANDING.where(entries.c.account_no == account_no, *which)
    return [_standing(row) for row in connection.execute(chosen)]


def _standing(row: Sequence[Any]) -> Standing:
    (
        recording_id,
        status,
        key,
        size_bytes,
        length_bytes,
        dated_at,
        saved_at,
        duration_ms,
        kept,
        next_attempt_at,
        reason,
    ) = row
    return Standing(
        recording_id=original(recording_id),
        status=Status(status),
        key=original(key),
        size_bytes=(length_bytes or 0) if size_bytes is None else size_bytes,
        dated_at=from_seconds_or_none(dated_at),
        was_listed=any(fact is not None for fact in (saved_at, duration_ms, length_bytes, kept)),
        next_attempt_at=from_seconds_or_none(next_attempt_at),
        reason=original(reason),
    )
