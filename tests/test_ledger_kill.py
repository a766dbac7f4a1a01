"""A process that writes the ledger is killed at random moments: what was promised is there, and pages are whole."""

import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "contracts"))

import ledgers
import pytest
from ledgers import ACCOUNT, DAY, KINDS, ROWS_PER_PAGE, LedgerKind, page_rows

from archiver.recording import Status

ROUNDS = 10


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_a_killed_writer_loses_nothing_that_was_promised(kind: LedgerKind, tmp_path: Path) -> None:
    chance = random.Random(20260506)
    promised: list[tuple[str, int]] = []
    rounds = ROUNDS if kind.name == "sqlite" else 4
    for turn in range(rounds):
        first_page = turn * 1000
        said = write_and_kill(kind.url(tmp_path), first_page, after_s=chance.uniform(0.0, 0.25))
        assert said, "the child was killed before it wrote anything"
        promised += said
        listed, statuses = asyncio.run(look(kind, tmp_path, [page for _, page in said]))
        for what, page in said:
            found = [statuses.get(row.recording_id) for row in page_rows(page)]
            assert None not in found
            assert what == "listed" or set(found) == {Status.ARCHIVED}
        assert kind.tallied(tmp_path) == kind.counted(tmp_path)
        check_pages_are_whole(kind, tmp_path)
        assert listed
    assert len(promised) > rounds


def write_and_kill(url: str, first_page: int, *, after_s: float) -> list[tuple[str, int]]:
    """What the child said before it was killed, a moment after its first promise."""
    command = [sys.executable, ledgers.__file__, url, str(first_page)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(after_s)
        child.kill()
        lines = [first, *child.stdout.readlines()]
    words = [line.split() for line in lines if line.endswith("\n")]
    return [(what, int(page)) for what, page in words]


async def look(kind: LedgerKind, folder: Path, pages: list[int]) -> tuple[int, dict[str, Status]]:
    """The number of calendar pieces, and the status of the pages' recordings, as the reopened ledger knows them."""
    ledger = await kind.open(folder)
    try:
        ids = [row.recording_id for page in set(pages) for row in page_rows(page)]
        return len(await ledger.calendar(ACCOUNT)), dict(await ledger.statuses(ACCOUNT, ids))
    finally:
        await ledger.close()


def check_pages_are_whole(kind: LedgerKind, folder: Path) -> None:
    """All of a page's rows and its window's progress, or neither."""
    start = int(DAY.start_at.timestamp())
    progress = {
        (int(str(begin)) - start) // 3600: rows
        for begin, rows in kind.ask(folder, "SELECT start_at, rows FROM calendar")
    }
    counted = kind.ask(folder, "SELECT CAST(substr(recording_id, 8, 6) AS INTEGER), count(*) FROM entries GROUP BY 1")
    assert {count for _, count in counted} == {ROWS_PER_PAGE}
    assert {page for page, rows in progress.items() if rows} == {page for page, _ in counted}
    assert set(progress.values()) <= {0, ROWS_PER_PAGE}
