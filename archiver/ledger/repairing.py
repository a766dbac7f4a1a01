"""What a repair changes: a damaged object becomes a former version, a row is put right. One transaction each."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Connection, insert, literal, select, update

from archiver.errors import LedgerError
from archiver.ledger.base_repair import Repairable
from archiver.ledger.columns import original, plain
from archiver.ledger.decide import facts_of
from archiver.ledger.entries import KNOWN_COLUMNS, known_of, recording_of
from archiver.ledger.settling import Settled
from archiver.ledger.tables import attempts, entries, former_versions, runs
from archiver.ledger.tally import TallyChange, weight
from archiver.ledger.values import ArchivedEntry
from archiver.recording import Fixity, Recording, Status

_KEPT = ("version", "key", "size_bytes", "sha256", "sidecar_sha256", "archived_ms", "archived_run_no", "manifest_part")
_OF_OBJECT = ("key", "size_bytes", "sha256", "sidecar_sha256", "archived_ms", "archived_run_no", "flags", "attempts")
REPAIRED = "repaired"
"""The flag of a recording whose object or row was put right where it is."""


def damaged_keys(connection: Connection) -> frozenset[str]:
    """The media's keys of all objects that were found damaged and replaced."""
    chosen = select(former_versions.c.key).where(former_versions.c.damaged_ms.is_not(None))
    return frozenset(original(key) for (key,) in connection.execute(chosen))


def repairable(connection: Connection, entry: ArchivedEntry) -> Repairable | None:
    """What a repair needs to know; None when the entry is gone."""
    row = connection.execute(select(*KNOWN_COLUMNS).where(entries.c.entry_id == entry.entry_id)).one_or_none()
    if row is None:
        return None
    known = known_of(row)
    table, where = _place(entry)
    run_id = connection.execute(
        select(runs.c.run_id).join(table, table.c.archived_run_no == runs.c.run_no).where(*where)
    ).scalar()
    return Repairable(recording_of(entry.account_id, known, b""), known.attempts, original(run_id or ""))


def replace_damaged(
    connection: Connection, run_no: int, entry: ArchivedEntry, settled: Settled, *, recording: Recording, at_ms: int
) -> None:
    """Make an entry's object a former, damaged version, and what was archived instead the one after it.

    Raises:
        LedgerError: the entry is not what it was when it was looked at; nothing was changed.
    """
    of_entry = (entries.c.entry_id == entry.entry_id, entries.c.version == entry.version)
    archived = (*of_entry, entries.c.status == Status.ARCHIVED.value)
    row = connection.execute(select(entries.c.account_no, entries.c.size_bytes).where(*archived)).one_or_none()
    if row is None:
        raise _changed(entry)
    kept = select(entries.c.entry_id, *(entries.c[name] for name in _KEPT), literal(at_ms, BigInteger)).where(*archived)
    connection.execute(insert(former_versions).from_select(["entry_id", *_KEPT, "damaged_ms"], kept))
    changes: dict[str, Any] = {name: getattr(settled.changes, name) for name in _OF_OBJECT}
    if recording.metadata:
        # What was listed now is what the next listing is compared with.
        changes |= facts_of(recording)._asdict()
    anew = update(entries).where(*of_entry)
    connection.execute(anew.values(version=entry.version + 1, run_no=run_no, manifest_part=None, **changes))
    tally = TallyChange()
    tally.remove(row.account_no, Status.ARCHIVED, weight(row.size_bytes, None))
    tally.add(row.account_no, Status.ARCHIVED, weight(settled.changes.size_bytes, None))
    tally.write(connection)
    if settled.tries:
        connection.execute(insert(attempts), list(settled.tries))


def correct_entry(
    connection: Connection, run_no: int, entry: ArchivedEntry, *, fixity: Fixity | None, sidecar_sha256: bytes | None
) -> None:
    """Put an object's row right: the fixity and the sidecar's digest that are given.

    The tallies stay: they were kept from what was archived, whatever somebody wrote into the row later.

    Raises:
        LedgerError: the ledger does not hold the object any more.
    """
    table, where = _place(entry)
    changes: dict[str, Any] = {}
    if fixity is not None:
        changes |= {"size_bytes": fixity.size_bytes, "sha256": fixity.sha256}
    if sidecar_sha256 is not None:
        changes["sidecar_sha256"] = sidecar_sha256
    if table is entries:
        flags = connection.execute(select(entries.c.flags).where(*where)).scalar() or ""
        words = flags.split()
        changes |= {"run_no": run_no, "flags": " ".join([*words, *([] if REPAIRED in words else [REPAIRED])])}
    if changes and not connection.execute(update(table).where(*where).values(**changes)).rowcount:
        raise _changed(entry)


def note_tries(connection: Connection, entry: ArchivedEntry, tries: Sequence[dict[str, Any]]) -> None:
    """Keep tries that failed; the object's row stays as it is but for their count."""
    if tries:
        connection.execute(insert(attempts), list(tries))
        more = entries.c.attempts + len(tries)
        connection.execute(update(entries).where(entries.c.entry_id == entry.entry_id).values(attempts=more))


def _place(entry: ArchivedEntry) -> tuple[Any, tuple[Any, ...]]:
    """The table and the condition of the row that holds an object."""
    table = entries if entry.is_current else former_versions
    return table, (
        table.c.entry_id == entry.entry_id,
        table.c.version == entry.version,
        table.c.key == plain(entry.key),
    )


def _changed(entry: ArchivedEntry) -> LedgerError:
    return LedgerError(
        f"The ledger's entry of {entry.recording_id!a} changed while it was repaired; verify the archive again."
    )
