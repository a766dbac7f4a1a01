"""The ledger's schema version: created, upgraded in one transaction, refused when it is newer or not ours."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from archiver.errors import LedgerError, LedgerTooNew
from archiver.ledger import schema
from archiver.ledger.ledger import open_ledger
from archiver.ledger.sqlite import SqliteBackend

Shape = list[tuple[str, str]]


async def make(path: Path) -> None:
    await (await open_ledger(f"sqlite:///{path}")).close()


def run_sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def shape(path: Path) -> Shape:
    """Every table and index with its SQL, spaces and the order of constraints aside."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return [(name, "".join(sorted("".join(sql.split()).replace(",", "").replace('"', "")))) for name, sql in found]


def old(path: Path) -> None:
    """A ledger from before the first revision, which only a migration brings up to date."""
    run_sql(
        path,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
        "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
    )


def test_the_known_revisions_are_those_of_the_migrations() -> None:
    script = ScriptDirectory(str(Path(schema.__file__).parent / "migrations"))
    assert tuple(reversed([found.revision for found in script.walk_revisions()])) == schema.REVISIONS


async def test_an_upgraded_ledger_has_the_shape_of_a_fresh_one(tmp_path: Path) -> None:
    old(tmp_path / "old")
    await make(tmp_path / "old")
    await make(tmp_path / "fresh")
    assert shape(tmp_path / "old") == shape(tmp_path / "fresh")
    run_sql(tmp_path / "old", "INSERT INTO alembic_version VALUES ('would be the second')")


async def test_a_failed_upgrade_leaves_the_old_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "old"
    old(path)
    before = shape(path)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alembic.op.create_index", fail)
    with pytest.raises(LedgerError, match="No space left"):
        await open_ledger(f"sqlite:///{path}")
    assert shape(path) == before


@pytest.mark.parametrize("state", ["old", "none"])
async def test_a_kill_during_the_change_of_schema_leaves_the_old_or_the_new_one(tmp_path: Path, state: str) -> None:
    path = tmp_path / "ledger"
    await make(tmp_path / "fresh")
    if state == "old":
        old(path)
    code = (
        "import asyncio, os, signal, sys\nimport sqlalchemy.event as event\nfrom sqlalchemy.engine import Engine\n"
        "from archiver.ledger.ledger import open_ledger\n"
        "def kill(connection, cursor, statement, *rest):\n"
        "    if statement.lstrip().startswith('CREATE INDEX'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "event.listen(Engine, 'before_cursor_execute', kill)\n"
        "asyncio.run(open_ledger('sqlite:///' + sys.argv[1]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False, env=dict(os.environ))  # noqa: ASYNC221
    assert killed.returncode == -signal.SIGKILL
    assert len(shape(path)) == (2 if state == "old" else 0)
    await make(path)
    assert shape(path) == shape(tmp_path / "fresh")


async def test_a_newer_ledger_is_refused_and_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    await make(path)
    run_sql(path, "UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(LedgerTooNew, match="9999"):
        await open_ledger(f"sqlite:///{path}")
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused_and_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    run_sql(path, "CREATE TABLE phone_book (name)")
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="no ledger of this program"):
        await open_ledger(f"sqlite:///{path}")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (before, 0o644)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DROP TABLE calendar", "the table calendar"),
        ("ALTER TABLE entries DROP COLUMN flags", "the column entries.flags"),
        ("DROP INDEX entries_due", "the index entries_due"),
    ],
)
async def test_a_ledger_that_lacks_a_part_is_refused(tmp_path: Path, damage: str, said: str) -> None:
    path = tmp_path / "ledger"
    await make(path)
    run_sql(path, damage)
    with pytest.raises(LedgerError, match=said):
        await open_ledger(f"sqlite:///{path}")


def test_two_programs_that_create_the_ledger_at_once_both_get_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    code = (
        "import asyncio, sys\nfrom archiver.ledger.ledger import open_ledger\n"
        "async def f():\n    await (await open_ledger(sys.argv[1])).close()\nasyncio.run(f())\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, f"sqlite:///{path}"]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]


def test_a_schema_that_another_process_made_meanwhile_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    class Overtaken(SqliteBackend):
        def make_durable(self, connection: Connection) -> None:
            super().make_durable(connection)
            asyncio.run(make(path))

    backend = Overtaken(path, busy_timeout_s=1)
    connection = backend.connect(create=True)
    schema.prepare(connection, backend)
    assert {"entries", "alembic_version"} <= set(inspect(connection).get_table_names())
    backend.close(connection)


def test_a_ledger_is_made_and_opened_without_alembic_which_is_slow_to_import(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom archiver.ledger.ledger import open_ledger\n"
        "async def f():\n    ledger = await open_ledger(sys.argv[1])\n    await ledger.close()\n"
        "asyncio.run(f())\nassert 'alembic' not in sys.modules\n"
    )
    for _ in ("fresh", "current"):
        command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/ledger"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_backend_keeps_its_promise_of_durability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = SqliteBackend(tmp_path / "ledger", busy_timeout_s=1)
    connection = backend.connect(create=True)
    monkeypatch.setattr("archiver.ledger.sqlite._FULL", 3)
    with pytest.raises(LedgerError, match="can't be made durable"):
        backend.make_durable(connection)
    connection.close()
