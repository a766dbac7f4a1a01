"""Entering archived objects that the ledger does not know, thousands to a transaction, in whatever order they come."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from archiver.ledger.backend import insert_rows, portions
from archiver.ledger.columns import milliseconds, plain
from archiver.ledger.decide import Facts, facts_of
from archiver.ledger.entries import account_number
from archiver.ledger.tables import entries, former_versions, listed_metadata, runs
from archiver.ledger.tally import TallyChange, weight
from archiver.ledger.values_rebuilding import Entering, StoredRecording
from archiver.recording import Status

REBUILT = "rebuilt"
"""The flag of entries whose history was lost: they come from their sidecars."""

_OBJECT = ("version", "key", "size_bytes", "sha256", "sidecar_sha256", "archived_ms", "archived_run_no")
_FORMER = (*_OBJECT, "manifest_part")
_KNOWN = ("entry_id", "recording_id", "status", "length_bytes", *_FORMER)
_SHARED = ("account_no", "status", "run_no", "listed_at", "attempts", "flags")
_COLUMNS = (*_SHARED, "recording_id", *Facts._fields, *_OBJECT)


class _Object(NamedTuple):
    """An object in the shape of columns."""

    version: int
    key: str
    size_bytes: int
    sha256: bytes
    sidecar_sha256: bytes | None
    archived_ms: int
    archived_run_no: int

    @property
    def identity(self) -> tuple[str, int, bytes]:
        return self.key, self.size_bytes, self.sha256


class _Coming(NamedTuple):
    """An object to enter: its place in the batch, its columns, and what its recording's metadata say."""

    place: int
    object: _Object
    facts: Facts
    bare: bool


@dataclass(slots=True)
class _Changes:
    """What a batch changes, gathered before anything is written."""

    fresh: list[tuple[Any, ...]] = field(default_factory=list)
    former: list[tuple[Any, ...]] = field(default_factory=list)
    former_of_fresh: list[tuple[str, _Object]] = field(default_factory=list)
    current: list[dict[str, Any]] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)


_UPDATE_OBJECT = (
    update(entries)
    .where(entries.c.entry_id == bindparam("of_entry"))
    .values({name: bindparam(f"new_{name}") for name in _OBJECT})
    .values(
        status=Status.ARCHIVED.value,
        next_attempt_at=None,
        reason="",
        detail="",
        flags=REBUILT,
        quarantined_sha256=None,
        manifest_part=None,
    )
)
_UPDATE_FACTS = (
    update(entries)
    .where(entries.c.entry_id == bindparam("of_entry"))
    .values({name: bindparam(f"new_{name}") for name in Facts._fields})
)


def enter(connection: Connection, stored: Sequence[StoredRecording]) -> Sequence[Entering]:
    """See the ledger's promise; runs within the caller's transaction."""
    run_numbers = _run_numbers(connection, stored)
    by_account: defaultdict[str, defaultdict[str, list[_Coming]]] = defaultdict(lambda: defaultdict(list))
    for place, each in enumerate(stored):
        recording = each.recording
        run_no = run_numbers[plain(each.run_id)]
        columns = _Object(
            each.version,
            plain(each.key),
            each.fixity.size_bytes,
            each.fixity.sha256,
            each.sidecar_sha256,
            milliseconds(each.archived_at),
            run_no,
        )
        coming = _Coming(place, columns, facts_of(recording), not recording.metadata)
        by_account[plain(recording.account_id)][plain(recording.recording_id)].append(coming)
    found = [Entering.KNOWN] * len(stored)
    tally = TallyChange()
    for account_id, by_recording in by_account.items():
        account_no = account_number(connection, account_id)
        changes = _Changes()
        _sort(connection, account_no, by_recording, changes, tally, found)
        _write(connection, account_no, changes)
    tally.write(connection)
    return found


def _run_numbers(connection: Connection, stored: Sequence[StoredRecording]) -> dict[str, int]:
    """The numbers of the runs that archived these; runs that the ledger doesn't know are noted, with no end."""
    began: dict[str, int] = {}
    for each in stored:
        run_id, at = plain(each.run_id), milliseconds(each.archived_at)
        began[run_id] = min(began.get(run_id, at), at)
    numbers: dict[str, int] = {}
    for portion in portions(list(began)):
        chosen = select(runs.c.run_id, runs.c.run_no).where(runs.c.run_id.in_(portion))
        numbers.update((row[0], row[1]) for row in connection.execute(chosen))
    for run_id in sorted(began.keys() - numbers.keys()):
        added = connection.execute(insert(runs).values(run_id=run_id, started_ms=began[run_id], report=b""))
        key = added.inserted_primary_key
        numbers[run_id] = key[0] if key is not None else 0
    return numbers


def _sort(
    connection: Connection,
    account_no: int,
    by_recording: dict[str, list[_Coming]],
    changes: _Changes,
    tally: TallyChange,
    found: list[Entering],
) -> None:
    known: dict[str, Any] = {}
    chosen = select(*(entries.c[name] for name in _KNOWN)).where(entries.c.account_no == account_no)
    for portion in portions(list(by_recording)):
        for row in connection.execute(chosen.where(entries.c.recording_id.in_(portion))):
            known[row.recording_id] = row
    former: defaultdict[int, dict[int, tuple[str, int, bytes]]] = defaultdict(dict)
    columns = former_versions.c
    for portion in portions([row.entry_id for row in known.values()]):
        before = select(columns.entry_id, columns.version, columns.key, columns.size_bytes, columns.sha256).where(
            columns.entry_id.in_(portion)
        )
        for entry_id, version, *identity in connection.execute(before):
            former[entry_id][version] = (identity[0], identity[1], identity[2])
    for recording_id, coming in by_recording.items():
        entry = known.get(recording_id)
        if entry is None:
            _insert(account_no, recording_id, _new(coming, {}, found, expired=False), changes, tally)
            continue
        have = former[entry.entry_id]
        if entry.status == Status.ARCHIVED.value:
            have[entry.version] = (entry.key, entry.size_bytes, entry.sha256)
        new = _new(coming, have, found, expired=entry.status == Status.EXPIRED.value)
        if new:
            _join(account_no, entry, new, changes, tally)


def _new(
    coming: Sequence[_Coming], have: dict[int, tuple[str, int, bytes]], found: list[Entering], *, expired: bool
) -> list[_Coming]:
    """Those that the ledger does not have, oldest version first; `found` says what became of each."""
    new = []
    for each in sorted(coming, key=lambda one: one.object.version):
        version, identity = each.object.version, each.object.identity
        if version in have:
            found[each.place] = Entering.KNOWN if have[version] == identity else Entering.DIFFERS
        elif expired:
            found[each.place] = Entering.EXPIRED
        else:
            have[version] = identity
            found[each.place] = Entering.ENTERED
            new.append(each)
    return new


def _insert(account_no: int, recording_id: str, new: list[_Coming], changes: _Changes, tally: TallyChange) -> None:
    """A recording that the ledger has never heard of."""
    *before, latest = new
    at = latest.object.archived_ms // 1000
    shared = (account_no, Status.ARCHIVED.value, latest.object.archived_run_no, at, 1, REBUILT)
    changes.fresh.append((*shared, recording_id, *latest.facts, *latest.object))
    changes.former_of_fresh += [(recording_id, each.object) for each in before]
    tally.add(account_no, Status.ARCHIVED.value, latest.object.size_bytes)


def _join(account_no: int, row: Any, new: list[_Coming], changes: _Changes, tally: TallyChange) -> None:
    """More versions of a recording that the ledger knows: the newest of all becomes, or stays, the current one."""
    latest = new[-1]
    is_archived = row.status == Status.ARCHIVED.value
    if latest.object.version > row.version or (latest.object.version == row.version and not is_archived):
        new = new[:-1]
        if is_archived:
            changes.former.append((row.entry_id, *(getattr(row, name) for name in _FORMER)))
        changes.current.append({"of_entry": row.entry_id, **_named(latest.object._asdict())})
        if not latest.bare:
            changes.facts.append({"of_entry": row.entry_id, **_named(latest.facts._asdict())})
        tally.remove(account_no, row.status, weight(row.size_bytes, row.length_bytes))
        tally.add(account_no, Status.ARCHIVED.value, latest.object.size_bytes)
    changes.former += [(row.entry_id, *each.object, None) for each in new]


def _named(values: dict[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in values.items()}


def _write(connection: Connection, account_no: int, changes: _Changes) -> None:
    insert_rows(connection, entries, _COLUMNS, changes.fresh)
    numbers: dict[str, int] = {}
    for portion in portions(sorted({recording_id for recording_id, _ in changes.former_of_fresh})):
        chosen = select(entries.c.recording_id, entries.c.entry_id).where(
            entries.c.account_no == account_no, entries.c.recording_id.in_(portion)
        )
        numbers.update((row[0], row[1]) for row in connection.execute(chosen))
    former = [(numbers[recording_id], *each, None) for recording_id, each in changes.former_of_fresh] + changes.former
    insert_rows(connection, former_versions, ("entry_id", *_FORMER), former)
    if changes.current:
        connection.execute(_UPDATE_OBJECT, changes.current)
        for portion in portions([each["of_entry"] for each in changes.current]):
            connection.execute(delete(listed_metadata).where(listed_metadata.c.entry_id.in_(portion)))
    if changes.facts:
        connection.execute(_UPDATE_FACTS, changes.facts)
