"""`archiver verify --repair`: what is damaged comes again from the PBX, beside what lies there, and never over it."""

import json
import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from archive_rig import Rig, Said, key, media, recording, recordings, rig, until
from damages import DAMAGES, deleted, edited_sidecar, flipped, renamed, without_sidecar
from s3_kinds import CREDENTIALS, admin, bucket, prefixed
from test_s3_end_to_end import objects, use

from archiver.simulator import Fault, SimulatedRecording
from archiver.simulator.actions import Delay


def repaired(it: Rig, *arguments: str) -> Said:
    return it.command("verify", "--repair", "--json", *arguments)


def of(said: Said, row: SimulatedRecording) -> list[dict[str, Any]]:
    return [each for each in said.json["findings"] if each["recording_id"] == row.recording_id]


def beside(media_key: str) -> str:
    return media_key.removesuffix(".mp3") + ".json"


def second(row: SimulatedRecording) -> str:
    return key(row).replace(".mp3", ".v2.mp3")


def versions(it: Rig, row: SimulatedRecording) -> list[dict[str, Any]]:
    (found,) = it.command("explain", row.recording_id, "--json").json["found"]
    told = found["versions"]
    assert isinstance(told, list)
    return told


def assert_whole(it: Rig, row: SimulatedRecording, media_key: str) -> None:
    """The source's bytes under this key, and a sidecar that says so with the PBX's metadata."""
    assert (it.root / media_key).read_bytes() == media(row)
    said = json.loads((it.root / beside(media_key)).read_bytes())
    assert (said["key"], said["size_bytes"]) == (media_key, len(media(row)))
    assert said["recording"]["_id"] == row.recording_id


def test_every_kind_of_damage_is_repaired_to_the_last_byte_and_nothing_is_overwritten(tmp_path: Path) -> None:
    rows = recordings(2 * len(DAMAGES))
    pairs = dict(zip(DAMAGES, zip(rows[::2], rows[1::2], strict=True), strict=True))
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        whole = it.files()
        for label, (one, two) in pairs.items():
            DAMAGES[label](it, it.root / key(one), it.root / key(two))
        before = it.files()
        said = repaired(it)
        after = it.files()
        shown = it.command("verify", "--json")
    report = said.json
    left = {(each["kind"], each["key"]) for each in report["findings"] if not each["repaired"]}
    entryless = key(pairs["deleted_entry"][0])
    assert {Path(name).name for kind, name in left if kind == "foreign_object"} == {
        Path(entryless).name,
        Path(beside(entryless)).name,
        f"stranger-{Path(key(pairs['foreign'][0])).name}",
        f"other-{Path(key(pairs['renamed'][0])).name}",
    }
    assert {kind for kind, _ in left} == {"foreign_object", "stale_temporary"}
    assert all(each["repair"] for each in report["findings"])
    assert (said.code, report["error"]) == (7, None)
    # Nothing that lay there has changed, and what the next verification finds is what was left, and no more.
    assert {name: after[name] for name in before} == before
    assert {(each["kind"], each["key"]) for each in shown.json["findings"]} == left
    for label in ("flipped", "truncated", "grown", "edited_sidecar"):
        assert_whole(it, pairs[label][0], second(pairs[label][0]))
    for row in pairs["swapped"]:
        assert_whole(it, row, second(row))
    for label in ("deleted", "without_sidecar", "renamed", "edited_ledger"):
        row = pairs[label][0]
        assert {name: after[name] for name in (key(row), beside(key(row)))} == {
            name: whole[name] for name in (key(row), beside(key(row)))
        }


def test_a_repair_that_leaves_nothing_ends_with_0_and_is_a_run_that_explain_shows(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        flipped(it, it.root / key(rows[0]), it.root / key(rows[1]))
        without_sidecar(it, it.root / key(rows[2]), it.root / key(rows[3]))
        said = repaired(it)
        assert (said.code, said.json["repaired"]) == (0, 2)
        assert "the same bytes again" in of(said, rows[0])[0]["repair"]
        assert it.command("verify").code == 0
        damaged, instead = versions(it, rows[0])
        assert (damaged["key"], damaged["in_store"]) == (key(rows[0]), "present")
        assert damaged["damaged_at"]
        assert (instead["key"], instead["run_id"]) == (second(rows[0]), said.json["repair_run_id"])
        assert instead["damaged_at"] is None
        assert "found damaged" in it.command("explain", rows[0].recording_id).out
        (mended,) = it.command("explain", rows[2].recording_id, "--json").json["found"]
        assert (mended["flags"], mended["last_run_id"]) == (["repaired"], said.json["repair_run_id"])
        assert it.command("status", "--json").json["last_run"]["run_id"] == said.json["repair_run_id"]
        # A later run takes the repaired ones as what they are.
        again = it.run()
        assert (again.code, again.json["already_archived"], again.json["changed_at_source"]) == (0, 4, 0)
    assert it.pbx.stats.media == 4 + 1


def test_an_archive_that_is_whole_asks_the_pbx_for_nothing(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(2)) as it:
        assert it.run().code == 0
        asked = it.pbx.stats.requests
        said = repaired(it)
        assert (said.code, said.json["findings"], said.json["repair_run_id"]) == (0, [], None)
        assert it.pbx.stats.requests == asked


def test_plain_verify_needs_no_password_and_a_repair_says_that_it_does(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        assert it.run().code == 0
        nothing = {"ARCHIVER_PBX__PASSWORD": ""}
        assert it.command("verify", env=nothing).code == 0
        said = it.command("verify", "--repair", env=nothing)
        assert said.code == 2
        assert "password" in said.err


@pytest.mark.parametrize("level", ["presence", "size"])
def test_a_recording_that_something_is_wrong_with_is_read_whole_before_it_is_repaired(
    level: str, tmp_path: Path
) -> None:
    """Only the sidecar seems to be gone; the media are damaged as well, which these levels don't see."""
    rows = recordings(2)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        without_sidecar(it, it.root / key(rows[0]), it.root / key(rows[1]))
        flipped(it, it.root / key(rows[0]), it.root / key(rows[1]))
        said = repaired(it, "--level", level)
        assert (said.code, {each["kind"] for each in of(said, rows[0])}) == (0, {"missing_sidecar", "digest"})
        assert it.command("verify").code == 0
        assert_whole(it, rows[0], second(rows[0]))


def test_what_the_source_has_no_more_stays_as_it_is_and_is_said(tmp_path: Path) -> None:
    rows = recordings(6)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        spoil = [flipped, deleted, renamed]
        for row, damage in zip(rows[:3], spoil, strict=True):
            damage(it, it.root / key(row), it.root / key(rows[5]))
        without_sidecar(it, it.root / key(rows[3]), it.root / key(rows[5]))
        before = it.files()
        for row in rows[:4]:
            it.pbx.call(lambda row=row: it.pbx.simulator.corpus.remove(row.account_id, row.recording_id))  # type: ignore[misc]
        said = repaired(it)
        assert said.code == 7
        for row in rows[:2]:
            (found,) = of(said, row)
            assert not found["repaired"]
            assert found["repair"].startswith("source gone")
        # Its bytes lie under another name, so nothing is lost.
        (found,) = of(said, rows[2])
        assert (found["repaired"], "brought back" in found["repair"]) == (True, True)
        assert (it.root / key(rows[2])).read_bytes() == media(rows[2])
        # The media are there, so the sidecar says what the ledger knows.
        (found,) = of(said, rows[3])
        assert (found["repaired"], "does not list it any more" in found["repair"]) == (True, True)
        written = json.loads((it.root / beside(key(rows[3]))).read_bytes())
        assert (written["recording"], written["size_bytes"]) == (None, len(media(rows[3])))
        after = it.files()
        assert {name: after[name] for name in before} == before
        (found,) = it.command("explain", rows[0].recording_id, "--json").json["found"]
        assert (found["status"], len(found["versions"])) == ("archived", 1)
        assert found["failed_attempts"][-1]["reason"] == "not_there"
        kinds = [(each["kind"], each["key"]) for each in it.command("verify", "--json").json["findings"]]
        assert [each for each in kinds if each[0] != "foreign_object"] == sorted(
            [("digest", key(rows[0])), ("missing_object", key(rows[1]))], key=lambda each: each[1]
        )


def test_other_bytes_at_the_source_are_a_new_version_and_told_as_such(tmp_path: Path) -> None:
    rows = recordings(2)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        deleted(it, it.root / key(rows[0]), it.root / key(rows[1]))
        now = recording(0, duration_ms=3000)
        it.pbx.call(lambda: it.pbx.simulator.corpus.replace(now))
        said = repaired(it)
        assert (said.code, "changed at the source" in of(said, rows[0])[0]["repair"]) == (0, True)
        assert_whole(it, now, second(now))
        assert not (it.root / key(now)).exists()
        assert it.command("verify").code == 0
        assert it.run().json["changed_at_source"] == 0


def test_a_pbx_that_is_down_leaves_all_as_it_was_and_says_so(tmp_path: Path) -> None:
    rows = recordings(2)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        flipped(it, it.root / key(rows[0]), it.root / key(rows[1]))
        before = it.files()
        it.configure(pbx={"base_url": "http://127.0.0.1:9", "max_retries": 1})
        said = repaired(it)
        assert said.code == 7
        assert not of(said, rows[0])[0]["repaired"]
        assert said.json["error"]
        assert "NOT repaired" in it.command("verify", "--repair").out
    assert it.files() == before


def test_a_repair_keeps_away_while_a_run_is_active(tmp_path: Path) -> None:
    rows = recordings(3)
    slow = Fault(on="media", action=Delay(seconds=3.0), times=3)
    with rig(tmp_path / "work", rows, faults=[slow]) as it:
        running = it.start("run", "--since", "2024-05-06", "--until", "2024-05-08")
        lock = it.root / ".archiver" / "lock"
        until(lambda: lock.exists() and lock.stat().st_size > 0 and it.pbx.stats.media > 0)
        said = it.command("verify", "--repair")
        assert (said.code, "in use" in said.err) == (6, True)
        assert running.wait().code == 0


def test_ctrl_c_between_repairs_says_what_was_not_done_and_the_next_one_goes_on(tmp_path: Path) -> None:
    rows = recordings(40)
    slow = Fault(on="media", action=Delay(seconds=0.3), after=40, times=-1)
    with rig(tmp_path / "work", rows, faults=[slow]) as it:
        assert it.run().code == 0
        for row in rows:
            flipped(it, it.root / key(row), it.root / key(row))
        it.configure(transfer={"concurrency": 1})
        started = it.start("verify", "--repair", "--json")
        until(lambda: it.pbx.stats.media > 42)
        started.signal(signal.SIGINT)
        said = started.wait()
        assert said.code == 130
        done = [each for each in said.json["findings"] if each["repaired"]]
        left = [each for each in said.json["findings"] if not each["repaired"]]
        assert len(done) + len(left) == 40
        assert done
        assert {each["repair"] for each in left} == {"not done: interrupted"}
        found = it.command("verify", "--json").json["findings"]
        assert {each["key"] for each in found} == {each["key"] for each in left}


def test_a_repair_killed_between_store_and_ledger_is_found_again_and_takes_up_what_lies_there(tmp_path: Path) -> None:
    rows = recordings(2)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        ledger = it.root / ".archiver" / "ledger.sqlite3"
        flipped(it, it.root / key(rows[0]), it.root / key(rows[1]))
        before = ledger.read_bytes()
        assert repaired(it).code == 0
        # What a kill leaves just before the ledger's transaction: the new version in the store, the old ledger.
        ledger.write_bytes(before)
        kinds = {each["kind"] for each in it.command("verify", "--json").json["findings"]}
        assert kinds == {"digest", "foreign_object"}
        asked = it.pbx.stats.media
        said = repaired(it)
        assert "taken up beside it" in of(said, rows[0])[0]["repair"]
        assert it.pbx.stats.media == asked
        assert it.command("verify").code == 0


def test_a_kill_in_the_middle_leaves_each_recording_repaired_or_found_again(tmp_path: Path) -> None:
    rows = recordings(60)
    slow = Fault(on="media", action=Delay(seconds=0.1), after=60, times=-1)
    with rig(tmp_path / "work", rows, faults=[slow]) as it:
        assert it.run().code == 0
        for row in rows:
            flipped(it, it.root / key(row), it.root / key(row))
        before = it.files()
        started = it.start("verify", "--repair")
        until(lambda: (it.root / second(rows[0])).exists() or it.pbx.stats.media > 75)
        started.signal(signal.SIGKILL)
        assert started.wait().code == -signal.SIGKILL
        found = it.command("verify", "--json").json["findings"]
        damaged = {each["key"] for each in found if each["kind"] == "digest"}
        foreign = {each["key"] for each in found if each["kind"] == "foreign_object"}
        assert len(damaged) + len(foreign) == len(found)
        # What no entry names yet is a new version of what is still found damaged.
        assert {name.replace(".v2.json", ".mp3").replace(".v2.mp3", ".mp3") for name in foreign} <= damaged
        assert all((it.root / second(row)).exists() for row in rows if key(row) not in damaged)
        again = repaired(it).json["findings"]
        assert {each["key"] for each in again if each["repaired"]} == damaged
        assert it.command("verify").code == 0
        for row in rows:
            assert_whole(it, row, second(row))
        after = it.files()
        assert {name: after[name] for name in before} == before


def test_an_earlier_version_that_is_damaged_is_left_and_said(tmp_path: Path) -> None:
    rows = recordings(2)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        it.pbx.call(lambda: it.pbx.simulator.corpus.replace(recording(0, duration_ms=3000)))
        assert it.run().json["changed_at_source"] == 1
        flipped(it, it.root / key(rows[0]), it.root / key(rows[1]))
        said = repaired(it)
        assert (said.code, "an earlier version" in of(said, rows[0])[0]["repair"]) == (7, True)
        (it.root / key(rows[0])).write_bytes(media(rows[0]))
        (it.root / beside(key(rows[0]))).unlink()
        assert repaired(it).code == 0
        assert it.command("verify").code == 0


def test_the_counts_of_the_ledger_stay_true_after_repairs(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        before = it.command("status", "--json").json["accounts"]
        flipped(it, it.root / key(rows[0]), it.root / key(rows[1]))
        edited_sidecar(it, it.root / key(rows[1]), it.root / key(rows[0]))
        deleted(it, it.root / key(rows[2]), it.root / key(rows[0]))
        DAMAGES["edited_ledger"](it, it.root / key(rows[3]), it.root / key(rows[0]))
        assert repaired(it).code == 0
        assert it.command("status", "--json").json["accounts"] == before
        with sqlite3.connect(it.root / ".archiver" / "ledger.sqlite3") as connection:
            sums = connection.execute("SELECT sum(bytes) FROM tallies UNION ALL SELECT sum(size_bytes) FROM entries")
            assert len({row[0] for row in sums}) == 1
        connection.close()


@pytest.mark.parametrize(("server", "lock"), [("rclone", {}), ("moto", {"object_lock_mode": "GOVERNANCE"})])
def test_an_archive_on_s3_is_repaired_beside_what_lies_there(server: str, lock: dict[str, Any], tmp_path: Path) -> None:
    rows = recordings(4)
    access = prefixed(bucket(server, locked=bool(lock)), tmp_path)
    with rig(tmp_path, rows) as it:
        use(it, access, **lock, **({"retention_days": 1} if lock else {}))
        run = ("run", "--since", "2024-05-06", "--until", "2024-05-08")
        assert it.command(*run, env=CREDENTIALS).code == 0
        whole = objects(access)
        spoil(access, {key(rows[0]): b"other bytes", beside(key(rows[1])): b"{}"}, [key(rows[2]), beside(key(rows[3]))])
        said = it.command("verify", "--repair", "--json", env=CREDENTIALS)
        assert (said.code, said.json["repaired"]) == (0, 4)
        assert it.command("verify", env=CREDENTIALS).code == 0
    found = objects(access)
    assert found[second(rows[0])] == media(rows[0])
    assert found[second(rows[1])] == media(rows[1])
    assert (found[key(rows[0])], found[beside(key(rows[1]))]) == (b"other bytes", b"{}")
    for name in (key(rows[2]), beside(key(rows[3]))):
        assert found[name] == whole[name]


def spoil(access: Any, written: dict[str, bytes], gone: Sequence[str]) -> None:
    """Damage objects in a bucket, past every lock, as only an administrator can."""
    client = admin(access.endpoint_url)
    for name, data in written.items():
        client.put_object(Bucket=access.bucket, Key=access.path(name), Body=data)
    for name in gone:
        client.delete_object(Bucket=access.bucket, Key=access.path(name))
