"""Reading entries: by recording id, and as tasks to work on."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select

from archiver.ledger.backend import insert_or, portions
from archiver.ledger.columns import from_seconds_or_none, original
from archiver.ledger.decide import Facts, Known
from archiver.ledger.tables import accounts, entries, listed_metadata
from archiver.ledger.values import Task
from archiver.recording import Recording, Status

_FACTS = [entries.c[name] for name in Facts._fields]
KNOWN_COLUMNS = [entries.c[name] for name in Known._fields if name != "facts"] + _FACTS
"""The columns that `known_of` takes, in its order."""
_FIRST_FACT = len(KNOWN_COLUMNS) - len(_FACTS)


def known_of(row: Sequence[Any]) -> Known:
    """The entry in a row of `KNOWN_COLUMNS`, whatever follows them."""
    facts = Facts._make(row[_FIRST_FACT : len(KNOWN_COLUMNS)])
    return Known._make([row[0], row[1], Status(row[2]), *row[3:_FIRST_FACT], facts])


def find_account(connection: Connection, account_id: str) -> int | None:
    """The account's number, None when the ledger has never heard of it; `account_id` as `columns.plain` gives it."""
    return connection.execute(select(accounts.c.account_no).where(accounts.c.account_id == account_id)).scalar()


def account_number(connection: Connection, account_id: str) -> int:
    """As `find_account`, but an unknown account gets a number."""
    found = find_account(connection, account_id)
    if found is not None:
        return found
    # Another machine may add it at the same moment; then this waits for that one.
    connection.execute(insert_or(connection, accounts).values(account_id=account_id).on_conflict_do_nothing())
    number: int = connection.execute(
        select(accounts.c.account_no).where(accounts.c.account_id == account_id)
    ).scalar_one()
    return number


def find_known(connection: Connection, account_no: int, recording_ids: Sequence[str]) -> dict[str, Known]:
    """What is known of these recordings, by id; ids as `columns.plain` gives them."""
    found: dict[str, Known] = {}
    for portion in portions(recording_ids):
        chosen = select(*KNOWN_COLUMNS).where(entries.c.account_no == account_no, entries.c.recording_id.in_(portion))
        found.update((row[1], known_of(row)) for row in connection.execute(chosen))
    return found


def find_metadata(connection: Connection, entry_ids: Sequence[int]) -> dict[int, bytes]:
    """The metadata kept for these entries, by entry."""
    found: dict[int, bytes] = {}
    for portion in portions(entry_ids):
        chosen = select(listed_metadata).where(listed_metadata.c.entry_id.in_(portion))
        found.update((row[0], row[1]) for row in connection.execute(chosen))
    return found


def recording_of(account_id: str, known: Known, metadata: bytes) -> Recording:
    """The recording as it was listed last, its times cut to the second."""
    facts = known.facts
    return Recording(
        account_id=account_id,
        recording_id=original(known.recording_id),
        start_at=from_seconds_or_none(facts.start_at),
        saved_at=from_seconds_or_none(facts.saved_at),
        duration_ms=facts.duration_ms,
        length_bytes=facts.length_bytes,
        digest_md5=facts.digest_md5,
        extension=original(facts.extension),
        metadata=metadata,
        doubt=original(facts.doubt),
    )


def task_of(known: Known, recording: Recording, *, at: int) -> Task:
    """The task for an entry that an earlier run knew; `at` in Unix seconds decides whether it is due."""
    return Task(
        entry_id=known.entry_id,
        recording=recording,
        version=known.version,
        was_known=True,
        retries_used=known.retries_used,
        due=known.next_attempt_at is None or known.next_attempt_at <= at,
        attempts=known.attempts,
        quarantined_sha256=known.quarantined_sha256,
        next_attempt_at=from_seconds_or_none(known.next_attempt_at),
    )
