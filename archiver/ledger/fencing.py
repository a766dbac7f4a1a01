"""Who may write: an attempt at a partition as long as nobody has taken it over, a run until a later one has the account."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from sqlalchemy import ColumnElement, Connection, insert, select, update

from archiver.errors import AccountTaken, ClaimLost
from archiver.ledger.backend import is_shared, portions
from archiver.ledger.columns import from_milliseconds, original, plain
from archiver.ledger.entries import account_number, find_account
from archiver.ledger.tables import accounts, attempts, entries, partition_claims
from archiver.ledger.values_claims import Claim, ClaimRow, ClaimState, DoneBefore, Recovered
from archiver.recording import Status

_NOT_ENDED_WELL = (ClaimState.LOST.value, ClaimState.LEFT.value)


def begin_claim(
    connection: Connection, run_no: int, account_id: str, partition: str, *, holder: str, at_ms: int
) -> Claim | DoneBefore | None:
    """See the ledger's promise; runs within the caller's transaction. None when another run holds the account."""
    claims = partition_claims.c
    account_no = account_number(connection, plain(account_id))
    holds = connection.execute(select(accounts.c.run_no).where(accounts.c.account_no == account_no)).scalar()
    if holds != run_no:
        return None
    ours = (claims.run_no == run_no, claims.account_no == account_no, claims.partition == plain(partition))
    done = select(claims.report).where(*ours, claims.state == ClaimState.DONE.value)
    found = connection.execute(done).first()
    if found is not None:
        return DoneBefore(found.report)
    held = update(partition_claims).where(*ours, claims.state == ClaimState.HELD.value)
    connection.execute(held.values(state=ClaimState.LOST.value, ended_ms=at_ms))
    added = insert(partition_claims).values(
        run_no=run_no,
        account_no=account_no,
        partition=plain(partition),
        holder=plain(holder),
        state=ClaimState.HELD.value,
        begun_ms=at_ms,
    )
    (claim_no,) = cast("tuple[int]", connection.execute(added).inserted_primary_key)
    lost = select(claims.claim_no).where(
        claims.run_no == run_no, claims.account_no == account_no, claims.state.in_(_NOT_ENDED_WELL)
    )
    return Claim(claim_no, run_no, account_id, frozenset(connection.execute(lost).scalars()))


def check_right(connection: Connection, claim: Claim | None, run_no: int | None, which: ColumnElement[bool]) -> None:
    """See to it, within a transaction that writes for a run, that it may; `which` are the accounts that it writes to.

    Under a claim it may as long as that is held, without one as long as no later run has taken an account: a run's hold
    is its connection's, and who has another one does not notice at once when that is lost.

    Raises:
        ClaimLost, AccountTaken: nothing of the transaction may be committed.
    """
    if claim is not None:
        check_claim(connection, claim)
    elif run_no is not None and is_shared(connection):
        taken = select(accounts.c.account_id).where(which, accounts.c.run_no > run_no).limit(1)
        if (account_id := connection.execute(taken).scalar()) is not None:
            raise _taken(original(account_id))


def check_claim(connection: Connection, claim: Claim) -> None:
    """See to it, within a transaction that writes, that it may: the claim is held, and its run holds the account.

    Raises:
        ClaimLost: not any more; nothing of the transaction may be committed.
    """
    chosen = (
        select(partition_claims.c.state, accounts.c.run_no)
        .join(accounts, accounts.c.account_no == partition_claims.c.account_no)
        .where(partition_claims.c.claim_no == claim.claim_no)
    )
    found = connection.execute(chosen).first()
    if found is not None and found.run_no != claim.run_no:
        raise _taken(claim.account_id)
    if found is None or found.state != ClaimState.HELD.value:
        raise ClaimLost(
            f"account {claim.account_id[:64]!a}: the partition is somebody else's by now; nothing was written"
        )


def _taken(account_id: str) -> AccountTaken:
    return AccountTaken(f"account {account_id[:64]!a}: another run works on it by now; nothing was written")


def end_claim(connection: Connection, claim: Claim, state: ClaimState, *, at_ms: int, report: bytes) -> None:
    """See the ledger's promise."""
    check_claim(connection, claim)
    ended = update(partition_claims).where(partition_claims.c.claim_no == claim.claim_no)
    connection.execute(ended.values(state=state.value, ended_ms=at_ms, report=report))


def read_claims(connection: Connection, run_no: int) -> Sequence[ClaimRow]:
    """See the ledger's promise."""
    chosen = (
        select(partition_claims, accounts.c.account_id)
        .join(accounts, accounts.c.account_no == partition_claims.c.account_no)
        .where(partition_claims.c.run_no == run_no)
        .order_by(partition_claims.c.claim_no)
    )
    return [
        ClaimRow(
            claim_no=row.claim_no,
            account_id=original(row.account_id),
            partition=original(row.partition),
            holder=original(row.holder),
            state=ClaimState(row.state),
            begun_at=from_milliseconds(row.begun_ms),
            ended_at=None if row.ended_ms is None else from_milliseconds(row.ended_ms),
        )
        for row in connection.execute(chosen)
    ]


def recover(connection: Connection, run_no: int, account_id: str, claim: Claim) -> Recovered:
    """See the ledger's promise. Walks over the account's entries, which only a lost attempt makes necessary."""
    check_claim(connection, claim)
    account_no = find_account(connection, plain(account_id))
    if account_no is None or not claim.lost:
        return Recovered()
    chosen = select(entries.c.entry_id).where(
        entries.c.account_no == account_no,
        entries.c.run_no == run_no,
        entries.c.claim_no.in_(claim.lost),
        entries.c.next_attempt_at.is_(None),
    )
    entry_ids = connection.execute(chosen).scalars().all()
    found = recovered_of(connection, run_no, entry_ids)
    for portion in portions(entry_ids):
        connection.execute(update(entries).where(entries.c.entry_id.in_(portion)).values(claim_no=claim.claim_no))
    return found


def recovered_of(connection: Connection, run_no: int, entry_ids: Iterable[int]) -> Recovered:
    """What this run itself has brought these entries to; those that were so before it are in none of the counts."""
    archived = bytes_archived = 0
    missing: dict[int, str] = {}
    columns = entries.c
    for portion in portions(list(entry_ids)):
        chosen = select(
            columns.entry_id, columns.recording_id, columns.status, columns.size_bytes, columns.archived_run_no
        ).where(columns.entry_id.in_(portion))
        for row in connection.execute(chosen):
            if row.status == Status.ARCHIVED.value and row.archived_run_no == run_no:
                archived += 1
                bytes_archived += row.size_bytes
            elif row.status == Status.MISSING.value:
                missing[row.entry_id] = row.recording_id
    return Recovered(archived, bytes_archived, _given_up_by(connection, run_no, missing))


def _given_up_by(connection: Connection, run_no: int, missing: Mapping[int, str]) -> tuple[str, ...]:
    """Of what is missing, that which a try of this run gave up."""
    tried: set[int] = set()
    for portion in portions(list(missing)):
        chosen = select(attempts.c.entry_id).where(attempts.c.entry_id.in_(portion), attempts.c.run_no == run_no)
        tried.update(connection.execute(chosen).scalars())
    return tuple(original(missing[entry_id]) for entry_id in sorted(tried))
