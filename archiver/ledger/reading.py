"""What the ledger is asked: statuses, summaries, archived objects. Nothing here reads a whole table."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, literal_column, select

from archiver.ledger.backend import portions
from archiver.ledger.base import AccountSummary, ArchivedEntry, WindowState
from archiver.ledger.columns import (
    from_milliseconds,
    from_seconds_or_none,
    original,
    plain,
    seconds,
)
from archiver.ledger.coverage import latest_complete, read_pieces
from archiver.ledger.entries import find_account
from archiver.ledger.tables import accounts, entries, former_versions, tallies
from archiver.recording import Fixity, Status


def read_statuses(connection: Connection, account_id: str, recording_ids: Sequence[str]) -> Mapping[str, Status]:
    """See the ledger's promise."""
    account_no = find_account(connection, plain(account_id))
    if account_no is None:
        return {}
    found: dict[str, Status] = {}
    for portion in portions([plain(recording_id) for recording_id in recording_ids]):
        chosen = select(entries.c.recording_id, entries.c.status).where(
            entries.c.account_no == account_no, entries.c.recording_id.in_(portion)
        )
        found.update((original(row[0]), Status(row[1])) for row in connection.execute(chosen))
    return found


def oldest_pending(account_no: int) -> Select[int]:
    """The start of the oldest pending call, from the index `entries_pending`."""
    # A bound value would keep the planner from seeing that the partial index applies.
    pending = entries.c.status == literal_column(f"'{Status.PENDING.value}'")
    return (
        select(entries.c.start_at)
        .where(entries.c.account_no == account_no, pending, entries.c.start_at.is_not(None))
        .order_by(entries.c.start_at)
        .limit(1)
    )


def next_attempt(account_no: int) -> Select[int]:
    """When the next attempt of all is due, from the index `entries_due`."""
    return (
        select(entries.c.next_attempt_at)
        .where(entries.c.account_no == account_no, entries.c.next_attempt_at.is_not(None))
        .order_by(entries.c.next_attempt_at)
        .limit(1)
    )


def read_summaries(connection: Connection, account_ids: Sequence[str]) -> Sequence[AccountSummary]:
    """See the ledger's promise; in the order of the accounts' ids, accounts that the ledger doesn't know left out."""
    chosen = select(accounts.c.account_no, accounts.c.account_id).order_by(accounts.c.account_id)
    wanted = {plain(account_id) for account_id in account_ids}
    return [
        _summary(connection, account_no, account_id)
        for account_no, account_id in connection.execute(chosen).all()
        if account_id in wanted or not wanted
    ]


def _summary(connection: Connection, account_no: int, account_id: str) -> AccountSummary:
    counted = connection.execute(
        select(tallies.c.status, tallies.c.recordings, tallies.c.bytes).where(tallies.c.account_no == account_no)
    ).all()
    recordings, bytes_count = dict.fromkeys(Status, 0), dict.fromkeys(Status, 0)
    for status, count, size in counted:
        recordings[Status(status)], bytes_count[Status(status)] = count, size
    incomplete = read_pieces(connection, account_no, state=WindowState.INCOMPLETE)
    if incomplete:
        first = seconds(incomplete[0].window.start_at)
        covered = first if latest_complete(connection, account_no, before=first) is not None else None
    else:
        covered = latest_complete(connection, account_no, before=None)
    return AccountSummary(
        account_id=original(account_id),
        recordings=recordings,
        bytes=bytes_count,
        covered_through=from_seconds_or_none(covered),
        incomplete=incomplete,
        oldest_pending_at=from_seconds_or_none(connection.execute(oldest_pending(account_no)).scalar()),
        next_attempt_at=from_seconds_or_none(connection.execute(next_attempt(account_no)).scalar()),
    )


def entries_after(account_no: int, after: str | None, *, limit: int) -> Select[*tuple[Any, ...]]:
    """The next entries of an account in the order of recording ids, which the unique index keeps per account."""
    columns = ("entry_id", "recording_id", "status", "version", "key", "size_bytes", "sha256", "archived_ms")
    chosen = select(*(entries.c[name] for name in columns)).where(entries.c.account_no == account_no)
    if after is not None:
        chosen = chosen.where(entries.c.recording_id > after)
    return chosen.order_by(entries.c.recording_id).limit(limit)


def read_archived(
    connection: Connection, account_id: str, after: str | None, *, limit: int
) -> tuple[Sequence[ArchivedEntry], str | None]:
    """The archived objects of the next `limit` entries after a recording id as it lies in the column (None begins).

    Returns them with the id to go on from, None at the end. A recording's versions come in order. What retention has
    expired is left out with all its versions.
    """
    account_no = find_account(connection, plain(account_id))
    if account_no is None:
        return [], None
    rows = connection.execute(entries_after(account_no, after, limit=limit)).mappings().all()
    names = {row["entry_id"]: row["recording_id"] for row in rows if row["status"] != Status.EXPIRED.value}
    found = [_archived(row, row["recording_id"]) for row in rows if row["status"] == Status.ARCHIVED.value]
    for portion in portions(list(names)):
        former = connection.execute(select(former_versions).where(former_versions.c.entry_id.in_(portion)))
        found += [_archived(row, names[row["entry_id"]]) for row in former.mappings()]
    found.sort(key=lambda entry: (entry.recording_id, entry.version))
    return found, rows[-1]["recording_id"] if len(rows) == limit else None


def _archived(row: RowMapping, recording_id: str) -> ArchivedEntry:
    return ArchivedEntry(
        entry_id=row["entry_id"],
        recording_id=original(recording_id),
        version=row["version"],
        key=original(row["key"]),
        fixity=Fixity(row["size_bytes"], row["sha256"]),
        archived_at=from_milliseconds(row["archived_ms"]),
    )
