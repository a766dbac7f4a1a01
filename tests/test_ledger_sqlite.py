"""A ledger in an SQLite file: who may read it, what it refuses, and what it says when the disk or the file fails."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from archiver.errors import ExitCode, LedgerError, Severity
from archiver.ledger import complaints
from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.sqlite import network_file_system
from archiver.recording import Status

sys.path.insert(0, str(Path(__file__).parent / "contracts"))

from ledgers import ACCOUNT, DAY, NOON, PROGRESS, SQLITE, archived, list_page, recording

SUFFIXES = ("", "-wal", "-shm")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


async def pragma(ledger: SqlLedger, statement: str) -> object:
    """Run a PRAGMA on the writer's own connection."""

    def ask(connection: Connection) -> object:
        result = connection.exec_driver_sql(statement)
        return result.scalar() if result.returns_rows else None

    return await ledger._writer.read(ask)


async def write_some(path: Path, count: int = 300) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    for task in await list_page(ledger, run, *(recording(f"202605-{number}") for number in range(count))):
        await ledger.settle(run, archived(task))
    await ledger.close()


def lay(path: Path, content: bytes | None = None, mode: int = 0o600) -> None:
    """Put a file there, without the log that an earlier one may have left."""
    for suffix in SUFFIXES[1:]:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)


def look(path: Path) -> bytes:
    """What lies there, nothing when there is no file."""
    return path.read_bytes() if path.exists() else b""


def make_folder(folder: Path) -> None:
    folder.mkdir()


def remove(path: Path) -> None:
    path.unlink()


def names_in(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


def lock_elsewhere(path: Path, for_s: float) -> subprocess.Popen[bytes]:
    """Another process that writes, and takes its time over it."""
    code = (
        "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('BEGIN IMMEDIATE')\nc.execute(\"INSERT INTO accounts (account_id) VALUES ('other')\")\n"
        "print('locked', flush=True)\ntime.sleep(float(sys.argv[2]))\nc.execute('COMMIT')\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path), str(for_s)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    return other


def modes(path: Path) -> set[int]:
    return {Path(f"{path}{suffix}").stat().st_mode & 0o777 for suffix in SUFFIXES}


# The file.


async def test_only_we_may_read_the_ledger_and_its_log(path: Path, loose_umask: None) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    await ledger.begin_run("r", started_at=NOON)
    assert modes(path) == {0o600}
    await ledger.close()


async def test_rights_that_others_were_given_are_taken_back(path: Path, loose_umask: None) -> None:
    await write_some(path, 1)
    lay(path, mode=0o644)
    ledger = await open_ledger(f"sqlite:///{path}")
    assert modes(path) == {0o600}
    await ledger.close()


async def test_a_commit_is_durable_when_it_returns(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    assert (await pragma(ledger, "PRAGMA journal_mode"), await pragma(ledger, "PRAGMA synchronous")) == ("wal", 2)
    await ledger.close()


async def test_a_closed_ledger_is_one_file(path: Path) -> None:
    await write_some(path, 3)
    assert names_in(path.parent) == [path.name]


async def test_the_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="does not exist"):
        await open_ledger(f"sqlite:///{tmp_path}/no/ledger.sqlite3")


async def test_without_create_nothing_is_made(path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger at"):
        await open_ledger(f"sqlite:///{path}", create=False)
    assert not look(path)


async def test_a_folder_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no file"):
        await open_ledger(f"sqlite:///{tmp_path}")


async def test_a_path_with_awkward_characters_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "50% ?mode=memory&x #1 é"
    make_folder(folder)
    await write_some(folder / "ledger.sqlite3", 1)
    assert names_in(folder) == ["ledger.sqlite3"]


@pytest.mark.parametrize(
    "url",
    ["", "x", "sqlite://", "sqlite:///:memory:", "sqlite://host/x", "sqlite:///\x00", "mysql://u:secret@h/x", "secret"],
)
async def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        await open_ledger(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/srv/a", "nfs4"),
        ("/srv/a/deeper", "nfs4"),
        ("/srv/ab", ""),
        ("/mnt/with space/x", "cifs"),
        ("/home", "fuse.sshfs"),
        ("/home/local", ""),
        ("/overlay", ""),
        ("/", ""),
    ],
)
def test_a_network_file_system_is_recognised(folder: str, kind: str) -> None:
    mounts = (
        "/dev/vda / ext4 rw 0 0\nhost:/a /srv/a nfs4 rw 0 0\n//h/s /mnt/with\\040space cifs rw 0 0\n"
        "me@h: /home fuse.sshfs rw 0 0\n/dev/vdb /home/local xfs rw 0 0\nx /overlay fuse.fuse-overlayfs rw 0 0\n\n"
    )
    assert network_file_system(Path(folder), mounts) == kind


async def test_a_ledger_on_a_network_file_system_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    lay(mounts, f"host:/x {tmp_path} nfs rw 0 0\n".encode())
    monkeypatch.setattr("archiver.ledger.sqlite._MOUNTS", mounts)
    with pytest.raises(LedgerError, match="network file system"):
        await open_ledger(f"sqlite:///{path}")
    assert not look(path)


# Faults 51 and 52.


async def test_it_waits_while_another_process_writes_and_loses_no_update(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    with lock_elsewhere(path, for_s=0.6):
        assert len(await list_page(ledger, run, recording())) == 1
    assert [summary.account_id for summary in await ledger.summaries()] == [ACCOUNT, "other"]
    await ledger.close()


async def test_a_lock_held_for_too_long_is_said_and_nothing_is_written(path: Path) -> None:
    await write_some(path, 1)
    ledger = await open_ledger(f"sqlite:///{path}", busy_timeout_s=0.1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for call in (ledger.begin_run("r", started_at=NOON), ledger.flush(), ledger.close()):
        with pytest.raises(LedgerError, match="another process kept it locked"):
            await call
    other.execute("COMMIT")
    assert other.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    other.close()


async def test_reading_goes_on_while_another_process_writes(path: Path) -> None:
    await write_some(path, 1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger = await open_ledger(f"sqlite:///{path}", busy_timeout_s=0.1)
    assert len(await ledger.summaries()) == 1
    assert len([entry async for entry in ledger.objects()]) == 1
    other.execute("ROLLBACK")
    other.close()
    await ledger.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [("PRAGMA max_page_count=1", "the disk is full"), ("PRAGMA query_only=1", "read-only")],
)
async def test_outcomes_that_could_not_be_written_are_an_error_of_every_later_call(
    path: Path, statement: str, said: str
) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    tasks = await list_page(ledger, run, *(recording(f"202605-{number}") for number in range(400)))
    await pragma(ledger, statement)
    for task in tasks:
        # Long keys need pages that the file may no longer grow by.
        await ledger.settle(run, replace(archived(task), key="k" * 900))
    for call in (
        ledger.flush(),
        ledger.statuses(ACCOUNT, ["x"]),
        ledger.settle(run, archived(tasks[0])),
        ledger.ask_for(ACCOUNT, [DAY]),
        ledger.close(),
    ):
        with pytest.raises(LedgerError, match=said) as caught:
            await call
        assert (caught.value.severity, caught.value.exit_code) == (Severity.FATAL, ExitCode.DESTINATION)
    assert SQLITE.counted(path.parent) == SQLITE.tallied(path.parent) == {(ACCOUNT, "pending"): (400, 400_000)}


async def test_a_page_that_could_not_be_written_leaves_none_of_its_rows(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    await pragma(ledger, "PRAGMA max_page_count=60")
    rows = [recording(f"202605-{number}", metadata=b"m" * 2000) for number in range(500)]
    with pytest.raises(LedgerError, match="the disk is full"):
        await ledger.record_page(run, ACCOUNT, DAY, rows, PROGRESS, at=NOON)
    with pytest.raises(LedgerError, match="the disk is full"):
        await ledger.close()
    assert SQLITE.ask(path.parent, "SELECT count(*) FROM entries") == [(0,)]
    assert SQLITE.tallied(path.parent) == {}


async def test_a_file_that_is_no_database_is_left_untouched(path: Path) -> None:
    lay(path, b"my diary\n" * 1000)
    with pytest.raises(LedgerError, match="no SQLite database"):
        await open_ledger(f"sqlite:///{path}")
    assert look(path) == b"my diary\n" * 1000


async def test_a_damaged_file_is_named_and_no_other_error_leaves(path: Path) -> None:
    await write_some(path)
    whole = look(path)
    said = set()
    for start in range(0, len(whole), 4096):
        lay(path, whole[:start] + b"\xa5" * 4096 + whole[start + 4096 :])
        try:
            await use_all(path)
        except LedgerError as error:
            said.add(str(error))
    assert any("damaged" in sentence for sentence in said)


async def use_all(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    try:
        run = await ledger.begin_run("r", started_at=NOON)
        await list_page(ledger, run, *(recording(f"202605-{number}") for number in range(350)))
        await ledger.claim_due(run, ACCOUNT, at=NOON, limit=9)
        await ledger.summaries()
        _ = [entry async for entry in ledger.objects()]
    finally:
        await ledger.close()


@pytest.mark.parametrize("put_back", [False, True])
async def test_a_ledger_that_is_removed_or_replaced_under_our_feet_stops_us(path: Path, put_back: bool) -> None:
    await write_some(path, 3)
    ledger = await open_ledger(f"sqlite:///{path}")
    backup = path.with_suffix(".backup")
    lay(backup, look(path))
    if put_back:
        backup.replace(path)
    else:
        remove(path)
        with pytest.raises(LedgerError):
            _ = [entry async for entry in ledger.objects()]
    for call in (ledger.begin_run("r", started_at=NOON), ledger.close()):
        with pytest.raises(LedgerError, match="removed or replaced"):
            await call


def test_each_kind_of_sqlite_error_has_its_sentence() -> None:
    names = [name for name in dir(sqlite3) if name.startswith("SQLITE_") and isinstance(getattr(sqlite3, name), int)]
    kinds = {getattr(sqlite3, name) for name in names if is_result_code(name)}
    failures = {
        code for code in kinds if code & 0xFF not in {sqlite3.SQLITE_OK, sqlite3.SQLITE_ROW, sqlite3.SQLITE_DONE}
    }
    assert len(kinds) > 25
    for code in failures:
        assert code & 0xFF in complaints.SENTENCES
        error = sqlite3.OperationalError("said")
        error.sqlite_errorcode, error.sqlite_errorname = code, "SQLITE_X"
        wrapped = DBAPIError("SELECT ?", ("+49 30 1234",), error)
        for found in (complaints.explain("/x", error), complaints.explain("/x", wrapped)):
            assert complaints.SENTENCES[code & 0xFF] in str(found)
            assert "1234" not in str(found)


def is_result_code(name: str) -> bool:
    """Whether it names a result, not a limit, an action of an authorizer or a setting."""
    primary = (
        "ERROR INTERNAL PERM ABORT BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT NOTFOUND FULL CANTOPEN PROTOCOL "
        "EMPTY SCHEMA TOOBIG CONSTRAINT MISMATCH MISUSE NOLFS AUTH FORMAT RANGE NOTADB NOTICE WARNING OK ROW DONE"
    )
    return name.removeprefix("SQLITE_").split("_")[0] in primary.split()


@pytest.mark.parametrize("error", [SQLAlchemyError("+49 30 1234"), OSError(28, "No space left"), sqlite3.Error("odd")])
def test_other_errors_of_the_driver_become_the_ledgers_own(error: Exception) -> None:
    found = complaints.explain("/x", error)
    assert isinstance(found, LedgerError)
    assert "/x" in str(found)
    assert "1234" not in str(found)


# The writer.


async def test_outcomes_become_durable_soon_without_a_flush(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, archived(task))
    deadline = time.monotonic() + 5
    while SQLITE.ask(path.parent, "SELECT status FROM entries") != [("archived",)]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await ledger.close()


async def test_a_full_backlog_makes_workers_wait_and_a_cancelled_one_hands_over_nothing(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    tasks = await list_page(ledger, run, *(recording(f"202605-{number}") for number in range(8)))
    ledger._writer._backlog_count = 4
    gate = threading.Event()

    def hold(_: Connection) -> None:
        gate.wait(30)

    holding = asyncio.ensure_future(ledger._writer.read(hold))
    await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(ledger.settle(run, archived(task))) for task in tasks]
    await asyncio.sleep(0.05)
    assert [settling.done() for settling in waiting] == [True] * 4 + [False] * 4
    waiting[-1].cancel()
    await asyncio.sleep(0)
    gate.set()
    await holding
    await asyncio.gather(*waiting, return_exceptions=True)
    statuses = await ledger.statuses(ACCOUNT, [task.recording.recording_id for task in tasks])
    assert list(statuses.values()).count(Status.ARCHIVED) == 7
    assert statuses["202605-7"] is Status.PENDING
    await ledger.close()


async def test_a_page_whose_caller_is_cancelled_is_written_all_the_same(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    gate = threading.Event()

    def hold(_: Connection) -> None:
        gate.wait(30)

    holding = asyncio.ensure_future(ledger._writer.read(hold))
    listing = asyncio.ensure_future(list_page(ledger, run, recording()))
    await asyncio.sleep(0)
    listing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listing
    gate.set()
    await holding
    assert await ledger.statuses(ACCOUNT, ["202605-a"]) == {"202605-a": Status.PENDING}
    await ledger.close()


async def test_many_outcomes_share_a_transaction(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    tasks = await list_page(ledger, run, *(recording(f"202605-{number}") for number in range(1200)))
    batches: list[int] = []
    write = ledger._writer._write_outcomes

    def count(connection: Connection, batch: object) -> None:
        assert isinstance(batch, list)
        batches.append(len(batch))
        write(connection, batch)

    ledger._writer._write_outcomes = count
    for task in tasks:
        await ledger.settle(run, archived(task))
    await ledger.close()
    assert batches == [500, 500, 200]


async def test_a_bug_while_writing_outcomes_is_not_passed_over(path: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("r", started_at=NOON)
    (task,) = await list_page(ledger, run, recording())

    def fail(_: Connection, __: object) -> None:
        raise ZeroDivisionError

    ledger._writer._write_outcomes = fail
    await ledger.settle(run, archived(task))
    for call in (ledger.flush, ledger.close):
        with pytest.raises(LedgerError, match="writer failed on 1 outcomes: ZeroDivisionError"):
            await call()
