"""`archiver ledger copy`: the archive goes on with the copy, and a kill, a signal or the wrong ledger does no harm."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from archive_rig import Rig, assert_holds_all, recordings, rig, until
from in_process import made
from ledgers import NOON
from postgres_server import PASSWORD, postgres, schema_of

from archiver.commands.copying import CopyRequest, run_copy
from archiver.errors import ArchiverError
from archiver.ledger.backend import lock_key
from archiver.ledger.ledger import open_ledger
from archiver.logs import Redaction
from archiver.monitoring.secrets_in_urls import passwords

ROWS = recordings(6)
EVERYTHING = lock_key("'everything'")


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Rig]:
    """A PBX with a few recordings, and settings whose ledger lies in a file."""
    with rig(tmp_path / "work", ROWS) as found:
        yield found


@pytest.fixture
def name(tmp_path: Path) -> str:
    return schema_of(tmp_path)


def test_the_archive_goes_on_with_the_copy_and_a_run_with_the_old_ledger_is_noticed(it: Rig, name: str) -> None:
    assert it.run().code == 0
    url, file = postgres().url(name), ledger_file(it)
    before = file.read_bytes()
    said = it.command("ledger", "copy", "--to", url, "--json")
    assert (said.code, said.json["outcome"], said.json["checked"]) == (0, "complete", True), said
    assert (said.json["source"], said.json["target"]) == (
        str(file),
        f"postgresql://127.0.0.1:{postgres().port}/archive",
    )
    assert {row["table"]: row["rows"] for row in said.json["tables"]}["entries"] == len(ROWS)
    assert "ledger.url" in said.json["next"]
    assert file.read_bytes() == before

    it.configure(ledger={"url": url})
    again = it.run()
    assert (again.code, again.json["already_archived"], again.json["archived"]) == (0, len(ROWS), 0)
    assert again.json["notes"] == []
    assert it.command("verify").code == 0
    assert_holds_all(it, ROWS)

    # Somebody forgot to change the settings, and then again: each time the run says so and fetches nothing.
    for sections in ({}, {"ledger": {"url": url}}):
        it.configure(**sections)
        stale = it.run()
        assert (stale.code, stale.json["already_archived"], stale.json["archived"]) == (0, len(ROWS), 0)
        assert any("older than the archive" in note for note in stale.json["notes"])
    assert it.command("verify").code == 0


@contextmanager
def kept_waiting(name: str) -> Iterator[None]:
    """Until its end nobody can write into the table that is copied last."""
    with psycopg.connect(postgres().url(name)) as connection:
        connection.execute("LOCK TABLE marks IN SHARE MODE")
        yield
        connection.rollback()


def waits(name: str) -> bool:
    asked = f"SELECT 1 FROM pg_locks WHERE NOT granted AND relation = '{name}.marks'::regclass"
    return bool(postgres().ask("", asked))


def is_locked(file: Path) -> bool:
    with closing(sqlite3.connect(file, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return "locked" in str(error)
    return False


def ledger_file(it: Rig) -> Path:
    return it.root / ".archiver" / "ledger.sqlite3"


def make(url: str, *runs: str) -> None:
    """A ledger that knows of these runs."""

    async def opened() -> None:
        ledger = await open_ledger(url)
        for run in runs:
            await ledger.begin_run(run, started_at=NOON)
        await ledger.close()

    asyncio.run(opened())


def make_here(it: Rig) -> None:
    """The ledger of the settings, without a run that would take its time."""
    it.root.mkdir(mode=0o700)
    ledger_file(it).parent.mkdir(mode=0o700)
    make(f"sqlite:///{ledger_file(it)}", "first")


def test_killed_or_stopped_in_the_middle_nothing_is_there_and_the_next_one_is_whole(it: Rig, name: str) -> None:
    make_here(it)
    make(postgres().url(name))
    command = ("ledger", "copy", "--to", postgres().url(name), "--json")
    with kept_waiting(name):
        copying = it.start(*command)
        until(lambda: waits(name))
        # No run works on the archive meanwhile, and nobody writes to the ledger that is copied.
        assert it.run().code == 6
        assert is_locked(ledger_file(it))
        copying.signal(signal.SIGKILL)
        copying.wait()
    until(lambda: not waits(name))
    assert postgres().ask(name, "SELECT count(*) FROM runs") == [(0,)]
    with kept_waiting(name):
        copying = it.start(*command)
        until(lambda: waits(name))
        copying.signal(signal.SIGINT)
        until(lambda: "stopping" in (copying.process.stderr.readline() if copying.process.stderr else ""))
    said = copying.wait()
    assert (said.code, said.json["outcome"], said.json["tables"]) == (130, "interrupted", [])
    assert postgres().ask(name, "SELECT count(*) FROM runs") == [(0,)]
    assert it.command(*command).json["checked"]
    assert postgres().ask(name, "SELECT count(*) FROM runs") == [(1,)]


def test_a_copy_into_a_file_that_was_killed_is_begun_anew(it: Rig, name: str) -> None:
    url, file = postgres().url(name), it.folder / "back.sqlite3"
    make(url, "first")
    it.root.mkdir(mode=0o700)
    command = ("ledger", "copy", "--from", url, "--to", f"sqlite:///{file}")
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
    with psycopg.connect(url) as connection:
        # As somebody who writes to the source: it is waited for, with the file begun.
        connection.execute(f"SELECT pg_advisory_xact_lock({EVERYTHING})".encode())
        copying = it.start(*command)
        until(lambda: bool(postgres().ask(name, waiting)))
        copying.signal(signal.SIGKILL)
        copying.wait()
        connection.rollback()
    assert not file.exists()
    assert list(it.folder.glob("back.*"))
    assert it.command(*command).code == 0
    assert [path.name for path in it.folder.glob("back.*")] == ["back.sqlite3"]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [("first",)]


@pytest.mark.parametrize(
    ("source", "target", "code", "words"),
    [
        ("", "mysql://u:secret-word@host/db", 2, "--to is no ledger's address"),
        ("nowhere", "sqlite:////nowhere/y.sqlite3", 2, "--from is no ledger's address"),
        ("", "postgresql://u:secret-word@127.0.0.1:1/db", 5, "no connection"),
        ("", "sqlite:////nowhere/at/all.sqlite3", 5, "does not exist"),
        ("sqlite:////nowhere/x.sqlite3", "sqlite:////nowhere/y.sqlite3", 2, "nothing to copy"),
        ("", "the source", 2, "already at"),
    ],
)
async def test_what_can_not_be_copied_is_said_without_a_password(
    tmp_path: Path, source: str, target: str, code: int, words: str
) -> None:
    settings = made("http://127.0.0.1:1", tmp_path)
    (tmp_path / ".archiver").mkdir(mode=0o700)
    ledger = await open_ledger(settings.ledger_url())
    await ledger.begin_run("first", started_at=NOON)
    await ledger.close()
    wanted = settings.ledger_url() if target == "the source" else target
    with pytest.raises(ArchiverError, match=words) as refused:
        await run_copy(settings, CopyRequest(wanted, source), stop=asyncio.Event())
    assert refused.value.exit_code == code
    assert "secret-word" not in str(refused.value)
    assert "ledger.sqlite3.rebuilding" not in os.listdir(tmp_path / ".archiver")  # noqa: PTH208 - a blink of an eye


def test_a_password_may_come_from_a_file_and_is_never_shown(it: Rig, name: str) -> None:
    make_here(it)
    file = it.folder / "pgpass"
    file.write_text("127.0.0.1:*:*:archiver:" + PASSWORD.replace(":", "\\:") + "\n")
    file.chmod(0o600)
    url = postgres().url(name)
    plain = url.replace(":se%3Acr%2Fet%40word@", "@")
    said = it.command("-v", "ledger", "copy", "--to", plain, env={"PGPASSFILE": str(file)})
    assert said.code == 0, said
    assert "Every row was read back" in said.out
    # With a password in both addresses, and a target that is taken.
    refused = it.command("-v", "ledger", "copy", "--from", url, "--to", url)
    assert (refused.code, "already at" in refused.err) == (2, True)
    for each in (said, refused):
        assert PASSWORD not in each.out + each.err
        assert "se%3Acr" not in each.out + each.err


def test_no_log_line_shows_the_password_of_an_address() -> None:
    hidden = Redaction()
    hidden.hide(passwords("postgresql://u:a%40secret@host/db?sslpassword=another"))
    hidden.hide(passwords("postgresql://u@host/db"))
    for odd in ("pa?ssword1", "pa#ssword2", "pa/ss@word3"):
        assert odd in passwords(f"postgresql://u:{odd}@host/db")
    said = "failed: postgresql://u:a%40secret@host/db?sslpassword=another, a@secret, a%40secret, another; u@host"
    shown = hidden.clean(said)
    assert not {each for each in ("a%40secret", "a@secret", "another") if each in shown}
    assert shown.endswith("; u@host")
