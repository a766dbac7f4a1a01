"""Everything the ledger knows of one recording, for `explain`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, select

from archiver.ledger.columns import from_milliseconds, from_seconds, from_seconds_or_none, original, plain
from archiver.ledger.entries import find_metadata
from archiver.ledger.retention import read_tombstone
from archiver.ledger.tables import accounts, attempts, entries, former_versions, runs
from archiver.ledger.values import Attempt, History, Tried, Version
from archiver.recording import Fixity, Status


def read_histories(connection: Connection, recording_id: str) -> Sequence[History]:
    """See the ledger's promise."""
    found = []
    for account_no, account_id in connection.execute(select(accounts.c.account_no, accounts.c.account_id)).all():
        chosen = select(entries).where(
            entries.c.account_no == account_no, entries.c.recording_id == plain(recording_id)
        )
        row = connection.execute(chosen).mappings().one_or_none()
        if row is not None:
            found.append(_history(connection, original(account_id), row))
    return found


def _history(connection: Connection, account_id: str, row: RowMapping) -> History:
    names = {run_no: original(run_id) for run_no, run_id in connection.execute(_run_names(row))}
    former = connection.execute(
        select(former_versions).where(former_versions.c.entry_id == row["entry_id"]).order_by(former_versions.c.version)
    )
    versions = [_version(each, names) for each in former.mappings()]
    has_object = row["status"] == Status.ARCHIVED.value or row["status"] == Status.EXPIRED.value
    if has_object and row["key"] and row["sha256"] is not None:
        versions.append(_version(row, names))
    return History(
        account_id=account_id,
        recording_id=original(row["recording_id"]),
        status=Status(row["status"]),
        listed_at=from_seconds(row["listed_at"]),
        start_at=from_seconds_or_none(row["start_at"]),
        saved_at=from_seconds_or_none(row["saved_at"]),
        duration_ms=row["duration_ms"],
        length_bytes=row["length_bytes"],
        digest_md5=row["digest_md5"],
        versions=versions,
        tries=_tries(connection, row, names),
        tries_count=row["attempts"],
        reason=original(row["reason"]),
        detail=original(row["detail"]),
        flags=original(row["flags"]).split(),
        next_attempt_at=from_seconds_or_none(row["next_attempt_at"]),
        quarantined_sha256=row["quarantined_sha256"],
        last_run_id=names.get(row["run_no"], ""),
        tombstone=read_tombstone(connection, row["entry_id"]),
        metadata=find_metadata(connection, [row["entry_id"]]).get(row["entry_id"], b""),
    )


def _run_names(row: RowMapping) -> Select[*tuple[Any, ...]]:
    """The runs that have to do with an entry."""
    tried = select(attempts.c.run_no).where(attempts.c.entry_id == row["entry_id"])
    before = select(former_versions.c.archived_run_no).where(former_versions.c.entry_id == row["entry_id"])
    own = [row["run_no"], row["archived_run_no"]]
    return select(runs.c.run_no, runs.c.run_id).where(
        runs.c.run_no.in_(tried) | runs.c.run_no.in_(before) | runs.c.run_no.in_([each for each in own if each])
    )


def _version(row: RowMapping, names: dict[int, str]) -> Version:
    return Version(
        version=row["version"],
        key=original(row["key"]),
        fixity=Fixity(row["size_bytes"], row["sha256"]),
        sidecar_sha256=row["sidecar_sha256"],
        archived_at=from_milliseconds(row["archived_ms"]),
        run_id=names.get(row["archived_run_no"], ""),
        damaged_at=None if row.get("damaged_ms") is None else from_milliseconds(row["damaged_ms"]),
        manifest_part=row["manifest_part"],
    )


def _tries(connection: Connection, row: RowMapping, names: dict[int, str]) -> list[Tried]:
    chosen = select(attempts).where(attempts.c.entry_id == row["entry_id"]).order_by(attempts.c.attempt_no)
    return [
        Tried(
            Attempt(each["number"], from_seconds(each["at"]), original(each["reason"]), original(each["detail"])),
            names.get(each["run_no"], ""),
        )
        for each in connection.execute(chosen).mappings()
    ]
