"""What the ledger has for an export: recordings of every status, a batch at a time, each a short read of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, RowMapping, func, select

from archiver.ledger.backend import portions
from archiver.ledger.columns import from_milliseconds, from_seconds, from_seconds_or_none, original, plain, seconds
from archiver.ledger.entries import find_metadata
from archiver.ledger.tables import accounts, entries, former_versions, runs
from archiver.ledger.values import Version
from archiver.ledger.values_exporting import KnownRecording, Sought
from archiver.recording import Fixity, Status

_called = func.coalesce(entries.c.start_at, entries.c.saved_at)
_dated = func.coalesce(_called, entries.c.archived_ms // 1000, entries.c.listed_at)
_chosen = select(entries, _called.label("called_at"), _dated.label("dated_at"))


@dataclass(frozen=True, slots=True)
class Batch:
    """Recordings in the order in which they were first listed, and the number to go on after."""

    recordings: Sequence[KnownRecording]
    last: int


def read_batch(connection: Connection, sought: Sought, *, after: int, limit: int) -> Batch:
    """Up to `limit` recordings after an entry's number; none at the end."""
    names = _accounts(connection, sought)
    # The sum keeps the planner from the index of accounts, by which it would sort all of them for each batch.
    wanted = [entries.c.entry_id > after, (entries.c.account_no + 0).in_(list(names)), *_in_period(sought)]
    chosen = _chosen.where(*wanted).order_by(entries.c.entry_id).limit(limit)
    rows = list(connection.execute(chosen).mappings())
    return Batch(_recordings(connection, rows, names), rows[-1]["entry_id"] if rows else after)


def read_named(connection: Connection, sought: Sought, recording_ids: Sequence[str]) -> Sequence[KnownRecording]:
    """Those of some ids, as many as one statement takes, found by the index."""
    names = _accounts(connection, sought)
    named = entries.c.recording_id.in_([plain(each) for each in recording_ids])
    wanted = [entries.c.account_no.in_(list(names)), named, *_in_period(sought)]
    rows = list(connection.execute(_chosen.where(*wanted).order_by(entries.c.entry_id)).mappings())
    return _recordings(connection, rows, names)


def _accounts(connection: Connection, sought: Sought) -> dict[int, str]:
    """The ids of the accounts sought, by number."""
    found = {
        row[0]: original(row[1]) for row in connection.execute(select(accounts.c.account_no, accounts.c.account_id))
    }
    return {number: name for number, name in found.items() if not sought.account_ids or name in sought.account_ids}


def _in_period(sought: Sought) -> list[ColumnElement[bool]]:
    if sought.period is None:
        return []
    return [_dated >= seconds(sought.period.start_at), _dated < seconds(sought.period.end_at)]


def _recordings(
    connection: Connection, rows: Sequence[RowMapping], accounts_of: dict[int, str]
) -> list[KnownRecording]:
    numbers = [row["entry_id"] for row in rows]
    former: dict[int, list[Row[Any]]] = {}
    for portion in portions(numbers):
        earlier = select(former_versions).where(
            former_versions.c.entry_id.in_(portion), former_versions.c.damaged_ms.is_(None)
        )
        for each in connection.execute(earlier.order_by(former_versions.c.version)):
            former.setdefault(each.entry_id, []).append(each)
    runs_of = {row["archived_run_no"] for row in rows} | {e.archived_run_no for group in former.values() for e in group}
    run_ids: dict[int, str] = {}
    for portion in portions(sorted(number for number in runs_of if number)):
        named = select(runs.c.run_no, runs.c.run_id).where(runs.c.run_no.in_(portion))
        run_ids |= {number: original(run_id) for number, run_id in connection.execute(named)}
    metadata = find_metadata(connection, numbers)
    return [
        _recording(row, [each._mapping for each in former.get(row["entry_id"], ())], accounts_of, run_ids, metadata)  # noqa: SLF001
        for row in rows
    ]


def _recording(
    row: RowMapping,
    former: Sequence[RowMapping],
    accounts_of: dict[int, str],
    run_ids: dict[int, str],
    metadata: dict[int, bytes],
) -> KnownRecording:
    status = Status(row["status"])
    objects = [] if status is Status.EXPIRED else [_version(each, run_ids) for each in former]
    if status is Status.ARCHIVED:
        objects.append(_version(row, run_ids))
    return KnownRecording(
        account_id=accounts_of[row["account_no"]],
        recording_id=original(row["recording_id"]),
        status=status,
        called_at=from_seconds_or_none(row["called_at"]),
        dated_at=from_seconds(int(row["dated_at"])),
        duration_ms=row["duration_ms"],
        reason=original(row["reason"]),
        flags=original(row["flags"]),
        metadata=metadata.get(row["entry_id"], b""),
        objects=objects,
    )


def _version(row: RowMapping, run_ids: dict[int, str]) -> Version:
    return Version(
        version=row["version"],
        key=original(row["key"]),
        fixity=Fixity(row["size_bytes"], row["sha256"]),
        sidecar_sha256=row["sidecar_sha256"],
        archived_at=from_milliseconds(row["archived_ms"]),
        run_id=run_ids.get(row["archived_run_no"], ""),
        manifest_part=row["manifest_part"],
    )
