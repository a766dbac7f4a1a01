"""The ledgers that the contract suite holds to the promise, and what its tests are made of.

As a program (`python ledgers.py URL FIRST_PAGE`) it writes pages and outcomes until it is killed, and says on
stdout what the ledger promised to be durable.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.values import Attempt, Run, Settlement, Task, WindowProgress
from archiver.recording import Fixity, Recording, Status
from archiver.window import Window

NOON = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
DAY = Window(datetime(2026, 5, 6, tzinfo=UTC), datetime(2026, 5, 7, tzinfo=UTC))
PROGRESS = WindowProgress(pages=1, rows=3, cursor="next")
ACCOUNT = "0123456789abcdef0123456789abcdef"
SHA = bytes(range(32))
ROWS_PER_PAGE = 40

Counts = Mapping[tuple[str, str], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class LedgerKind:
    """A kind of ledger: its address in a folder, and how to look into its tables without it."""

    name: str
    url: Callable[[Path], str]
    ask: Callable[[Path, str], Sequence[tuple[object, ...]]]

    async def open(self, folder: Path) -> SqlLedger:
        return await open_ledger(self.url(folder))

    def counted(self, folder: Path) -> Counts:
        """Recordings and bytes by account and status, counted entry by entry."""
        return self._counts(
            folder,
            "SELECT account_id, status, count(*), sum(coalesce(size_bytes, length_bytes, 0)) "
            "FROM entries JOIN accounts USING (account_no) GROUP BY account_id, status",
        )

    def tallied(self, folder: Path) -> Counts:
        """The same as the ledger keeps it."""
        return self._counts(
            folder,
            "SELECT account_id, status, recordings, bytes FROM tallies JOIN accounts USING (account_no) "
            "WHERE recordings <> 0 OR bytes <> 0",
        )

    def _counts(self, folder: Path, query: str) -> Counts:
        return {(str(row[0]), str(row[1])): (int(str(row[2])), int(str(row[3]))) for row in self.ask(folder, query)}


def _ask_sqlite(folder: Path, query: str) -> Sequence[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{folder}/ledger.sqlite3?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def _postgresql_url(folder: Path) -> str:
    from postgres_server import postgres, schema_of

    return postgres().url(schema_of(folder))


def _ask_postgresql(folder: Path, query: str) -> Sequence[tuple[object, ...]]:
    from postgres_server import postgres, schema_of

    return postgres().ask(schema_of(folder), query)


SQLITE = LedgerKind("sqlite", lambda folder: f"sqlite:///{folder}/ledger.sqlite3", _ask_sqlite)
POSTGRESQL = LedgerKind("postgresql", _postgresql_url, _ask_postgresql)
KINDS = (SQLITE, POSTGRESQL)


def recording(
    recording_id: str = "202605-a",
    *,
    account_id: str = ACCOUNT,
    start_at: datetime | None = NOON,
    length_bytes: int | None = 1000,
    digest_md5: bytes | None = None,
    metadata: bytes = b'{"k": 1}',
    duration_ms: int | None = 61_000,
    doubt: str = "",
) -> Recording:
    return Recording(
        account_id=account_id,
        recording_id=recording_id,
        start_at=start_at,
        saved_at=NOON + timedelta(minutes=3),
        duration_ms=duration_ms,
        length_bytes=length_bytes,
        digest_md5=digest_md5,
        extension="mp3",
        metadata=metadata,
        doubt=doubt,
    )


def archived(task: Task, *, size_bytes: int = 1000, sha256: bytes = SHA) -> Settlement:
    return Settlement(
        task.entry_id,
        Status.ARCHIVED,
        attempts=task.attempts + 1,
        key=f"{task.recording.recording_id}.v{task.version}.mp3",
        fixity=Fixity(size_bytes, sha256),
        archived_at=NOON,
    )


def failed(task: Task, status: Status, *, next_attempt_at: datetime | None = None, retries_used: int = 1) -> Settlement:
    number = task.attempts + 1
    return Settlement(
        task.entry_id,
        status,
        attempts=number,
        failures=[Attempt(number, NOON, "not_there", "the PBX has no media")],
        reason="not_there",
        detail="the PBX has no media",
        next_attempt_at=next_attempt_at,
        retries_used=retries_used,
        fixity=Fixity(7, SHA) if status is Status.QUARANTINED else None,
    )


async def list_page(
    ledger: SqlLedger, run: Run, *rows: Recording, retry_missing: bool = False, at: datetime = NOON
) -> Sequence[Task]:
    """One page of the day; its tasks."""
    page = await ledger.record_page(run, ACCOUNT, DAY, rows, PROGRESS, at=at, retry_missing=retry_missing)
    return page.tasks


def page_rows(page: int) -> list[Recording]:
    return [recording(f"202605-{page:06d}-{row:04d}") for row in range(ROWS_PER_PAGE)]


def page_window(page: int) -> Window:
    start = DAY.start_at + timedelta(hours=page)
    return Window(start, start + timedelta(hours=1))


async def _write_until_killed(url: str, first_page: int) -> None:
    def say(what: str, page: int) -> None:
        sys.stdout.write(f"{what} {page}\n")
        sys.stdout.flush()

    ledger = await open_ledger(url)
    run = await ledger.begin_run(f"run-{first_page}", started_at=NOON)
    for page in range(first_page, first_page + 1000):
        window, rows = page_window(page), page_rows(page)
        await ledger.ask_for(ACCOUNT, [window])
        progress = WindowProgress(1, len(rows), f"after {page}")
        found = await ledger.record_page(run, ACCOUNT, window, rows, progress, at=NOON)
        say("listed", page)
        for task in found.tasks:
            await ledger.settle(run, archived(task))
        if page % 2:
            await ledger.flush()
            say("archived", page)


if __name__ == "__main__":
    asyncio.run(_write_until_killed(sys.argv[1], int(sys.argv[2])))
