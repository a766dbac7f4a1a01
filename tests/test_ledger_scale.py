"""Ten million entries stay usable: by the indexes that queries use, and, in the campaign, by the clock.

`ARCHIVER_CAMPAIGN=1 pytest -m campaign tests/test_ledger_scale.py -s --timeout 0` prints the times; it takes 5 GB.
"""

import os
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from archiver.ledger import schema
from archiver.ledger.claims import claim_due
from archiver.ledger.history import read_histories
from archiver.ledger.ledger import open_ledger
from archiver.ledger.pages import Page, classify_page, record_page
from archiver.ledger.pieces import Span
from archiver.ledger.reading import read_statuses, read_summaries
from archiver.ledger.settling import settled_of, write_settled
from archiver.ledger.sqlite import SqliteBackend
from archiver.ledger.values import WindowProgress

sys.path.insert(0, str(Path(__file__).parent / "contracts"))

from ledgers import ACCOUNT, DAY, NOON, PROGRESS, archived, recording

NOON_S = int(NOON.timestamp())
# One in a hundred waits: half of those pending and due, half quarantined and due later. Ids are random within a month.
FILL = """
INSERT INTO entries (account_no, recording_id, status, run_no, listed_at, start_at, saved_at, duration_ms, length_bytes,
                     extension, key, size_bytes, sha256, archived_ms, archived_run_no, attempts, next_attempt_at)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
SELECT 1 + (n % 7 = 0), printf('2026%02d-', 1 + n * 12 / (:count + 1)) || lower(hex(randomblob(16))),
       CASE n % 200 WHEN 0 THEN 'pending' WHEN 1 THEN 'quarantined' ELSE 'archived' END,
       1, :noon, :noon - :count + n, :noon, 61000, 500000, 'mp3',
       CASE WHEN n % 200 < 2 THEN '' ELSE :account || '/2026/05/06/202605-0123456789abcdef0123456789abcdef.mp3' END,
       CASE WHEN n % 200 < 2 THEN NULL ELSE 500000 END,
       CASE WHEN n % 200 < 2 THEN NULL ELSE randomblob(32) END, :noon * 1000, 1, 1,
       CASE n % 200 WHEN 0 THEN :noon - n % 86400 WHEN 1 THEN :noon + 1 + n % 86400 END
FROM numbers
"""
TALLY = """
INSERT INTO tallies (account_no, status, recordings, bytes)
SELECT account_no, status, count(*), sum(coalesce(size_bytes, length_bytes)) FROM entries GROUP BY 1, 2
"""
CALENDAR = """
INSERT INTO calendar (account_no, start_at, end_at, state, scanned_at)
WITH RECURSIVE days(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM days WHERE n < 3649)
SELECT account_no, :noon - (3650 - n) * 86400, :noon - (3649 - n) * 86400, 'complete', :noon FROM days, accounts
"""


async def fill(path: Path, count: int) -> None:
    await (await open_ledger(f"sqlite:///{path}")).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("INSERT INTO accounts (account_id) VALUES (?), ('other')", [ACCOUNT])
    connection.execute("INSERT INTO runs (run_id, started_ms, report) VALUES ('r', 0, x'')")
    connection.execute(FILL, {"count": count, "noon": NOON_S, "account": ACCOUNT})
    connection.execute(TALLY)
    connection.execute(CALENDAR, {"noon": NOON_S})
    connection.commit()
    connection.close()


def ids(path: Path, count: int) -> list[str]:
    connection = sqlite3.connect(path)
    query = "SELECT recording_id FROM entries WHERE account_no = 1 AND status = 'archived' AND entry_id % 97 = 3"
    found = [str(row[0]) for row in connection.execute(f"{query} LIMIT ?", [count])]
    connection.close()
    return found


async def test_every_query_goes_through_an_index(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    await fill(path, 100_000)
    names = ids(path, 500)
    backend = SqliteBackend(path, busy_timeout_s=1)
    connection = backend.connect(create=False)
    schema.prepare(connection, backend)
    asked: dict[str, Any] = {}

    def note(*call: Any) -> None:
        asked.setdefault(str(call[2]), call[3][0] if call[5] and isinstance(call[3], list) else call[3])

    event.listen(connection, "before_cursor_execute", note)
    backend.begin(connection, write=True)
    do_everything(connection, names)
    event.remove(connection, "before_cursor_execute", note)
    plans = {
        statement: [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
        for statement, values in asked.items()
        if statement.split()[0] in {"SELECT", "UPDATE", "DELETE", "INSERT"}
    }
    connection.rollback()
    connection.close()
    assert len(plans) > 20
    for statement, plan in plans.items():
        walks = [
            step
            for step in plan
            if step.startswith("SCAN") and not any(word in step for word in ("accounts", "settling", "CONSTANT"))
        ]
        assert not walks, (statement, plan)
        if "FROM entries" in statement and "settling" not in statement:
            assert not any("TEMP B-TREE" in step for step in plan), (statement, plan)
    used = " ".join(step for plan in plans.values() for step in plan)
    for index in ("entries_due", "entries_pending", "sqlite_autoindex_entries_1"):
        assert index in used


def do_everything(connection: Connection, names: list[str]) -> None:
    read_summaries(connection, [])
    read_statuses(connection, ACCOUNT, names)
    read_histories(connection, names[0])
    due = claim_due(connection, 2, ACCOUNT, at=NOON_S, limit=100)
    assert len(due) == 100
    rows = [recording(name, length_bytes=500_000) for name in names[:300]]
    rows += [recording(name, length_bytes=7) for name in names[300:]] + [recording("new")]
    classify_page(connection, ACCOUNT, rows)
    span = Span(int(DAY.start_at.timestamp()), int(DAY.end_at.timestamp()))
    page = record_page(connection, Page(3, ACCOUNT, span, rows, PROGRESS, NOON_S, retry_missing=False))
    assert (len(page.tasks), page.changed) == (201, 200)
    write_settled(connection, [settled_of(3, archived(task)) for task in page.tasks])


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="runs behind `make campaign`")
async def test_ten_million_entries_answer_within_a_second(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    took: dict[str, float] = {}
    start = time.perf_counter()
    await fill(path, 10_000_000)
    took["fill"] = time.perf_counter() - start
    names = ids(path, 10_000)

    async def timed(name: str, call: Callable[[], Awaitable[object]]) -> None:
        begun = time.perf_counter()
        await call()
        took[name] = max(took.get(name, 0.0), time.perf_counter() - begun)

    begun = time.perf_counter()
    ledger = await open_ledger(f"sqlite:///{path}")
    took["open"] = time.perf_counter() - begun
    run = await ledger.begin_run("r", started_at=NOON)
    for _ in range(3):
        await timed("summaries", ledger.summaries)
        await timed("claim_due 1000", lambda: ledger.claim_due(run, ACCOUNT, at=NOON, limit=1000))
    for turn in range(10):
        rows = [recording(name, length_bytes=500_000) for name in names[turn * 1000 : turn * 1000 + 1000]]
        progress = WindowProgress(turn, len(rows), "c")
        await timed("record_page 1000 known", lambda: ledger.record_page(run, ACCOUNT, DAY, rows, progress, at=NOON))  # noqa: B023
        rows = [recording(f"202605-new-{turn}-{number}") for number in range(1000)]
        await timed("record_page 1000 new", lambda: ledger.record_page(run, ACCOUNT, DAY, rows, progress, at=NOON))  # noqa: B023
    await timed("flush", ledger.flush)
    begun, count = time.perf_counter(), 0
    async for _ in ledger.objects():
        count += 1
    took[f"archived, {count} objects"] = time.perf_counter() - begun
    await timed("close", ledger.close)
    sys.stdout.write(f"\n{path.stat().st_size / 1e9:.2f} GB\n")
    sys.stdout.write("".join(f"{name}: {seconds:.3f} s\n" for name, seconds in took.items()))
    path.unlink()
    for name in ("open", "summaries", "claim_due 1000"):
        assert took[name] < 1.0, took
