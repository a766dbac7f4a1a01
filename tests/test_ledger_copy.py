"""A ledger copied between databases is the same ledger, and what is not the same is not left there."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ledgers import ACCOUNT, KINDS, NOON, POSTGRESQL, SQLITE, LedgerKind, archived, failed, list_page, recording
from postgres_server import postgres, schema_of
from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table

from archiver.errors import ArchiveInUse, LedgerDamaged, LedgerError, LedgerTooNew, SettingsError
from archiver.ledger.columns import plain
from archiver.ledger.copying import copy_ledger
from archiver.ledger.copying_rows import COPIED
from archiver.ledger.ledger import open_ledger
from archiver.recording import Status

UNIQUE: dict[str, Sequence[Sequence[str]]] = {
    "accounts": [["account_id"]],
    "entries": [["account_no", "recording_id"]],
    "calendar": [["account_no", "start_at"]],
    "cdr_files": [["key"]],
    "holds": [["folded_name"]],
}
TEXTS = st.text(max_size=8).map(plain) | st.sampled_from(
    [plain("a\\b\x00\ud83d\udc80"), "\\N", "\t\n\r|,\"'", "ä€𝄞", ""]
)
LARGE, SMALL = 2**63 - 1, 2**31 - 1
names = count()


def values(column: "Column[Any]") -> st.SearchStrategy[Any]:
    """Whatever a column may hold."""
    kind = column.type
    found: st.SearchStrategy[Any]
    if isinstance(kind, BigInteger):
        # A key's next number must fit, too.
        found = st.integers(1, LARGE - 1) if column.primary_key else st.integers(-LARGE, LARGE)
    elif isinstance(kind, Integer):
        found = st.integers(1, SMALL - 100) if column.primary_key else st.integers(-SMALL, SMALL)
    elif isinstance(kind, LargeBinary):
        found = st.binary(max_size=8)
    else:
        found = TEXTS
    return st.none() | found if column.nullable else found


def rows(table: Table) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Rows that a table takes."""
    columns = [column.name for column in table.columns]
    keys = [[column.name for column in table.primary_key], *UNIQUE.get(table.name, [])]
    places = [[columns.index(name) for name in key] for key in keys]
    distinct = tuple(lambda row, own=own: tuple(row[place] for place in own) for own in places)
    return st.lists(st.tuples(*map(values, table.columns)), max_size=6, unique_by=distinct)


LEDGERS = st.fixed_dictionaries({table.name: rows(table) for table in COPIED if table.name != "tallies"})


# Without shrinking, which would take minutes over real databases.
@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(tables=LEDGERS, run_gone=st.integers(0, 50))
def test_to_a_server_and_back_a_ledger_is_the_same(
    tmp_path: Path, tables: dict[str, list[tuple[Any, ...]]], run_gone: int
) -> None:
    folder = tmp_path / str(next(names))
    folder.mkdir()
    make(SQLITE.url(folder))
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as connection, connection:
        for name, made in tables.items():
            for row in made:
                connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
        connection.execute("INSERT INTO tallies SELECT account_no, status, count(*), 0 FROM entries GROUP BY 1, 2")
        connection.execute("INSERT INTO marks VALUES ('there is something', '')")
        connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'runs'", [run_gone])
    before = everything(folder / "ledger.sqlite3")
    assert copy_ledger(SQLITE.url(folder), POSTGRESQL.url(folder), at=NOON)
    assert everything(folder / "ledger.sqlite3") == before
    back = folder / "back.sqlite3"
    assert copy_ledger(POSTGRESQL.url(folder), f"sqlite:///{back}", at=NOON)
    assert everything(back) == before
    assert not list(folder.glob("*.rebuilding*"))
    postgres().ask("", f"DROP SCHEMA {schema_of(folder)} CASCADE")


def make(url: str) -> None:
    async def opened() -> None:
        await (await open_ledger(url)).close()

    asyncio.run(opened())


def everything(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        shape = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        found = {
            name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for name, sql in shape
            if sql is not None and sql.startswith("CREATE TABLE")
        }
        return found | {"shape": shape}


async def worked(url: str) -> None:
    """A ledger that was worked with."""
    ledger = await open_ledger(url)
    run = await ledger.begin_run("first", started_at=NOON, holding=[ACCOUNT])
    tasks = await list_page(ledger, run, recording("a"), recording("b\\\x00\udc80"), recording("c"))
    await ledger.settle(run, archived(tasks[0]))
    await ledger.settle(run, failed(tasks[1], Status.PENDING, next_attempt_at=NOON + timedelta(days=1)))
    await ledger.close()


@pytest.fixture(params=[(SQLITE, POSTGRESQL), (POSTGRESQL, SQLITE)], ids=["to-a-server", "from-a-server"])
def way(request: pytest.FixtureRequest) -> tuple[LedgerKind, LedgerKind]:
    found = request.param
    assert isinstance(found, tuple)
    return found


async def test_the_copy_goes_on_where_the_ledger_was(way: tuple[LedgerKind, LedgerKind], tmp_path: Path) -> None:
    source, target = way
    await worked(source.url(tmp_path))
    # What came after it is gone, but its number is not given again.
    late = await open_ledger(source.url(tmp_path))
    gone = await late.begin_run("gone", started_at=NOON)
    await late.close()
    change(source, tmp_path, f"DELETE FROM runs WHERE run_no = {gone.run_no}")
    assert copy_ledger(source.url(tmp_path), target.url(tmp_path), at=NOON)
    ledger = await open_ledger(target.url(tmp_path))
    run = await ledger.begin_run("next", started_at=NOON, holding=[ACCOUNT])
    assert run.run_no == gone.run_no + 1
    page = await list_page(ledger, run, recording("a"), recording("c"), recording("d"))
    assert [task.recording.recording_id for task in page] == ["c", "d"]
    await ledger.close()
    assert target.tallied(tmp_path) == target.counted(tmp_path)


def change(kind: LedgerKind, folder: Path, query: str) -> None:
    """Change a ledger beside the program."""
    if kind is POSTGRESQL:
        kind.ask(folder, query)
        return
    with closing(sqlite3.connect(folder / "ledger.sqlite3")) as connection, connection:
        connection.execute(query)


def nothing_at(kind: LedgerKind, folder: Path) -> bool:
    if kind is SQLITE:
        return not list(folder.iterdir())
    return postgres().ask("", f"SELECT 1 FROM pg_tables WHERE schemaname = '{schema_of(folder)}'") == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
async def test_nothing_is_copied_to_where_something_is(kind: LedgerKind, tmp_path: Path) -> None:
    await worked(kind.url(tmp_path))
    (other := tmp_path / "other").mkdir()
    await worked(SQLITE.url(other))
    before = kind.tallied(tmp_path), kind.ask(tmp_path, "SELECT * FROM runs")
    # Onto another one, and onto itself.
    for source in (SQLITE.url(other), kind.url(tmp_path)):
        with pytest.raises(SettingsError, match="already at"):
            copy_ledger(source, kind.url(tmp_path), at=NOON)
    assert (kind.tallied(tmp_path), kind.ask(tmp_path, "SELECT * FROM runs")) == before


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
async def test_an_empty_ledger_is_not_copied(kind: LedgerKind, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing to copy"):
        copy_ledger(kind.url(tmp_path), SQLITE.url(tmp_path / "other"), at=NOON)
    await (await open_ledger(kind.url(tmp_path))).close()
    with pytest.raises(SettingsError, match="nothing in it"):
        copy_ledger(kind.url(tmp_path), kind.url(tmp_path), at=NOON)


def trigger(name: str, what: str) -> str:
    return (
        f"CREATE FUNCTION {name}.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} END $$;"
        f"CREATE TRIGGER meddle BEFORE INSERT ON {name}.attempts FOR EACH ROW EXECUTE FUNCTION {name}.meddle()"
    )


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("NEW.detail := NEW.detail || ' '; RETURN NEW;", "attempts has rows with other values"),
        ("RETURN NULL;", "attempts has 0 rows instead of 1"),
    ],
)
async def test_a_server_that_keeps_something_else_is_noticed_and_nothing_is_left(
    tmp_path: Path, what: str, words: str
) -> None:
    await worked(SQLITE.url(tmp_path))
    name = schema_of(tmp_path)
    await (await open_ledger(POSTGRESQL.url(tmp_path))).close()
    indexes = f"SELECT indexname FROM pg_indexes WHERE schemaname = '{name}' ORDER BY 1"
    shape = postgres().ask(name, indexes)
    postgres().ask(name, trigger(name, what))
    with pytest.raises(LedgerError, match=words):
        copy_ledger(SQLITE.url(tmp_path), POSTGRESQL.url(tmp_path), at=NOON)
    for table in COPIED:
        assert postgres().ask(name, f"SELECT count(*) FROM {table.name}") == [(0,)]
    postgres().ask(name, "DROP TRIGGER meddle ON attempts")
    assert copy_ledger(SQLITE.url(tmp_path), POSTGRESQL.url(tmp_path), at=NOON)
    assert postgres().ask(name, indexes) == shape


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("UPDATE alembic_version SET version_num = '0004'", LedgerError, "of an older program"),
        ("UPDATE alembic_version SET version_num = '9999'", LedgerTooNew, "newer program"),
        ("UPDATE tallies SET recordings = recordings + 1", LedgerDamaged, "tallies"),
    ],
)
async def test_a_ledger_that_is_not_sound_or_not_of_this_program_is_not_copied(
    way: tuple[LedgerKind, LedgerKind], tmp_path: Path, query: str, error: type[LedgerError], words: str
) -> None:
    source, target = way
    (there := tmp_path / "there").mkdir()
    await worked(source.url(tmp_path))
    change(source, tmp_path, query)
    with pytest.raises(error, match=words):
        copy_ledger(source.url(tmp_path), target.url(there), at=NOON)
    assert nothing_at(target, there)


async def test_a_ledger_whose_account_is_worked_on_is_not_copied(tmp_path: Path) -> None:
    (there := tmp_path / "there").mkdir()
    ledger = await open_ledger(POSTGRESQL.url(tmp_path))
    await ledger.begin_run("under way", started_at=NOON, holding=[ACCOUNT])
    with pytest.raises(ArchiveInUse, match=ACCOUNT):
        copy_ledger(POSTGRESQL.url(tmp_path), SQLITE.url(there), at=NOON)
    await ledger.close()
    assert nothing_at(SQLITE, there)
    assert copy_ledger(POSTGRESQL.url(tmp_path), SQLITE.url(there), at=NOON)


async def test_tables_of_others_are_left_alone(tmp_path: Path) -> None:
    await worked(SQLITE.url(tmp_path))
    POSTGRESQL.ask(tmp_path, "CREATE TABLE holds (theirs int)")
    with pytest.raises(LedgerError, match="untouched"):
        copy_ledger(SQLITE.url(tmp_path), POSTGRESQL.url(tmp_path), at=NOON)
    POSTGRESQL.ask(tmp_path, "DROP TABLE holds; CREATE TABLE theirs (a int)")
    assert copy_ledger(SQLITE.url(tmp_path), POSTGRESQL.url(tmp_path), at=NOON)
    assert POSTGRESQL.ask(tmp_path, "SELECT count(*) FROM theirs") == [(0,)]


@pytest.mark.parametrize("after", [0, 3, 15])
async def test_stopped_anywhere_nothing_is_there(
    way: tuple[LedgerKind, LedgerKind], tmp_path: Path, after: int
) -> None:
    source, target = way
    (there := tmp_path / "there").mkdir()
    await worked(source.url(tmp_path))
    asked = count()
    stopped: Callable[[], bool] = lambda: next(asked) >= after  # noqa: E731
    assert copy_ledger(source.url(tmp_path), target.url(there), at=NOON, stopped=stopped) is None
    assert next(asked) > after
    assert nothing_at(target, there)


async def test_a_copy_whose_source_was_let_go_meanwhile_is_not_kept(tmp_path: Path) -> None:
    (there := tmp_path / "there").mkdir()
    await worked(POSTGRESQL.url(tmp_path))
    ended = list[object]()

    def end_holder() -> bool:
        asked = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        if not ended:
            ended.extend(postgres().ask("", asked))
        return False

    with pytest.raises(LedgerError):
        copy_ledger(POSTGRESQL.url(tmp_path), SQLITE.url(there), at=NOON, stopped=end_holder)
    assert ended
    assert nothing_at(SQLITE, there)
