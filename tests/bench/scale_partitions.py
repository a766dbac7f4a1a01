"""Whether `entries` had better be partitioned by account: two copies of it, one plain and one of 16 parts, side by side."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg

from .scale_rows import ACCOUNTS

_PARTS = 16
_PLAIN, _PARTED = "entries_plain", "entries_parted"
_FIRST_ACCOUNT = 100
_COPIED = "INSERT INTO {table} SELECT * FROM entries WHERE entry_id <= %s ORDER BY entry_id"

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Compared:
    """A statement on both: medians in milliseconds."""

    name: str
    about: str
    plain_ms: float
    parted_ms: float

    @property
    def row(self) -> list[str]:
        ratio = f"{self.parted_ms / self.plain_ms:.2f}"
        return [self.name, self.about, f"{self.plain_ms:,.1f}", f"{self.parted_ms:,.1f}", ratio]


def compared(url: str, *, rows: int, rounds: int) -> list[list[str]]:
    """Rows of a table; the two copies are dropped again."""
    with psycopg.connect(url, autocommit=True) as connection:
        _make(connection)
        try:
            found = [_filled(connection, rows), _size(connection, "pg_table_size", "rows")]
            found.append(_size(connection, "pg_indexes_size", "indexes"))
            found += [each.row for each in _statements(connection, rounds)]
            return found
        finally:
            connection.execute(f"DROP TABLE {_PLAIN}, {_PARTED}".encode())


def _make(connection: Connection) -> None:
    connection.execute(f"CREATE TABLE {_PLAIN} (LIKE entries INCLUDING ALL)".encode())
    connection.execute(
        f"CREATE TABLE {_PARTED} (LIKE entries INCLUDING DEFAULTS, PRIMARY KEY (entry_id, account_no), "
        "UNIQUE (account_no, recording_id)) PARTITION BY HASH (account_no)".encode()
    )
    for part in range(_PARTS):
        of = f"FOR VALUES WITH (MODULUS {_PARTS}, REMAINDER {part})"
        connection.execute(f"CREATE TABLE {_PARTED}_{part} PARTITION OF {_PARTED} {of}".encode())
    for index in (
        "(account_no, next_attempt_at, run_no) WHERE next_attempt_at IS NOT NULL",
        "(account_no, start_at) WHERE status = 'pending'",
        "(entry_id) WHERE manifest_part IS NULL AND archived_ms IS NOT NULL",
    ):
        connection.execute(f"CREATE INDEX ON {_PARTED} {index}".encode())
    connection.execute("CREATE TEMPORARY TABLE settling (entry_id bigint, status text)")


def _filled(connection: Connection, rows: int) -> list[str]:
    took_s = []
    for table in (_PLAIN, _PARTED):
        begun_s = time.monotonic()
        connection.execute(_COPIED.format(table=table).encode(), [rows])
        took_s.append(time.monotonic() - begun_s)
        connection.execute(f"VACUUM ANALYZE {table}".encode())
    return Compared("fill", f"{rows:,} rows in their order, ms for 1,000", *(1e6 * each / rows for each in took_s)).row


def _size(connection: Connection, how: str, name: str) -> list[str]:
    of = "FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace AND relname LIKE %s"
    plain, parted = (
        connection.execute(f"SELECT sum({how}(oid)) {of}".encode(), [f"{table}%"]).fetchone() or (0,)
        for table in (_PLAIN, _PARTED)
    )
    mib = [float(each[0]) / (1 << 20) for each in (plain, parted)]
    return ["size", f"{name}, MiB", *(f"{each:,.0f}" for each in mib), f"{mib[1] / mib[0]:.2f}"]


def _statements(connection: Connection, rounds: int) -> Iterator[Compared]:
    known = "SELECT * FROM {table} WHERE account_no = %(whose)s AND recording_id = ANY(%(ids)s)"
    settle = "UPDATE {table} AS e SET status = s.status, attempts = 2 FROM settling AS s WHERE e.entry_id = s.entry_id"
    claim = "UPDATE {table} SET run_no = 9999 WHERE entry_id = ANY(%(numbers)s)"
    due = (
        "SELECT * FROM {table} WHERE account_no = %(whose)s AND next_attempt_at <= 4000000000 AND run_no <> 9999 "
        "ORDER BY next_attempt_at LIMIT 200"
    )
    one = "SELECT * FROM {table} WHERE entry_id = %(number)s"
    whole = "SELECT count(*) FROM {table} WHERE account_no = %(whose)s AND coalesce(start_at, saved_at) < 0"
    for name, about, query in (
        ("record_page", "500 rows by account and recording", known),
        ("record_page", "claims of 500 by number", claim),
        ("record_page", "the same, the account given, too", f"{claim} AND account_no = %(whose)s"),
        ("settle", "500 outcomes by number", settle),
        ("settle", "the same, the account given, too", f"{settle} AND e.account_no = %(whose)s"),
        ("claim_due", "200 tasks of an account", due),
        ("explain", "one entry by number", one),
        ("standings_of", "all entries of an account", whole),
    ):
        times: dict[str, list[float]] = {_PLAIN: [], _PARTED: []}
        for turn in range(rounds):
            given = _given(connection, _FIRST_ACCOUNT + turn % (ACCOUNTS - _FIRST_ACCOUNT))
            for table, took_ms in times.items():
                took_ms.append(_took_ms(connection, query.format(table=table), given))
        yield Compared(name, about, median(times[_PLAIN]), median(times[_PARTED]))


def _given(connection: Connection, account: int) -> dict[str, object]:
    found = connection.execute(
        f"SELECT entry_id, recording_id FROM {_PLAIN} WHERE account_no = %s ORDER BY recording_id LIMIT 500".encode(),
        [account],
    ).fetchall()
    numbers, ids = [row[0] for row in found], [row[1] for row in found]
    connection.execute("TRUNCATE settling")
    connection.execute("INSERT INTO settling SELECT unnest(%s::bigint[]), 'archived'", [numbers])
    return {"whose": account, "ids": ids, "numbers": numbers, "number": numbers[0]}


def _took_ms(connection: Connection, query: str, given: dict[str, object]) -> float:
    """One statement, undone again."""
    with connection.transaction(force_rollback=True):
        begun_s = time.monotonic()
        connection.execute(query.encode(), given)
        return 1000 * (time.monotonic() - begun_s)
