"""Opening a ledger in PostgreSQL: whose schema it is, older and newer ones, and words without secrets."""

import subprocess
import sys
import traceback
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from ledgers import ACCOUNT, NOON, POSTGRESQL, list_page, recording
from postgres_server import PASSWORD, PostgresServer, postgres, schema_of
from sqlalchemy.exc import DBAPIError

from archiver.errors import LedgerDamaged, LedgerError, LedgerTooNew
from archiver.ledger import complaints_postgresql, schema
from archiver.ledger.ledger import backend_of, open_ledger, postgres_backend
from archiver.recording import Status

COLUMNS = (
    "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default "
    "FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
)
INDEXES = (
    "SELECT replace(indexdef, schemaname || '.', '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1"
)
OLD_ROWS = (
    "INSERT INTO accounts (account_id) VALUES ('old')",
    "INSERT INTO runs (run_id, started_ms, report) VALUES ('before', 0, '')",
    (
        "INSERT INTO entries (account_no, recording_id, status, run_no, listed_at, key, size_bytes, sha256, archived_ms)"
        " VALUES (1, 'a', 'archived', 1, 0, 'a.mp3', 7, decode(repeat('00', 32), 'hex'), 1000)"
    ),
    "INSERT INTO tallies VALUES (1, 'archived', 1, 7)",
)


@pytest.fixture
def server() -> PostgresServer:
    return postgres()


@pytest.fixture
def url(server: PostgresServer, tmp_path: Path) -> str:
    return server.url(schema_of(tmp_path))


def upgrade(url: str, revision: str) -> None:
    """What an older program left."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    backend = postgres_backend(url, patience_s=1)
    connection = backend.connect(create=True)
    backend.begin(connection, write=True)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.commit()
    backend.close(connection)


def shape(server: PostgresServer, name: str) -> object:
    return [server.ask(name, query) for query in (COLUMNS, INDEXES)]


async def test_a_ledger_of_the_first_revision_is_brought_up_to_date_with_its_rows(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    name = schema_of(tmp_path)
    upgrade(url, "0001")
    for statement in OLD_ROWS:
        server.ask(name, statement)
    ledger = await open_ledger(url)
    assert await ledger.statuses("old", ["a"]) == {"a": Status.ARCHIVED}
    assert [(entry.key, entry.fixity.size_bytes) async for entry in ledger.objects()] == [("a.mp3", 7)]
    await ledger.check()
    assert len(await list_page(ledger, await ledger.begin_run("r", started_at=NOON), recording("b"))) == 1
    await ledger.close()
    fresh = f"{name}fresh"
    await (await open_ledger(server.url(fresh))).close()
    assert str(shape(server, name)).replace(name, "") == str(shape(server, fresh)).replace(fresh, "")


async def test_a_newer_ledger_is_refused_and_left_untouched(server: PostgresServer, url: str, tmp_path: Path) -> None:
    name = schema_of(tmp_path)
    await (await open_ledger(url)).close()
    server.ask(name, "UPDATE alembic_version SET version_num = '9999'")
    before = shape(server, name), server.ask(name, "SELECT * FROM alembic_version")
    with pytest.raises(LedgerTooNew, match="9999"):
        await open_ledger(url)
    assert (shape(server, name), server.ask(name, "SELECT * FROM alembic_version")) == before


@pytest.mark.parametrize("table", ["entries", "alembic_version"])
async def test_another_programs_table_of_a_ledgers_name_is_refused_and_left(
    server: PostgresServer, url: str, tmp_path: Path, table: str
) -> None:
    server.ask(schema_of(tmp_path), f"CREATE TABLE {table} (version_num text)")
    server.ask(schema_of(tmp_path), f"INSERT INTO {table} VALUES ('abc')")
    before = shape(server, schema_of(tmp_path))
    with pytest.raises(LedgerError, match=f"the names of a ledger's .{table}., but no ledger of this program"):
        await open_ledger(url)
    assert shape(server, schema_of(tmp_path)) == before


async def test_other_programs_tables_may_lie_beside_a_ledger(server: PostgresServer, url: str, tmp_path: Path) -> None:
    server.ask(schema_of(tmp_path), "CREATE TABLE theirs (a int)")
    await (await open_ledger(url)).close()
    ledger = await open_ledger(url, create=False)
    await ledger.close()


async def test_a_ledger_that_lacks_a_part_is_refused(server: PostgresServer, url: str, tmp_path: Path) -> None:
    await (await open_ledger(url)).close()
    server.ask(schema_of(tmp_path), "ALTER TABLE entries DROP COLUMN key; DROP INDEX entries_due")
    with pytest.raises(LedgerDamaged, match=r"column entries.key, the index entries_due"):
        await open_ledger(url)


async def test_tallies_that_are_not_true_are_found(server: PostgresServer, url: str, tmp_path: Path) -> None:
    ledger = await open_ledger(url)
    await list_page(ledger, await ledger.begin_run("r", started_at=NOON), recording("a"))
    await ledger.check()
    server.ask(schema_of(tmp_path), "UPDATE tallies SET recordings = 2")
    with pytest.raises(LedgerDamaged, match="its tallies"):
        await ledger.check()
    await ledger.close()


async def test_a_ledger_that_is_not_there_is_not_made_by_those_who_only_look(url: str, tmp_path: Path) -> None:
    assert not backend_of(url).is_there()
    with pytest.raises(LedgerError, match=r"There is no ledger at postgresql://127\.0\.0\.1:"):
        await open_ledger(url, create=False)
    assert POSTGRESQL.ask(tmp_path, COLUMNS) == []
    await (await open_ledger(url)).close()
    assert backend_of(url).is_there()


async def test_a_commit_waits_for_the_disk_whatever_the_role_says(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    name = f"u{schema_of(tmp_path)}"
    server.ask("", f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'; ALTER ROLE {name} SET synchronous_commit = off")
    server.ask(
        "", f"ALTER ROLE {name} SET statement_timeout = 900; GRANT ALL ON SCHEMA {schema_of(tmp_path)} TO {name}"
    )
    backend = postgres_backend(url.replace("//archiver:", f"//{name}:"), patience_s=1)
    connection = backend.connect(create=True)
    schema.prepare(connection, backend)
    assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
    assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "0"
    connection.rollback()
    backend.close(connection)
    server.ask("", f"ALTER ROLE {name} SET default_transaction_read_only = on")
    with pytest.raises(LedgerError, match="read-only"):
        await open_ledger(url.replace("//archiver:", f"//{name}:"))


def wrong(url: str, what: str) -> str:
    """An address that can't be used, with the password in it."""
    user, host = url.split("@", maxsplit=1)
    escaped = user.split(":")[2]
    return {
        "password": f"{user}x@{host}",
        "database": f"{user}@{host.replace('/archive', '/elsewhere')}",
        "schema": f"{user}@{host.replace('search_path%3D', 'search_path%3Dno')}",
        "port": f"{user}@{host.replace(':', ':1', 1)}",
        "option": f"{url}&sslmood={escaped}",
        "not escaped": f"{user}@secret@{host}",
        "letters for a port": f"{user}@{host.replace(':', ':port', 1)}",
        "no host": f"{user}/{host.partition('/')[2]}",
    }[what]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("password", "password authentication failed"),
        ("database", "does not exist"),
        ("schema", "CREATE SCHEMA makes it"),
        ("port", "there is no connection to it|can't be read"),
        ("option", "can't be read as a PostgreSQL address"),
        ("not escaped", "written as %40"),
        ("letters for a port", "there is no connection to it|can't be read"),
        ("no host", "can't be read"),
    ],
)
async def test_an_address_that_is_wrong_is_described_without_its_password(url: str, what: str, said: str) -> None:
    address = wrong(url, what)
    with pytest.raises(LedgerError, match=said) as caught:
        await open_ledger(address)
    shown = "".join(traceback.format_exception(caught.value))
    for secret in (PASSWORD, "se%3Acr", "secret"):
        # The test's own lines are shown, too.
        assert secret not in "".join(line for line in shown.splitlines() if __file__ not in line)


def test_a_backend_shows_no_password(url: str) -> None:
    backend = postgres_backend(url, patience_s=1)
    assert PASSWORD not in f"{backend!r} {backend.address!r} {backend.place}"


def test_without_its_driver_the_ledger_says_what_to_install(url: str) -> None:
    code = (
        "import asyncio, sys\nsys.modules['psycopg'] = None\nfrom archiver.ledger.ledger import open_ledger\n"
        "asyncio.run(open_ledger(sys.argv[1]))\n"
    )
    said = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False).stderr
    assert "LedgerError: A PostgreSQL ledger needs the package psycopg: install recording-archiver[postgresql]." in said
    assert PASSWORD not in said


def test_sqlite_needs_no_driver_of_postgresql(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nsys.modules['psycopg'] = None\nfrom archiver.ledger.ledger import open_ledger\n"
        "async def f():\n    await (await open_ledger(sys.argv[1])).close()\nasyncio.run(f())\n"
    )
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{tmp_path}/ledger"], check=True)


ERRORS = sorted(
    {
        each
        for each in vars(psycopg.errors).values()
        if isinstance(each, type) and issubclass(each, psycopg.Error) and each.sqlstate
    },
    key=lambda each: str(each.sqlstate),
)


def test_every_complaint_of_postgresql_has_words_for_people() -> None:
    assert len(ERRORS) > 200
    for kind in ERRORS:
        assert kind.sqlstate is not None
        assert kind.sqlstate[:2] in complaints_postgresql.SENTENCES, kind
        sentence = complaints_postgresql.EXACT.get(kind.sqlstate, complaints_postgresql.SENTENCES[kind.sqlstate[:2]])
        wrapped = DBAPIError.instance("SELECT 1", {"number": "+49301234"}, kind("+49301234"), psycopg.Error)
        said = complaints_postgresql.explain("postgresql://db/ledger", wrapped)
        assert isinstance(said, LedgerDamaged) == (kind.sqlstate in {"XX001", "XX002"})
        assert sentence in str(said)
        assert kind.sqlstate in str(said)
        assert "+49301234" not in str(said)


async def test_a_value_that_a_complaint_repeats_is_not_shown(server: PostgresServer, url: str) -> None:
    backend = postgres_backend(url, patience_s=1)
    connection = backend.connect(create=True)
    schema.prepare(connection, backend)
    backend.begin(connection, write=True)
    with pytest.raises(backend.errors) as caught:
        connection.exec_driver_sql(
            "INSERT INTO accounts VALUES (1, 'x'), ('+49301234'::int, 'y'), ('call me'::int, 'z')"
        )
    connection.rollback()
    backend.close(connection)
    assert "call me" in str(caught.value)
    assert "call me" not in str(backend.explain(caught.value))
    assert ACCOUNT not in str(backend.explain(caught.value))
