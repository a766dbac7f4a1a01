"""Outcomes of tasks on their way into the ledger: checked when they are handed over, written many at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from archiver.errors import LedgerError
from archiver.ledger.backend import portions
from archiver.ledger.base import Settlement
from archiver.ledger.columns import milliseconds, plain, seconds, seconds_or_none
from archiver.ledger.tables import attempts, entries, listed_metadata
from archiver.ledger.tally import TallyChange, weight
from archiver.recording import Status

_ADOPTED = "adopted"
_SHA256_BYTES = 32
_WAITS = frozenset({Status.PENDING, Status.QUARANTINED})
_DONE = frozenset({Status.ARCHIVED.value, Status.EXPIRED.value})
_SETTLED = (
    "status",
    "key",
    "size_bytes",
    "sha256",
    "archived_ms",
    "archived_run_no",
    "attempts",
    "retries_used",
    "next_attempt_at",
    "reason",
    "detail",
    "flags",
    "quarantined_sha256",
)
_UPDATE = (
    update(entries)
    .where(entries.c.entry_id == bindparam("of_entry"))
    .values({name: bindparam(name) for name in _SETTLED})
)


@dataclass(frozen=True, slots=True)
class Settled:
    """An outcome in the shape of columns: what it changes in the entry, and the failed tries to keep."""

    entry_id: int
    changes: dict[str, Any]
    tries: Sequence[dict[str, Any]]


def settled_of(run_no: int, settlement: Settlement) -> Settled:
    """Bring an outcome to columns, so that nothing it holds can fail a batch with others' outcomes in it.

    Raises:
        ValueError: ARCHIVED without key, fixity or time.
    """
    changes: dict[str, Any] = {
        "status": settlement.status.value,
        "attempts": settlement.attempts,
        "retries_used": settlement.retries_used,
        "next_attempt_at": seconds_or_none(settlement.next_attempt_at) if settlement.status in _WAITS else None,
        "reason": plain(settlement.reason),
        "detail": plain(settlement.detail),
        "flags": plain(" ".join([*settlement.flags, *([_ADOPTED] if settlement.adopted else [])])),
    }
    fixity = settlement.fixity
    if settlement.status is Status.ARCHIVED:
        if not settlement.key or fixity is None or settlement.archived_at is None:
            raise ValueError("an archived recording needs its key, its fixity and its time")
        if len(fixity.sha256) != _SHA256_BYTES or not 0 <= fixity.size_bytes < 2**63:
            raise ValueError(f"no fixity: {fixity}")
        changes |= {
            "key": plain(settlement.key),
            "size_bytes": fixity.size_bytes,
            "sha256": fixity.sha256,
            "archived_ms": milliseconds(settlement.archived_at),
            "archived_run_no": run_no,
            "quarantined_sha256": None,
        }
    elif settlement.status is Status.QUARANTINED and fixity is not None:
        changes["quarantined_sha256"] = fixity.sha256
    tries = [
        {
            "entry_id": settlement.entry_id,
            "number": failure.number,
            "run_no": run_no,
            "at": seconds(failure.at),
            "reason": plain(failure.reason),
            "detail": plain(failure.detail),
        }
        for failure in settlement.failures
    ]
    return Settled(settlement.entry_id, changes, tries)


def write_settled(connection: Connection, batch: Sequence[Settled]) -> None:
    """Write outcomes in their order, the last of an entry winning, within the caller's transaction.

    Raises:
        LedgerError: an entry that the ledger does not hold; none of the batch may then be committed.
    """
    before = _find(connection, list({settled.entry_id for settled in batch}))
    after: dict[int, dict[str, Any]] = {}
    for settled in batch:
        entry = after.setdefault(settled.entry_id, dict(before[settled.entry_id]))
        entry.update(settled.changes)
    tally = TallyChange()
    for entry_id, entry in after.items():
        was, account_no = before[entry_id], entry["account_no"]
        tally.remove(account_no, was["status"], weight(was["size_bytes"], was["length_bytes"]))
        tally.add(account_no, entry["status"], weight(entry["size_bytes"], entry["length_bytes"]))
    connection.execute(
        _UPDATE,
        [{"of_entry": entry_id} | {name: entry[name] for name in _SETTLED} for entry_id, entry in after.items()],
    )
    tries = [failure for settled in batch for failure in settled.tries]
    if tries:
        connection.execute(insert(attempts), tries)
    for portion in portions([entry_id for entry_id, entry in after.items() if entry["status"] in _DONE]):
        connection.execute(delete(listed_metadata).where(listed_metadata.c.entry_id.in_(portion)))
    tally.write(connection)


def _find(connection: Connection, entry_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """The entries' columns that an outcome changes or that the tallies need, by entry."""
    columns = [entries.c[name] for name in ("entry_id", "account_no", "length_bytes", *_SETTLED)]
    found: dict[int, dict[str, Any]] = {}
    for portion in portions(entry_ids):
        for row in connection.execute(select(*columns).where(entries.c.entry_id.in_(portion))).mappings():
            found[row["entry_id"]] = dict(row)
    unknown = [entry_id for entry_id in entry_ids if entry_id not in found]
    if unknown:
        raise LedgerError(
            f"The ledger holds no entry {unknown[0]} to settle: was it replaced by an older copy during the run?"
        )
    return found
