"""The commands over a ledger in PostgreSQL: a run, what looks at it, doctor, and a rebuild that puts a new one in place."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive_rig import Rig, recordings, rig
from ledgers import NOON
from postgres_server import PASSWORD, postgres, schema_of

from archiver.errors import LedgerError
from archiver.ledger import ledger_doctor
from archiver.ledger.ledger import open_ledger
from archiver.ledger.places import place_of

COUNT = 6


@pytest.fixture
def name(tmp_path: Path) -> str:
    return schema_of(tmp_path)


@pytest.fixture
def it(tmp_path: Path, name: str) -> Iterator[Rig]:
    """An archive of a few recordings whose ledger lies in PostgreSQL."""
    with rig(tmp_path / "work", recordings(COUNT)) as found:
        found.configure(ledger={"url": postgres().url(name)})
        yield found


def schemas(name: str) -> list[str]:
    asked = f"SELECT nspname FROM pg_namespace WHERE nspname LIKE '{name}%' ORDER BY 1"
    return [str(row[0]) for row in postgres().ask("", asked)]


def archived(name: str) -> list[tuple[object, ...]]:
    return postgres().ask(name, "SELECT status, sum(recordings)::int FROM tallies WHERE recordings <> 0 GROUP BY 1")


def test_a_run_and_what_looks_at_it_work_over_a_server(it: Rig, name: str) -> None:
    assert it.command("status").code == 0
    said = it.run()
    assert (said.code, said.json["outcome"], said.json["archived"]) == (0, "complete", COUNT)
    again = it.run()
    assert (again.code, again.json["already_archived"], again.json["archived"]) == (0, COUNT, 0)
    assert archived(name) == [("archived", COUNT)]
    for command in ("status", "verify", "doctor"):
        said = it.command(command, "--json")
        assert said.code == 0, said
        assert PASSWORD not in said.out + said.err


def test_a_damaged_ledger_is_made_anew_and_the_old_one_kept_beside(it: Rig, name: str) -> None:
    assert it.run().code == 0
    postgres().ask(name, "CREATE TABLE theirs (a int); DROP TABLE tallies")
    said = it.command("rebuild", "--json")
    assert (said.code, said.json["ledger"], said.json["entered"]) == (0, "replaced", COUNT)
    before = [each for each in schemas(name) if "_before_" in each]
    assert schemas(name) == [name, *before]
    assert said.json["set_aside"].endswith(f"schema {before[0]}")
    assert postgres().ask(before[0], "SELECT count(*) FROM entries") == [(COUNT,)]
    assert archived(name) == [("archived", COUNT)]
    assert postgres().ask(name, "SELECT count(*) FROM theirs") == [(0,)]
    assert it.run().json["archived"] == 0


def test_a_run_notices_that_its_ledger_is_gone_and_fetches_nothing_again(it: Rig, name: str) -> None:
    assert it.run().code == 0
    postgres().ask("", f"DROP SCHEMA {name} CASCADE; CREATE SCHEMA {name}")
    said = it.run()
    assert (said.code, said.json["archived"], said.json["already_archived"]) == (0, 0, COUNT)


def test_what_a_killed_rebuild_left_is_removed_but_nothing_else(it: Rig, name: str) -> None:
    place = place_of(postgres().url(name))
    asyncio.run(make(place.make_new()))
    assert schemas(name) == [name, f"{name}_rebuild"]
    place.clear_new()
    assert schemas(name) == [name]
    place.make_new()
    postgres().ask("", f"CREATE TABLE {name}_rebuild.theirs (a int)")
    with pytest.raises(LedgerError):
        place.clear_new()
    assert postgres().ask("", f"SELECT count(*) FROM {name}_rebuild.theirs") == [(0,)]


async def make(url: str) -> None:
    await (await open_ledger(url)).close()


async def test_who_had_the_ledger_open_does_not_write_into_the_one_that_took_its_place(name: str) -> None:
    place = place_of(postgres().url(name))
    ledger = await open_ledger(postgres().url(name))
    await ledger.begin_run("before", started_at=NOON)
    await make(place.make_new())
    place.put_in_place(new=True, at=NOON)
    with pytest.raises(LedgerError, match="was removed or replaced while it was in use"):
        await ledger.begin_run("after", started_at=NOON)
    with pytest.raises(LedgerError):
        await ledger.close()
    assert postgres().ask(name, "SELECT count(*) FROM runs") == [(0,)]


def test_doctor_examines_the_server_and_changes_nothing(name: str) -> None:
    url = postgres().url(name)
    states = {check.name: (check.state, check.found) for check in ledger_doctor.examine(url)}
    assert {key: state for key, (state, _) in states.items()} == {
        "place": "ok",
        "schema": "ok",
        "write": "ok",
        "private": "ok",
        "durable": "weak",  # the tests' server does not wait for its disk
    }
    assert "the first run makes it" in states["schema"][1]
    assert postgres().ask("", f"SELECT 1 FROM pg_tables WHERE schemaname = '{name}'") == []
    asyncio.run(make(url))
    assert "this program's" in {check.name: check.found for check in ledger_doctor.examine(url)}["schema"]
    assert postgres().ask(name, "SELECT count(*) FROM accounts") == [(0,)]


def test_doctor_says_who_may_not_write_and_what_is_not_there(name: str) -> None:
    url = postgres().url(name)
    user = f"u{name}"
    postgres().ask("", f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'; GRANT USAGE ON SCHEMA {name} TO {user}")
    found = ledger_doctor.examine(url.replace("//archiver:", f"//{user}:"))
    assert [(check.name, check.state) for check in found][-1] == ("write", "failed")
    assert "lacks a right" in found[-1].found
    for address in (url.replace("/archive?", "/elsewhere?"), "postgresql://u:p@ss@host/db"):
        found = ledger_doctor.examine(address)
        assert [(check.name, check.state) for check in found] == [("place", "failed")]
        assert PASSWORD not in found[0].found


@pytest.mark.parametrize(("mode", "state"), [("prefer", "weak"), ("verify-full", "ok")])
def test_doctor_warns_of_a_server_elsewhere_that_is_not_reached_over_tls(mode: str, state: str) -> None:
    from archiver.ledger.ledger import postgres_backend
    from archiver.ledger.postgresql_doctor import private

    backend = postgres_backend(f"postgresql://u:p@db.example/ledger?sslmode={mode}", patience_s=0)
    assert private(backend).state == state
