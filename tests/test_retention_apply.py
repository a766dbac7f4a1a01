"""`archiver retention`: the plan changes nothing, apply does just that, and everything else knows what is gone."""

import csv
import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import click
import pytest
from archive_rig import ACCOUNTS, SINCE, Rig, Said, key, recording, recordings, rig, until
from click.testing import CliRunner

from archiver.cli import cli
from archiver.errors import ArchiverError
from archiver.simulator import SimulatedRecording, Switches

KEEP_NONE = [{"name": "nothing-stays", "keep_days": 30}]
KEEP_LONG = [{"name": "long", "keep": "100y"}]


def rules(*found: dict[str, Any]) -> dict[str, str]:
    return {"ARCHIVER_RETENTION__RULES": json.dumps(list(found))}


GO = rules(*KEEP_NONE)
STAY = rules(*KEEP_LONG)


def invoked(it: Rig, *arguments: str, env: dict[str, str] | None = None) -> Said:
    """The command in this process, which saves the seconds that a start takes on a busy machine."""
    found = CliRunner().invoke(
        cli, ["--settings", str(it.settings_file), *arguments], env=it.environment(**(env or {})), standalone_mode=False
    )
    error = found.exception
    if isinstance(error, ArchiverError):
        return Said(error.exit_code, found.stdout, str(error))
    if isinstance(error, click.ClickException):
        return Said(error.exit_code, found.stdout, error.format_message())
    if error is not None:
        raise error
    return Said(int(found.return_value or 0), found.stdout, found.stderr)


def run(it: Rig) -> Said:
    return invoked(it, "run", "--since", SINCE, "--until", "2024-05-08", "--json")


def command(it: Rig, *arguments: str, env: dict[str, str] | None = None, code: int = 0) -> dict[str, Any]:
    said = invoked(it, *arguments, "--json", env=env)
    assert said.code == code, said
    return said.json


def ledger_rows(it: Rig) -> list[Any]:
    connection = sqlite3.connect(it.root / ".archiver/ledger.sqlite3")
    found = [
        connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        for table in ("entries", "former_versions", "tombstones", "tallies", "holds", "listed_metadata")
    ]
    connection.close()
    return found


def tombstones(it: Rig) -> dict[str, dict[str, Any]]:
    return {name: json.loads(data) for name, data in it.files().items() if name.endswith(".tombstone.json")}


def tombstone_of(row: SimulatedRecording) -> str:
    return key(row).removesuffix(".mp3") + ".tombstone.json"


def trail(it: Rig, what: str) -> list[dict[str, Any]]:
    lines = (it.root / ".archiver/audit.jsonl").read_text().splitlines()
    return [found for found in map(json.loads, lines) if found["what"] == what]


def caller(it: Rig, row: SimulatedRecording) -> str:
    said = json.loads((it.root / key(row)).with_suffix(".json").read_bytes())
    return str(said["recording"]["caller_id_number"])


def whole(it: Rig) -> None:
    """Nothing that a verification of everything would complain of, by this program or by sha256sum."""
    said = invoked(it, "verify", "--json")
    assert (said.code, said.json["findings"]) == (0, []), said
    assert command(it, "audit", "check")["whole"]


def test_a_plan_names_everything_with_its_reason_and_changes_nothing(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        before, files = ledger_rows(it), it.files()
        file = tmp_path / "plan.csv"
        said = command(it, "retention", "plan", "--csv", str(file), env=GO)
        assert (said["recordings"], said["expire"], said["keep"]) == (4, 4, 0)
        (group,) = said["groups"]
        assert (group["verdict"], group["reason"], group["rule"]) == ("expire", "rule", "nothing-stays")
        assert [each["key"] for each in group["first"]] == sorted(map(key, rows))
        assert group["first"][0]["until"] == "2024-06-05T09:00:00Z"
        found = list(csv.DictReader(file.read_text().splitlines()))
        assert [(row["recording_id"], row["verdict"], row["rule"]) for row in found] == [
            (each["recording_id"], "expire", "nothing-stays") for each in group["first"]
        ]
        assert file.stat().st_mode & 0o777 == 0o600
        assert command(it, "retention", "plan", env=STAY)["keep"] == 4
        assert command(it, "retention", "plan")["groups"][0]["reason"] == "no_rule"
        early = command(it, "retention", "plan", "--until-date", "2024-06-05", env=GO)
        assert (early["expire"], early["groups"][0]["next_until"]) == (0, "2024-06-05T09:00:00Z")
        one = command(it, "retention", "plan", "--account", ACCOUNTS[0], env=GO)
        assert one["recordings"] == 2
        assert "would expire" in invoked(it, "retention", "plan", env=GO).out
        assert invoked(it, "retention", "plan", "--csv", str(tmp_path / "no/where.csv"), env=GO).code == 2
        assert invoked(it, "retention", "plan", "--account", "stranger", env=GO).code == 2
        assert invoked(it, "retention", "plan", "--until-date", "whenever", env=GO).code == 2
        assert (ledger_rows(it), it.files()) == (before, files)
        assert list(tmp_path.glob(".plan.csv*")) == []


def test_apply_removes_what_the_plan_says_and_everything_knows_it(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        both = rules({"name": "short", "keep_days": 30}, {"name": "b", "keep": "100y", "account_ids": [ACCOUNTS[1]]})
        report = command(it, "retention", "apply", env=both)
        assert (report["outcome"], report["expired"], report["kept"], report["held"]) == ("complete", 2, 2, 0)
        gone = [row for row in rows if row.account_id == ACCOUNTS[0]]
        stayed = [row for row in rows if row.account_id == ACCOUNTS[1]]
        assert set(it.media()) == set(map(key, stayed))
        said = tombstones(it)
        assert set(said) == set(map(tombstone_of, gone))
        one = said[tombstone_of(gone[0])]
        assert (one["kind"], one["rule"], one["keys"]) == ("expired", "short", [key(gone[0])])
        assert (one["dated_on"], one["kept_until"]) == ("2024-05-06", "2024-06-05T09:00:00Z")
        assert (one["run_id"], one["size_bytes"]) == (report["run_id"], one["sizes"][0])
        records = trail(it, "expired")
        assert [record["subject"] for record in records] == sorted(map(tombstone_of, gone))
        assert records[0]["details"]["kept_until"] == "2024-06-05T09:00:00Z"
        whole(it)
        again = run(it).json
        assert (again["listed"], again["already_archived"], again["archived"]) == (2, 2, 0)
        assert it.pbx.stats.media_gets.total() == 4
        status = command(it, "status")
        assert [account["recordings"]["expired"] for account in status["accounts"]] == [2, 0]
        shown = invoked(it, "explain", gone[0].recording_id).out
        assert "expired" in shown
        assert "short" in shown
        assert tombstone_of(gone[0]) in shown
        assert "long" not in shown
        kept = invoked(it, "explain", stayed[0].recording_id, env=both).out
        assert "rule b" in kept
        # A day's manifest still names what is gone, and a further part its tombstone.
        parts = sorted((it.root / ".archiver/manifests" / ACCOUNTS[0]).iterdir())
        assert len(parts) == 2
        assert tombstone_of(gone[0]) in parts[0].read_text()


def test_applying_twice_changes_nothing_more(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(3)) as it:
        assert run(it).code == 0
        assert command(it, "retention", "apply", env=GO)["expired"] == 3
        before, files, records = ledger_rows(it), it.files(), trail(it, "expired")
        report = command(it, "retention", "apply", env=GO)
        assert (report["outcome"], report["expired"], report["recordings"], report["finished"]) == ("complete", 0, 0, 0)
        assert (ledger_rows(it), it.files(), trail(it, "expired")) == (before, files, records)


def test_former_versions_sidecars_metadata_and_quarantined_bytes_go_too(tmp_path: Path) -> None:
    rows = recordings(2)
    odd = recording(7, overrides={"_attachments": {f"{'f' * 32}.mp3": {"content_type": "audio/mpeg", "length": 5}}})
    with rig(tmp_path / "work", [*rows, odd]) as it:
        it.configure(archive={"durable": False})
        said = run(it)
        assert said.json["quarantined"] == 1, said
        (it.root / key(rows[0])).write_bytes(b"damaged")
        assert invoked(it, "verify", "--repair").code == 0
        assert len([name for name in it.media() if rows[0].recording_id in name]) == 2
        assert it.quarantined()
        report = command(it, "retention", "apply", env=GO)
        assert report["expired"] == 3
        assert (set(it.files()), it.quarantined()) == ({*map(tombstone_of, [*rows, odd])}, {})
        assert tombstones(it)[tombstone_of(rows[0])]["keys"] == [
            key(rows[0]),
            key(rows[0]).replace(".mp3", ".v2.mp3"),
        ]
        assert ledger_rows(it)[5] == []
        whole(it)


@pytest.mark.parametrize("by", ["account", "period", "id", "party", "everything"])
def test_what_a_hold_covers_stays_until_somebody_else_releases_it(tmp_path: Path, by: str) -> None:
    rows = recordings(3)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        pattern = f"{caller(it, rows[1])[:-1]}?"
        conditions = {
            "account": ["--account", ACCOUNTS[0]],
            "period": ["--since", "2024-05-06T09:00", "--until", "2024-05-06T09:01"],
            "id": ["--id", rows[0].recording_id, "--id", rows[2].recording_id],
            "party": ["--party", pattern],
            "everything": ["--everything"],
        }[by]
        placed = command(
            it, "hold", "add", "Case-7", "--reason", "a suit", "--reference", "AZ 7", "--by", "Ann", *conditions
        )
        assert placed["holds"][0]["active"]
        plan = command(it, "retention", "plan", env=GO)
        held = {
            each["recording_id"] for group in plan["groups"] if group["reason"] == "held" for each in group["first"]
        }
        assert held
        report = command(it, "retention", "apply", env=GO)
        assert (report["held"], report["expired"], report["outcome"]) == (len(held), 3 - len(held), "complete")
        assert len(it.media()) == len(held)
        release = ("hold", "release", "case-7", "--reason", "settled", "--by")
        refused = invoked(it, *release, " ann ")
        assert (refused.code, "somebody else must release it" in refused.err) == (2, True)
        released = command(it, *release, "Bob")
        assert (released["holds"][0]["active"], released["holds"][0]["released_by"]) == (False, "Bob")
        assert command(it, "retention", "apply", env=GO)["expired"] == len(held)
        assert it.media() == {}
        assert command(it, "hold", "list")["holds"] == []
        assert [hold["name"] for hold in command(it, "hold", "list", "--all")["holds"]] == ["Case-7"]
        assert "released by 'Bob'" in invoked(it, "hold", "add", "CASE-7", *_REST, "--everything").err
        text = (it.root / ".archiver/audit.jsonl").read_text()
        assert pattern not in text
        assert [record["subject"] for record in (*trail(it, "hold_added"), *trail(it, "hold_released"))] == [
            "Case-7",
            "Case-7",
        ]
        whole(it)


_REST = ("--reason", "why", "--reference", "ref", "--by", "ann")


def test_a_hold_needs_a_condition_or_the_word_that_everything_is_meant(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        assert run(it).code == 0
        assert invoked(it, "hold", "add", "x", *_REST).code == 2
        assert invoked(it, "hold", "add", "x", *_REST, "--everything", "--id", "1").code == 2
        assert invoked(it, "hold", "add", "a/b", *_REST, "--everything").code == 2
        assert invoked(it, "hold", "add", "x", *_REST, "--account", "stranger").code == 2
        assert invoked(it, "hold", "add", "x", *_REST, "--since", "2024-02-02", "--until", "2024-01-01").code == 2
        assert invoked(it, "hold", "add", "x", "--reason", " ", *_REST[2:], "--everything").code == 2
        assert invoked(it, "hold", "release", "x", "--by", "bob", "--reason", "y").code == 2
        assert "no active holds" in invoked(it, "hold", "list").out


def test_conditions_are_read_from_the_sidecars_and_what_cannot_be_read_stays(tmp_path: Path) -> None:
    rows = recordings(6)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        said = {
            row.recording_id: json.loads((it.root / key(row)).with_suffix(".json").read_bytes())["recording"]
            for row in rows
        }
        inbound = {an_id for an_id, metadata in said.items() if metadata["direction"] == "inbound"}
        unreadable = rows[0].recording_id
        (it.root / key(rows[0])).with_suffix(".json").unlink()
        env = rules({"name": "in", "keep_days": 1, "direction": "inbound"})
        plan = command(it, "retention", "plan", env=env)
        by_reason = {group["reason"]: {each["recording_id"] for each in group["first"]} for group in plan["groups"]}
        assert by_reason["unreadable"] == {unreadable}
        assert by_reason.get("rule", set()) == inbound - {unreadable}
        assert plan["unreadable"] == 1
        assert command(it, "retention", "apply", env=env)["expired"] == len(inbound - {unreadable})


def test_a_lost_ledger_brings_back_neither_what_is_gone_nor_loses_a_hold(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        held = rows[0].recording_id
        command(it, "hold", "add", "Case", *_REST, "--id", held, "--party", caller(it, rows[0]))
        command(it, "hold", "add", "Old", *_REST, "--everything")
        command(it, "hold", "release", "old", "--by", "bob", "--reason", "over")
        assert command(it, "retention", "apply", env=GO)["expired"] == 3
        before = command(it, "hold", "list", "--all")["holds"]
        (it.root / ".archiver/ledger.sqlite3").write_bytes(b"damaged")
        report = command(it, "rebuild")
        assert (report["tombstones"], report["entered"], report["problems"]) == (3, 1, [])
        assert command(it, "hold", "list", "--all")["holds"] == before
        assert command(it, "retention", "apply", env=GO)["held"] == 1
        again = run(it).json
        assert (again["archived"], again["already_archived"], again["listed"]) == (0, 1, 1)
        assert it.pbx.stats.media_gets.total() == 4
        whole(it)
        # Without the files the trail knows at least whose they were, and covers no less.
        for file in (it.root / ".archiver/holds").iterdir():
            file.unlink()
        (it.root / ".archiver/ledger.sqlite3").write_bytes(b"damaged")
        command(it, "rebuild")
        (hold,) = command(it, "hold", "list")["holds"]
        assert (hold["name"], hold["recording_ids"], hold["users"]) == ("Case", [held], [])
        assert "without its patterns" in hold["reason"]
        assert command(it, "retention", "apply", env=GO)["held"] == 1


def test_a_run_with_a_ledger_from_before_the_expiry_fetches_nothing_again(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        old = (it.root / ".archiver/ledger.sqlite3").read_bytes()
        assert command(it, "retention", "apply", env=GO)["expired"] == 4
        (it.root / ".archiver/ledger.sqlite3").write_bytes(old)
        report = run(it).json
        assert (report["archived"], report["listed"], len(report["notes"])) == (0, 0, 1)
        assert it.media() == {}
        whole(it)


def test_a_hold_file_that_cannot_be_read_holds_everything(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(2)) as it:
        assert run(it).code == 0
        command(it, "hold", "add", "Case", *_REST, "--id", "x")
        (it.root / ".archiver/holds/other.json").write_text("{")
        assert command(it, "retention", "plan", env=GO)["expire"] == 0
        report = command(it, "retention", "apply", env=GO)
        assert (report["held"], report["expired"]) == (2, 0)
        assert "can't be read" in invoked(it, "hold", "list").out


def test_an_erasure_is_refused_with_rule_and_date_or_hold_and_else_done(tmp_path: Path) -> None:
    rows = recordings(3)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        first, second, third = (row.recording_id for row in rows)
        ask = ("--by", "Privacy", "--reference", "DSR 1")
        refused = command(it, "retention", "erase", first, *ask, env=STAY, code=3)
        assert (refused["result"], refused["rule"], refused["until"]) == (
            "held_by_rule",
            "long",
            "2124-05-06T09:00:00Z",
        )
        words = invoked(it, "retention", "erase", first, *ask, env=STAY).out
        assert "Held by rule long until 2124-05-06T09:00:00Z." in words
        command(it, "hold", "add", "Case", *_REST, "--id", second)
        held = command(it, "retention", "erase", second, *ask, code=3)
        assert (held["result"], held["holds"]) == ("held_by_hold", ["Case"])
        assert len(it.media()) == 3
        done = command(it, "retention", "erase", first, *ask, env=GO)
        assert (done["result"], done["tombstone"]) == ("erased", tombstone_of(rows[0]))
        assert command(it, "retention", "erase", third, *ask)["result"] == "erased"
        assert command(it, "retention", "erase", third, *ask)["result"] == "already_gone"
        said = tombstones(it)[tombstone_of(rows[0])]
        ours = {"schema", "kind", "account_id", "recording_id", "keys", "expired_at", "run_id", "reference"}
        assert set(said) == ours
        assert (said["kind"], said["reference"]) == ("erased", "DSR 1")
        assert set(it.media()) == {key(rows[1])}
        assert invoked(it, "retention", "erase", "unheard-of", *ask).code == 2
        assert [record["result"] for record in trail(it, "erased")] == [
            "held_by_rule",
            "held_by_rule",
            "held_by_hold",
            "removed",
            "removed",
        ]
        found = [row for row in ledger_rows(it)[0] if row[2] in {first, third}]
        assert all(value is None for row in found for value in row[6:11])
        whole(it)
        assert run(it).json["listed"] == 1
        (it.root / ".archiver/ledger.sqlite3").write_bytes(b"damaged")
        assert command(it, "rebuild")["tombstones"] == 2
        assert run(it).json["archived"] == 0


def test_extending_locks_needs_a_store_that_has_them(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        assert run(it).code == 0
        said = invoked(it, "retention", "extend", env=STAY)
        assert (said.code, "a store with locks" in said.err) == (2, True)


def test_apply_waits_for_no_run_and_a_hold_does_not_need_the_lock(tmp_path: Path) -> None:
    rows = recordings(30)
    with rig(tmp_path / "work", rows, switches=Switches(media_think_time_s=0.1)) as it:
        it.configure(transfer={"concurrency": 2})
        started = it.start("run", "--since", SINCE, "--until", "2024-05-08")
        until(lambda: it.pbx.stats.media >= 2)
        assert invoked(it, "retention", "apply", env=GO).code == 6
        assert invoked(it, "hold", "add", "now", *_REST, "--everything").code == 0
        assert invoked(it, "retention", "plan", env=GO).code == 0
        started.signal(signal.SIGTERM)
        started.wait()
        assert command(it, "retention", "apply", env=GO)["expired"] == 0


def test_reconcile_explains_what_is_expired(tmp_path: Path) -> None:
    rows = recordings(2)
    with rig(tmp_path / "work", rows) as it:
        assert run(it).code == 0
        assert command(it, "retention", "apply", env=GO)["expired"] == 2
        said = invoked(it, "reconcile", "--since", SINCE, "--until", "2024-05-08", "--json")
        assert said.code == 0, said
        assert said.json["classes"]["expired"]["count"] == 2
        assert it.media() == {}


def test_a_hold_that_is_placed_while_apply_works_wins_from_then_on(tmp_path: Path) -> None:
    rows = recordings(200, duration_ms=50)
    with rig(tmp_path / "work", rows) as it:
        it.configure(archive={"durable": False})
        assert run(it).code == 0
        started = it.start("retention", "apply", "--json", env=GO)
        first = it.root / min(map(key, rows))
        until(lambda: not first.exists() or started.process.poll() is not None)
        placed = invoked(it, "hold", "add", "now", *_REST, "--everything")
        assert placed.code == 0, placed
        report = started.wait().json
        at = len(it.media())
        assert (report["expired"], report["held"]) == (200 - at, at)
        assert command(it, "retention", "apply", env=GO)["expired"] == 0
        assert len(it.media()) == at
        whole(it)


def test_ctrl_c_ends_after_those_under_way_and_the_next_one_goes_on(tmp_path: Path) -> None:
    rows = recordings(600, duration_ms=50)
    with rig(tmp_path / "work", rows) as it:
        it.configure(archive={"durable": False})
        assert run(it).code == 0
        started = it.start("retention", "apply", "--json", env=GO | {"ARCHIVER_ARCHIVE__DURABLE": "true"})
        first = it.root / min(map(key, rows))
        until(lambda: not first.exists())
        started.signal(signal.SIGINT)
        said = started.wait()
        assert (said.code, said.json["outcome"]) == (130, "interrupted")
        gone = said.json["expired"]
        assert (0 < gone < 600, len(tombstones(it)), len(it.media())) == (True, gone, 600 - gone)
        whole(it)
        assert command(it, "retention", "apply", env=GO)["expired"] == 600 - gone
        whole(it)
