"""What the ledger is asked: statuses, summaries, archived objects. Nothing here reads a whole table."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Executable, Select, func, literal_column, select, union_all

from archiver.ledger.backend import portions
from archiver.ledger.columns import from_seconds_or_none, original, plain, seconds
from archiver.ledger.coverage import latest_complete, read_pieces
from archiver.ledger.entries import find_account
from archiver.ledger.tables import accounts, entries, former_versions, tallies
from archiver.ledger.values import AccountSummary, WindowState
from archiver.recording import Status

_OBJECT = ("entry_id", "version", "key", "size_bytes", "sha256", "sidecar_sha256", "archived_ms")


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


def pending_since(account_no: int) -> Select[int]:
    """When the pending recording that came into the ledger first was listed; the index `entries_pending` has its number."""
    pending = entries.c.status == literal_column(f"'{Status.PENDING.value}'")
    # The sum keeps the planner from walking over all entries in the order of their numbers.
    first = select(func.min(entries.c.entry_id + 0)).where(entries.c.account_no == account_no, pending)
    return select(entries.c.listed_at).where(entries.c.entry_id == first.scalar_subquery())


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
        pending_since=from_seconds_or_none(connection.execute(pending_since(account_no)).scalar()),
        next_attempt_at=from_seconds_or_none(connection.execute(next_attempt(account_no)).scalar()),
    )


def archived_objects() -> Executable:
    """All archived objects and former versions in the order of their keys, as `ObjectRow` has them."""
    dated_at = func.coalesce(entries.c.start_at, entries.c.saved_at, entries.c.archived_ms // 1000)
    whose = (accounts.c.account_id, entries.c.recording_id, dated_at.label("dated_at"))
    of_account = accounts.c.account_no == entries.c.account_no
    now = select(*(entries.c[name] for name in _OBJECT), *whose, literal_column("1").label("is_current")).where(
        of_account, entries.c.status == Status.ARCHIVED.value
    )
    before = select(*(former_versions.c[name] for name in _OBJECT), *whose, literal_column("0")).where(
        of_account,
        former_versions.c.entry_id == entries.c.entry_id,
        entries.c.status != Status.EXPIRED.value,
        former_versions.c.damaged_ms.is_(None),
    )
    return union_all(now, before).order_by("key")
