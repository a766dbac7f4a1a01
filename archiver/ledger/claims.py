"""Claiming what is due: each run takes each entry at most once."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select, update

from archiver.ledger.backend import lock_accounts, portions
from archiver.ledger.columns import plain
from archiver.ledger.entries import KNOWN_COLUMNS, find_account, find_metadata, known_of, recording_of, task_of
from archiver.ledger.fencing import check_right
from archiver.ledger.tables import accounts, entries
from archiver.ledger.values import Task
from archiver.ledger.values_claims import Claim


def due_entries(
    account_no: int, run_no: int, *, at: int, limit: int, lost: Collection[int] = ()
) -> Select[*tuple[Any, ...]]:
    """The due entries of an account that this run has not claimed, longest due first; claims of the `lost` don't count."""
    unclaimed = entries.c.run_no != run_no
    if lost:
        unclaimed |= entries.c.claim_no.in_(lost)
    # Only pending and quarantined entries have a next attempt. The order is that of the index `entries_due`.
    return (
        select(*KNOWN_COLUMNS)
        .where(entries.c.account_no == account_no, entries.c.next_attempt_at <= at, unclaimed)
        .order_by(entries.c.next_attempt_at, entries.c.run_no, entries.c.entry_id)
        .limit(limit)
    )


def claim_due(
    connection: Connection, run_no: int, account_id: str, *, at: int, limit: int, claim: Claim | None = None
) -> Sequence[Task]:
    """See the ledger's promise; runs within the caller's transaction."""
    check_right(connection, claim, run_no, accounts.c.account_id == plain(account_id))
    account_no = find_account(connection, plain(account_id))
    if account_no is None or limit < 1:
        return []
    lock_accounts(connection, [account_no])
    lost, claim_no = (claim.lost, claim.claim_no) if claim is not None else ((), None)
    chosen = due_entries(account_no, run_no, at=at, limit=limit, lost=lost)
    due = [known_of(row) for row in connection.execute(chosen)]
    entry_ids = [known.entry_id for known in due]
    for portion in portions(entry_ids):
        connection.execute(
            update(entries).where(entries.c.entry_id.in_(portion)).values(run_no=run_no, claim_no=claim_no)
        )
    metadata = find_metadata(connection, entry_ids)
    return [task_of(known, recording_of(account_id, known, metadata.get(known.entry_id, b"")), at=at) for known in due]
