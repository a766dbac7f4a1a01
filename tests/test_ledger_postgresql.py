"""The ledger in PostgreSQL beyond the common promise: several writers at once, lost connections, accounts that are held."""

import asyncio
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from archive_rig import until
from ledgers import ACCOUNT, DAY, NOON, POSTGRESQL, PROGRESS, SHA, archived, failed, list_page, recording
from postgres_proxy import Cut, wire
from postgres_server import PASSWORD, PostgresServer, give_to_owner, postgres, schema_of
from sqlalchemy import Connection

from archiver.errors import AccountTaken, ArchiveInUse, ExitCode, LedgerError, LedgerTooNew
from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.values import ArchivedEntry, Outcome, Run, Task, WindowState
from archiver.ledger.values_reconciling import CdrFile
from archiver.ledger.values_retention import Expiry, TombstoneKind
from archiver.recording import Fixity, Status

END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
HELD = "SELECT classid, objid FROM pg_locks WHERE locktype = 'advisory' AND granted ORDER BY 1, 2"

WRITER = """
import asyncio, random, sys
from ledgers import DAY, NOON, PROGRESS, archived, recording
from archiver.ledger.ledger import open_ledger

async def write(url, run_id, accounts):
    ledger = await open_ledger(url)
    run = await ledger.begin_run(run_id, started_at=NOON)
    pages = [(account, page) for account in accounts.split(",") for page in range(8)]
    random.Random(run_id).shuffle(pages)
    for account, page in pages:
        rows = [recording(f"202605-{page}-{row}", account_id=account) for row in range(20)]
        await ledger.ask_for(account, [DAY])
        for task in (await ledger.record_page(run, account, DAY, rows, PROGRESS, at=NOON)).tasks:
            await ledger.settle(run, archived(task))
    await ledger.close()

asyncio.run(write(*sys.argv[1:]))
"""
HOLDER = """
import asyncio, sys
from ledgers import NOON
from archiver.ledger.ledger import open_ledger

async def hold(url, account):
    ledger = await open_ledger(url)
    await ledger.hold_accounts(await ledger.begin_run("holder", started_at=NOON), [account, "another"])
    print("held", flush=True)
    await asyncio.sleep(600)

asyncio.run(hold(*sys.argv[1:]))
"""


@pytest.fixture
def server() -> PostgresServer:
    return postgres()


@pytest.fixture
def url(server: PostgresServer, tmp_path: Path) -> str:
    return server.url(schema_of(tmp_path))


def child(code: str, *words: str) -> "subprocess.Popen[str]":
    with_tests = f"import sys; sys.path.insert(0, {str(Path(__file__).parent / 'contracts')!r})\n{code}"
    return subprocess.Popen([sys.executable, "-c", with_tests, *words], stdout=subprocess.PIPE, text=True)


def test_processes_that_write_the_same_and_other_accounts_at_once_count_each_recording_once(
    url: str, tmp_path: Path
) -> None:
    children = [child(WRITER, url, "one", "a,b"), child(WRITER, url, "two", "a,c"), child(WRITER, url, "three", "b,a")]
    for each in children:
        each.communicate()
    assert [each.returncode for each in children] == [0, 0, 0]
    assert POSTGRESQL.counted(tmp_path) == {(account, "archived"): (160, 160_000) for account in "abc"}
    assert POSTGRESQL.tallied(tmp_path) == POSTGRESQL.counted(tmp_path)
    assert POSTGRESQL.ask(tmp_path, "SELECT count(*) FROM calendar") == [(3,)]
    assert POSTGRESQL.ask(tmp_path, "SELECT count(*) FROM writers") == [(0,)]


def test_processes_that_create_the_ledger_at_once_all_get_it(url: str, tmp_path: Path) -> None:
    children = [child(WRITER, url, str(number), "a") for number in range(3)]
    for each in children:
        each.communicate()
    assert [each.returncode for each in children] == [0, 0, 0]
    assert POSTGRESQL.ask(tmp_path, "SELECT account_id FROM accounts") == [("a",)]


async def test_restarts_of_the_server_lose_nothing_and_do_nothing_twice(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    ledger = await open_ledger(url, patience_s=60)
    run = await ledger.begin_run("r", started_at=NOON)
    await ledger.hold_accounts(run, [ACCOUNT])
    stop = asyncio.Event()

    async def write() -> int:
        page = 0
        while not stop.is_set():
            rows = [recording(f"202605-{page}-{row}") for row in range(20)]
            for task in await list_page(ledger, run, *rows):
                await ledger.settle(run, failed(task, Status.MISSING))
            page += 1
        await ledger.flush()
        return page

    async with asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        for _ in range(3):
            await asyncio.to_thread(server.control, "restart", "-m", "immediate")
            async with asyncio.timeout(60):
                await ledger.statuses(ACCOUNT, ["once more"])
        stop.set()
    count = writing.result() * 20
    assert count > 0
    assert POSTGRESQL.counted(tmp_path) == POSTGRESQL.tallied(tmp_path) == {(ACCOUNT, "missing"): (count, count * 1000)}
    # A batch that was written twice would have left two tries of each recording.
    assert POSTGRESQL.ask(tmp_path, "SELECT count(*), count(DISTINCT entry_id) FROM attempts") == [(count, count)]
    other = await open_ledger(url)
    with pytest.raises(ArchiveInUse):
        await other.hold_accounts(await other.begin_run("other", started_at=NOON), [ACCOUNT])
    await other.close()
    await ledger.close()


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.REPLY])
async def test_a_transaction_whose_answer_is_lost_is_done_once(
    server: PostgresServer, url: str, tmp_path: Path, cut: Cut
) -> None:
    async with wire(server.port) as proxy:
        ledger = await open_ledger(server.url(schema_of(tmp_path), port=proxy.port))
        run = await ledger.begin_run("first", started_at=NOON)
        tasks = await list_page(ledger, run, recording("a"), recording("b"))
        proxy.arm(b"; COMMIT", cut)
        second = await ledger.begin_run("second", started_at=NOON)
        proxy.arm(b"; COMMIT", cut)
        for task in tasks:
            await ledger.settle(run, failed(task, Status.MISSING))
        await ledger.flush()
        assert proxy.cuts == 2
        await ledger.close()
    found = POSTGRESQL.ask(tmp_path, "SELECT run_id, run_no FROM runs ORDER BY run_no")
    assert found == [("first", run.run_no), ("second", second.run_no)]
    assert POSTGRESQL.ask(tmp_path, "SELECT count(*), count(DISTINCT entry_id) FROM attempts") == [(2, 2)]
    assert POSTGRESQL.tallied(tmp_path) == POSTGRESQL.counted(tmp_path) == {(ACCOUNT, "missing"): (2, 2000)}


async def test_who_stands_still_in_a_transaction_holds_up_nobody_for_long_and_does_it_again(
    url: str, tmp_path: Path
) -> None:
    still, other = await open_ledger(url, standstill_s=0.2), await open_ledger(url)
    run = await other.begin_run("other", started_at=NOON)
    began, turns = threading.Event(), list[int]()

    def job(connection: Connection) -> None:
        turns.append(1)
        began.set()
        if len(turns) == 1:
            # As if the process were stopped: until the server has let go of it.
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            while POSTGRESQL.ask(tmp_path, waiting) != [(0,)]:
                time.sleep(0.02)
        connection.exec_driver_sql("INSERT INTO marks (name, value) VALUES ('once', '1')")

    async with asyncio.TaskGroup() as group:
        group.create_task(still._writer.write(job))
        await asyncio.to_thread(began.wait)
        await other.end_run(run, outcome=Outcome.COMPLETE, ended_at=NOON, report=b"{}")
    assert len(turns) == 2
    assert POSTGRESQL.ask(tmp_path, "SELECT count(*) FROM marks WHERE name = 'once'") == [(1,)]
    await still.close()
    await other.close()


async def test_who_stands_still_halfway_through_a_page_holds_up_nobody_and_writes_it_afterwards(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    async with wire(server.port) as proxy:
        still = await open_ledger(server.url(schema_of(tmp_path), port=proxy.port), standstill_s=0.3)
        other = await open_ledger(url, standstill_s=0.3)
        run = await still.begin_run("still", started_at=NOON)
        proxy.arm(b"COPY entries", Cut.REST)
        rows = [recording(f"202605-{number}") for number in range(500)]
        async with asyncio.TaskGroup() as group:
            listing = group.create_task(list_page(still, run, *rows))
            copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND wait_event = 'ClientRead'"
            await asyncio.to_thread(until, lambda: POSTGRESQL.ask(tmp_path, copying) == [(1,)])
            # It takes the ledger for itself.
            await other.begin_run("other", started_at=NOON)
        assert (proxy.cuts, len(listing.result())) == (1, 500)
        await still.close()
        await other.close()


def until_locked(folder: Path) -> None:
    """Until somebody has written something and not ended it."""
    while POSTGRESQL.ask(folder, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_xid IS NOT NULL") != [
        (True,)
    ]:
        time.sleep(0.01)


async def test_a_read_that_loses_its_connection_is_done_again(server: PostgresServer, tmp_path: Path) -> None:
    async with wire(server.port) as proxy:
        ledger = await open_ledger(server.url(schema_of(tmp_path), port=proxy.port))
        run = await ledger.begin_run("first", started_at=NOON)
        await list_page(ledger, run, recording("a"))
        proxy.arm(b"recording_id", Cut.REPLY)
        assert await ledger.statuses(ACCOUNT, ["a"]) == {"a": Status.PENDING}
        assert proxy.cuts == 1
        await ledger.close()


async def test_a_connection_that_is_lost_after_the_last_write_is_no_failure(
    server: PostgresServer, tmp_path: Path
) -> None:
    async with wire(server.port) as proxy:
        ledger = await open_ledger(server.url(schema_of(tmp_path), port=proxy.port), patience_s=0)
        await ledger.begin_run("first", started_at=NOON)
        proxy.arm(b"DELETE FROM writers", Cut.REQUEST)
        await ledger.close()
        assert proxy.cuts == 1


async def test_a_server_that_stays_away_is_the_error_of_every_later_call(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    ledger = await open_ledger(url, patience_s=0.3)
    run = await ledger.begin_run("first", started_at=NOON)
    await asyncio.to_thread(server.control, "stop", "-m", "immediate")
    try:
        for _ in range(2):
            with pytest.raises(LedgerError, match=r"no connection to it .* tried again for 0.3 s") as caught:
                await list_page(ledger, run, recording("a"))
            assert PASSWORD not in str(caught.value)
        with pytest.raises(LedgerError, match="tried again"):
            await ledger.close()
        with pytest.raises(LedgerError, match="no connection to it"):
            await open_ledger(url)
    finally:
        await asyncio.to_thread(server.control, "start")


async def test_who_knows_that_the_ledger_is_there_waits_for_a_server_that_is_away_at_the_beginning(
    server: PostgresServer, url: str
) -> None:
    await (await open_ledger(url)).close()
    await asyncio.to_thread(server.control, "stop", "-m", "immediate")
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(open_ledger(url, create=False, patience_s=60, wait=True))
        await asyncio.sleep(0.3)
        assert not opening.done()
        await asyncio.to_thread(server.control, "start")
    assert await opening.result().last_run() is None
    await opening.result().close()


async def test_a_server_that_comes_back_without_what_it_had_taken_is_not_written_to(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    ledger = await open_ledger(url, patience_s=60)
    run = await ledger.begin_run("first", started_at=NOON)
    await list_page(ledger, run, recording("a"))
    backup = tmp_path / "backup"
    await asyncio.to_thread(server.control, "stop")
    shutil.copytree(server.data, backup)
    await asyncio.to_thread(server.control, "start")
    await list_page(ledger, run, recording("b"))
    await asyncio.to_thread(restore, server, backup)
    for _ in range(2):
        with pytest.raises(LedgerError, match="lacks what it had taken"):
            await list_page(ledger, run, recording("c"))
    with pytest.raises(LedgerError, match="lacks"):
        await ledger.close()
    assert POSTGRESQL.ask(tmp_path, "SELECT recording_id FROM entries") == [("a",)]


def restore(server: PostgresServer, backup: Path) -> None:
    server.control("stop")
    shutil.rmtree(server.data)
    shutil.copytree(backup, server.data)
    give_to_owner(server.data)
    server.control("start")


async def test_a_standby_that_is_about_to_take_over_is_waited_for(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    ledger = await open_ledger(url, patience_s=60)
    run = await ledger.begin_run("first", started_at=NOON)
    set_read_only(server, "on")
    async with asyncio.TaskGroup() as group:
        listing = group.create_task(list_page(ledger, run, recording("a")))
        await asyncio.sleep(0.3)
        assert not listing.done()
        set_read_only(server, "off")
    assert POSTGRESQL.ask(tmp_path, "SELECT recording_id FROM entries") == [("a",)]
    await ledger.close()


def set_read_only(server: PostgresServer, value: str) -> None:
    """As a standby is, for all connections that are made from now on; those of before are ended."""
    server.ask("", f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    server.ask("", "SELECT pg_reload_conf()")
    while server.ask("", "SHOW default_transaction_read_only") != [(value,)]:
        time.sleep(0.02)
    server.ask("", END_OTHERS)


async def test_a_ledger_that_a_newer_program_upgrades_meanwhile_is_not_written_to_any_more(
    url: str, tmp_path: Path
) -> None:
    ledger = await open_ledger(url)
    run = await ledger.begin_run("first", started_at=NOON)
    POSTGRESQL.ask(tmp_path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerTooNew, match="upgraded by another program"):
        await list_page(ledger, run, recording("a"))
    with pytest.raises(LedgerTooNew):
        await ledger.close()
    assert POSTGRESQL.ask(tmp_path, "SELECT count(*) FROM entries") == [(0,)]


async def test_whoever_leads_takes_its_accounts_back_after_a_restart_without_being_asked_for_anything(
    server: PostgresServer, url: str
) -> None:
    ledger = await open_ledger(url, beat_s=0.1)
    await ledger.begin_run("first", started_at=NOON, holding=[ACCOUNT])
    before = server.ask("", HELD)
    await asyncio.to_thread(server.control, "restart", "-m", "immediate")
    await asyncio.to_thread(until, lambda: server.ask("", HELD) == before)
    other = await open_ledger(url)
    with pytest.raises(ArchiveInUse):
        await other.begin_run("second", started_at=NOON, holding=[ACCOUNT])
    await other.close()
    await ledger.close()


async def test_an_account_is_held_by_one_run_and_is_free_when_its_process_dies(url: str, tmp_path: Path) -> None:
    holder = child(HOLDER, url, ACCOUNT)
    assert holder.stdout is not None
    assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
    ledger = await open_ledger(url)
    run = await ledger.begin_run("second", started_at=NOON)
    with pytest.raises(ArchiveInUse, match=f"account {ACCOUNT} is being worked on") as caught:
        await ledger.hold_accounts(run, ["free", ACCOUNT])
    assert caught.value.exit_code == ExitCode.IN_USE
    # Who was refused has nothing, and can go on otherwise.
    third = await open_ledger(url)
    await third.hold_accounts(await third.begin_run("third", started_at=NOON), ["free"])
    await third.close()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    await until_held(ledger, ACCOUNT)
    found = POSTGRESQL.ask(tmp_path, f"SELECT run_no FROM accounts WHERE account_id = '{ACCOUNT}'")
    assert found == [((await ledger.last_run() or run).run_no,)]
    await ledger.close()


async def until_held(ledger: SqlLedger, account_id: str) -> None:
    """Ask for the account until the server has noticed that nobody has it any more."""
    async with asyncio.timeout(30):
        while True:
            try:
                await ledger.hold_accounts(await ledger.begin_run("again", started_at=NOON), [account_id])
            except ArchiveInUse:
                await asyncio.sleep(0.02)
            else:
                return


async def test_an_account_that_another_took_during_an_outage_ends_the_writer(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    async with wire(server.port) as proxy:
        ledger = await open_ledger(server.url(schema_of(tmp_path), port=proxy.port), patience_s=20)
        run = await ledger.begin_run("first", started_at=NOON)
        await ledger.hold_accounts(run, [ACCOUNT])
        server.ask("", END_OTHERS)
        other = await open_ledger(url)
        await until_held(other, ACCOUNT)
        for _ in range(2):
            with pytest.raises(ArchiveInUse, match="taken by another run"):
                await list_page(ledger, run, recording("a"))
        with pytest.raises(ArchiveInUse):
            await ledger.close()
        await other.close()


async def test_what_another_run_had_and_gave_back_during_an_outage_is_not_written_to(
    server: PostgresServer, url: str
) -> None:
    ledger = await open_ledger(url)
    run = await ledger.begin_run("first", started_at=NOON, holding=[ACCOUNT])
    (task,) = await list_page(ledger, run, recording("a"))
    server.ask("", END_OTHERS)
    other = await open_ledger(url)
    await until_held(other, ACCOUNT)
    second = await other.last_run()
    assert second is not None
    (again,) = await list_page(other, second, recording("a"))
    await other.settle(second, archived(again))
    await other.close()
    await ledger.settle(run, failed(task, Status.MISSING))
    with pytest.raises(AccountTaken, match="another run works on it by now"):
        await ledger.flush()
    with pytest.raises(AccountTaken):
        await ledger.close()
    other = await open_ledger(url)
    assert await other.statuses(ACCOUNT, ["a"]) == {"a": Status.ARCHIVED}
    await other.close()


@pytest.mark.parametrize("what", ["page", "outcome", "window", "due", "asked", "cdrs"])
async def test_a_process_beside_one_whose_account_another_run_has_by_now_writes_nothing(url: str, what: str) -> None:
    leads, beside = await open_ledger(url), await open_ledger(url)
    run = await leads.begin_run("first", started_at=NOON, holding=[ACCOUNT])
    beside.work_beside(run)
    (task,) = await list_page(beside, run, recording("a"))
    await leads.close()
    other = await open_ledger(url)
    await other.begin_run("second", started_at=NOON, holding=[ACCOUNT])
    with pytest.raises(AccountTaken, match="another run works on it by now"):
        await late_write(beside, run, task, what)
    assert await other.statuses(ACCOUNT, ["a", "b"]) == {"a": Status.PENDING}
    assert await other.calendar(ACCOUNT) == []
    assert await other.cdr_files(ACCOUNT) == []
    await other.close()
    with pytest.raises(AccountTaken):
        await beside.close()


@pytest.mark.parametrize("what", ["row", "tries", "object", "expiry"])
async def test_neither_a_repair_nor_an_expiry_goes_on_in_an_account_that_another_run_has_by_now(
    url: str, what: str
) -> None:
    late = await open_ledger(url)
    run = await late.begin_run("first", started_at=NOON)
    (task,) = await list_page(late, run, recording("a"))
    await late.settle(run, archived(task))
    (entry,) = [each async for each in late.objects()]
    other = await open_ledger(url)
    await other.begin_run("second", started_at=NOON, holding=[ACCOUNT])
    with pytest.raises(AccountTaken, match="another run works on it by now"):
        await late_change(late, run, task, entry, what)
    assert [each async for each in other.objects()] == [entry]
    await other.close()
    with pytest.raises(AccountTaken):
        await late.close()


async def late_change(ledger: SqlLedger, run: Run, task: Task, entry: ArchivedEntry, what: str) -> None:
    match what:
        case "row":
            await ledger.correct_entry(run, entry, sidecar_sha256=SHA)
        case "tries":
            await ledger.note_tries(run, entry, failed(task, Status.MISSING).failures)
        case "object":
            await ledger.replace_damaged(run, entry, archived(task), recording=recording("a"), at=NOON)
        case _:
            gone = Expiry(task.entry_id, "k", b"{}", Fixity(2, SHA), TombstoneKind.EXPIRED, "r", "", NOON, 1)
            await ledger.expire(run, [gone], holds_through=0)


async def late_write(ledger: SqlLedger, run: Run, task: Task, what: str) -> None:
    match what:
        case "page":
            await list_page(ledger, run, recording("b"))
        case "outcome":
            await ledger.settle(run, failed(task, Status.MISSING))
            await ledger.flush()
        case "window":
            await ledger.finish_window(ACCOUNT, DAY, state=WindowState.COMPLETE, scanned_at=NOON)
        case "due":
            await ledger.claim_due(run, ACCOUNT, at=NOON, limit=10)
        case "asked":
            await ledger.ask_for(ACCOUNT, [DAY])
        case _:
            await ledger.record_cdr_file(CdrFile(ACCOUNT, NOON.date(), 0, "k", Fixity(1, SHA), 1, NOON))


async def test_a_long_walk_sees_one_moment_and_holds_up_nobody(url: str) -> None:
    ledger = await open_ledger(url)
    run = await ledger.begin_run("r", started_at=NOON)
    rows = [recording(f"{number:05d}") for number in range(4100)]
    for task in (await ledger.record_page(run, ACCOUNT, DAY, rows, PROGRESS, at=NOON)).tasks:
        await ledger.settle(run, archived(task))
    seen: Counter[bytes] = Counter()
    other = await open_ledger(url)
    async for batch in ledger.object_rows():
        late = [recording(f"{number:05d}-late{len(seen)}") for number in range(3)]
        for task in (await other.record_page(run, "other", DAY, late, PROGRESS, at=NOON)).tasks:
            await other.settle(run, archived(task))
        await other.flush()
        seen.update(row.entry.fixity.sha256 for row in batch)
    assert seen == {SHA: 4100}
    await other.close()
    await ledger.close()
