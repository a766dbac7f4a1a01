"""Outcomes of tasks on their way into the ledger: checked when they are handed over, written many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    Table,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.schema import CreateTable

from archiver.errors import LedgerError
from archiver.ledger.backend import insert_or, insert_rows, is_shared, lock_accounts
from archiver.ledger.columns import milliseconds, plain, seconds, seconds_or_none
from archiver.ledger.fencing import check_claim, check_right
from archiver.ledger.tables import accounts, attempts, entries, former_versions, listed_metadata
from archiver.ledger.tally import TallyChange
from archiver.ledger.values import Attempt, Former, Settlement
from archiver.ledger.values_claims import Claim
from archiver.recording import Status

_ADOPTED = "adopted"
_SHA256_BYTES = 32
_WAITS = frozenset({Status.PENDING, Status.QUARANTINED})
_DONE = frozenset({Status.ARCHIVED.value, Status.EXPIRED.value})
# What every outcome sets, and what only some do.
_ALWAYS = ("status", "attempts", "retries_used", "next_attempt_at", "reason", "detail", "flags")
_OF_OBJECT = ("key", "size_bytes", "sha256", "sidecar_sha256", "archived_ms", "archived_run_no")

_staged = Table(
    "settling",
    MetaData(),
    # Without an index, so that no planner takes it for the larger of the two and walks over all entries instead.
    Column("entry_id", entries.c.entry_id.type),
    *(Column(name, entries.c[name].type) for name in (*_ALWAYS, *_OF_OBJECT, "quarantined_sha256")),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DELETE ROWS",
)
"""A batch on its way: one statement brings it here, one into the entries, however many rows there are."""

_UPDATE = (
    update(entries)
    .where(entries.c.entry_id == _staged.c.entry_id)
    .values({name: _staged.c[name] for name in _ALWAYS})
    .values({name: func.coalesce(_staged.c[name], entries.c[name]) for name in _OF_OBJECT})
    .values(
        quarantined_sha256=case(
            (_staged.c.status == Status.ARCHIVED.value, None),
            else_=func.coalesce(_staged.c.quarantined_sha256, entries.c.quarantined_sha256),
        )
    )
)
_AFTER_FORMER = (
    update(entries)
    .where(entries.c.entry_id == bindparam("of_entry"), entries.c.version == bindparam("former"))
    .values(version=entries.c.version + 1)
)
_WEIGHT = func.coalesce(entries.c.size_bytes, entries.c.length_bytes, 0)
_COUNT = (
    select(entries.c.account_no, entries.c.status, func.count(), cast(func.sum(_WEIGHT), BigInteger))
    .where(entries.c.entry_id.in_(select(_staged.c.entry_id)))
    .group_by(entries.c.account_no, entries.c.status)
)
_ACCOUNTS = select(entries.c.account_no).where(entries.c.entry_id.in_(select(_staged.c.entry_id))).distinct()
_FORGET_METADATA = delete(listed_metadata).where(
    listed_metadata.c.entry_id.in_(select(_staged.c.entry_id).where(_staged.c.status.in_(_DONE)))
)


class _Changes(NamedTuple):
    """A row of `_staged`; None in what belongs to the object leaves the entry's own."""

    entry_id: int
    status: str
    attempts: int
    retries_used: int
    next_attempt_at: int | None
    reason: str
    detail: str
    flags: str
    key: str | None = None
    size_bytes: int | None = None
    sha256: bytes | None = None
    sidecar_sha256: bytes | None = None
    archived_ms: int | None = None
    archived_run_no: int | None = None
    quarantined_sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """An outcome in the shape of columns: what it changes in the entry, the failed tries, and former versions to keep.

    It is written for a run, under a claim or without one.
    """

    changes: _Changes
    tries: Sequence[dict[str, Any]]
    formers: Sequence[dict[str, Any]]
    run_no: int
    claim: Claim | None


def settled_of(run_no: int, settlement: Settlement, claim: Claim | None = None) -> Settled:
    """Bring an outcome to columns, so that nothing it holds can fail a batch with others' outcomes in it.

    It is written only as long as the claim, if any, holds.

    Raises:
        ValueError: ARCHIVED without key, fixity or time.
    """
    status, fixity = settlement.status, settlement.fixity
    of_object: tuple[str | None, int | None, bytes | None, bytes | None, int | None, int | None] = (None,) * 6
    quarantined = None
    if status is Status.ARCHIVED:
        if not settlement.key or fixity is None or settlement.archived_at is None:
            raise ValueError("an archived recording needs its key, its fixity and its time")
        if len(fixity.sha256) != _SHA256_BYTES or not 0 <= fixity.size_bytes < 2**63:
            raise ValueError(f"no fixity: {fixity}")
        at = milliseconds(settlement.archived_at)
        beside = settlement.sidecar_sha256
        of_object = (plain(settlement.key), fixity.size_bytes, fixity.sha256, beside, at, run_no)
    elif status is Status.QUARANTINED and fixity is not None:
        quarantined = fixity.sha256
    changes = _Changes(
        settlement.entry_id,
        status.value,
        settlement.attempts,
        settlement.retries_used,
        seconds_or_none(settlement.next_attempt_at) if status in _WAITS else None,
        plain(settlement.reason),
        plain(settlement.detail),
        plain(" ".join([*settlement.flags, *([_ADOPTED] if settlement.adopted else [])])),
        *of_object,
        quarantined,
    )
    tries = tries_of(run_no, settlement.entry_id, settlement.failures)
    formers = [_former_row(run_no, settlement.entry_id, each) for each in settlement.formers]
    return Settled(changes, tries, formers, run_no, claim)


def _former_row(run_no: int, entry_id: int, former: Former) -> dict[str, Any]:
    return {
        "entry_id": entry_id,
        "version": former.version,
        "key": plain(former.key),
        "size_bytes": former.fixity.size_bytes,
        "sha256": former.fixity.sha256,
        "sidecar_sha256": former.sidecar_sha256,
        "archived_ms": milliseconds(former.archived_at),
        "archived_run_no": run_no,
    }


def tries_of(run_no: int, entry_id: int, failures: Sequence[Attempt]) -> list[dict[str, Any]]:
    """Failed tries as rows."""
    return [
        {
            "entry_id": entry_id,
            "number": failure.number,
            "run_no": run_no,
            "at": seconds(failure.at),
            "reason": plain(failure.reason),
            "detail": plain(failure.detail),
        }
        for failure in failures
    ]


def write_settled(connection: Connection, batch: Sequence[Settled]) -> None:
    """Write outcomes in their order, the last of an entry winning, within the caller's transaction.

    Raises:
        LedgerError: an entry that the ledger does not hold; none of the batch may then be committed.
        ClaimLost, AccountTaken: likewise.
    """
    for claim in {settled.claim for settled in batch if settled.claim is not None}:
        check_claim(connection, claim)
    after: dict[int, _Changes] = {}
    for settled in batch:
        changes = settled.changes
        earlier = after.get(changes.entry_id)
        after[changes.entry_id] = changes if earlier is None else _on_top(changes, earlier)
    connection.execute(CreateTable(_staged, if_not_exists=True))
    insert_rows(connection, _staged, _Changes._fields, list(after.values()))
    if is_shared(connection):
        account_nos = connection.execute(_ACCOUNTS).scalars().all()
        earliest = min((settled.run_no for settled in batch if settled.claim is None), default=None)
        check_right(connection, None, earliest, accounts.c.account_no.in_(account_nos))
        lock_accounts(connection, account_nos)
    tally = TallyChange()
    before = connection.execute(_COUNT).all()
    if sum(count for _, _, count, _ in before) != len(after):
        raise LedgerError("The ledger holds no entry for an outcome: was it replaced by an older copy during the run?")
    for account_no, status, count, bytes_count in before:
        tally.remove(account_no, status, bytes_count, count)
    connection.execute(_UPDATE)
    if formers := [former for settled in batch for former in settled.formers]:
        connection.execute(insert_or(connection, former_versions).on_conflict_do_nothing(), formers)
        connection.execute(_AFTER_FORMER, [{"of_entry": row["entry_id"], "former": row["version"]} for row in formers])
    for account_no, status, count, bytes_count in connection.execute(_COUNT):
        tally.add(account_no, status, bytes_count, count)
    tries = [failure for settled in batch for failure in settled.tries]
    if tries:
        connection.execute(insert(attempts), tries)
    connection.execute(_FORGET_METADATA)
    tally.write(connection)
    connection.execute(delete(_staged))


def _on_top(changes: _Changes, earlier: _Changes) -> _Changes:
    """Two outcomes of one entry in one batch, as if they had come one after the other."""
    names = _OF_OBJECT if changes.status == Status.ARCHIVED else (*_OF_OBJECT, "quarantined_sha256")
    return changes._replace(**{name: getattr(earlier, name) for name in names if getattr(changes, name) is None})
