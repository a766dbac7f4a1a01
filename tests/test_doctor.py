"""`archiver doctor` from the outside: the real command looks at real folders, real S3 servers and a PBX on the wire."""

import json
import signal
import socket
import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from archive_rig import ACCOUNTS, Rig, Said, media, recordings, rig, small_file_system, until
from s3_kinds import CREDENTIALS, admin, bucket, prefixed
from s3_servers import SERVERS
from test_s3_end_to_end import use

from archiver.simulator import (
    Body,
    Corpus,
    Delay,
    Extra,
    Fault,
    SimulatedRecording,
    Simulator,
    SimulatorThread,
    Status,
)
from archiver.stores.s3_access import S3Access

LOCAL = {"root", "permissions", "in_use", "room", "one_file_system"} | {"write", "fsync", "read_back", "no_overwrite"}
PBX = {"reachable", "clock", "sign_in", "listing", "media"}


def fresh(count: int = 3, **more: Any) -> list[SimulatedRecording]:
    """Recordings of the last hours, all of the first account."""
    begin = int(time.time()) - 7200
    return [
        SimulatedRecording(
            account_id=ACCOUNTS[0],
            recording_id=f"{time.strftime('%Y%m', time.gmtime(begin))}-{ordinal:032x}",
            start_unix_s=begin + 60 * ordinal,
            duration_ms=2000,
            **more,
        )
        for ordinal in range(count)
    ]


@contextmanager
def settings_only(tmp_path: Path, text: str) -> Iterator[Rig]:
    """A rig with this settings file."""
    with rig(tmp_path / "work", []) as it:
        it.settings_file.write_text(text)
        yield it


def sections(said: Said) -> dict[str, dict[str, dict[str, Any]]]:
    """The checks by section and name; the one JSON object says what the exit code says."""
    report = said.json
    assert report["exit_code"] == said.code, said
    assert said.err == ""
    checks = {part["name"]: {check["name"]: check for check in part["checks"]} for part in report["sections"]}
    assert (report["outcome"] == "failed") == (said.code != 0)
    return checks


def states(said: Said, section: str) -> dict[str, str]:
    """What is not as it should be in a section."""
    return {name: check["state"] for name, check in sections(said)[section].items() if check["state"] != "ok"}


def not_examined(said: Said) -> dict[str, str]:
    return {part["name"]: part["not_examined"] for part in said.json["sections"] if part["not_examined"]}


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every path with its mode and, for a file, its bytes."""
    return {
        str(path.relative_to(root)): (stat.S_IMODE(path.lstat().st_mode), path.read_bytes() if path.is_file() else b"")
        for path in (root, *root.rglob("*"))
    }


# A setup that works


def test_a_setup_that_works_is_ok_and_nothing_is_archived(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        said = it.command("doctor", "--json")
        found = sections(said)
        assert (said.code, said.json["outcome"]) == (0, "ok"), said
        assert list(found) == ["settings", "store", "ledger", "pbx"]
        assert (set(found["store"]), set(found["pbx"])) == (LOCAL, PBX)
        paths = {name: mode for name, (mode, _) in tree(it.root).items()}
        assert paths == {".": 0o700, ".archiver": 0o700, ".archiver/tmp": 0o700, ".archiver/lock": 0o600}


def test_people_read_what_was_seen_and_that_a_run_can_begin(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        said = it.command("doctor")
        assert (said.code, said.err) == (0, "")
        assert f"Store: {it.root}\n  ok      root" in said.out
        assert said.out.rstrip().endswith("a run can begin.")
        assert "How this PBX behaves\n  ok      time unit" in said.out
        assert "What could not be told may be told after more calls" in said.out
        assert all(len(line) <= 80 or str(tmp_path) in line for line in said.out.splitlines())


def test_an_archive_with_recordings_is_as_it_was_afterwards(tmp_path: Path) -> None:
    with rig(tmp_path / "work", [*recordings(4), *fresh()]) as it:
        assert it.run().code == 0
        before = tree(it.root)
        said = it.command("doctor", "--json")
        assert said.code == 0, said
        assert set(sections(said)["ledger"]) == {"place", "schema", "write", "private"}
        assert tree(it.root) == before


def test_no_secret_is_said_and_the_source_of_the_password_is(tmp_path: Path) -> None:
    with rig(tmp_path / "work", []) as it:
        canary = tmp_path / "password"
        canary.write_text("canary-password\n")
        canary.chmod(0o600)
        it.configure(pbx={"password_file": str(canary)})
        for options in (("doctor",), ("doctor", "--json")):
            said = it.command("-v", *options, env={"ARCHIVER_PBX__PASSWORD": ""})
            assert said.code == 4
            assert "pbx.password_file" in said.out
            assert "canary-password" not in said.out + said.err


# Settings


def test_without_a_pbx_the_store_is_examined_and_the_code_is_2(tmp_path: Path) -> None:
    with settings_only(tmp_path, f'[store.local]\nroot = "{tmp_path}/archive"\n') as it:
        said = it.command("doctor", "--json")
        assert said.code == 2
        assert "pbx.base_url" in sections(said)["settings"]["pbx"]["found"]
        assert states(said, "store") == {}
        assert set(sections(said)["store"]) == LOCAL
        assert set(not_examined(said)) == {"pbx"}


def test_a_broken_value_is_named_and_the_store_is_examined_all_the_same(tmp_path: Path) -> None:
    with settings_only(
        tmp_path, f'[pbx]\nbase_url = "ftp://pbx"\n[odd]\nx = 1\n[store.local]\nroot = "{tmp_path}/archive"\n'
    ) as it:
        said = it.command("doctor", "--json", env={"ARCHIVER_TRANSFER__SPEED": "9"})
        assert said.code == 2
        lines = [check["found"] for check in said.json["sections"][0]["checks"]]
        for key in ("pbx.base_url", "odd", "ARCHIVER_TRANSFER__SPEED"):
            assert any(key in line for line in lines), lines
        assert set(sections(said)["store"]) == LOCAL
        assert set(not_examined(said)) == {"pbx"}


@pytest.mark.parametrize("text", ['[store.local]\nroot = "relative"\n', "no toml", None])
def test_settings_that_do_not_name_the_store_leave_nothing_to_examine(tmp_path: Path, text: str | None) -> None:
    with settings_only(tmp_path, text or "") as it:
        if text is None:
            it.settings_file.unlink()
        said = it.command("doctor", "--json")
        assert said.code == 2
        assert "settings.toml" in json.dumps(said.json)
        assert set(not_examined(said)) == {"store", "ledger", "pbx"}
        assert not it.root.exists()


def test_a_cluster_with_a_ledger_in_a_file_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.configure(cluster={"scheduler": "tcp://scheduler.example:8786"})
        said = it.command("doctor", "--json")
        assert said.code == 2
        assert "cluster.scheduler" in sections(said)["settings"]["cluster"]["found"]
        assert set(not_examined(said)) == {"cluster"}


# The local folder


def test_a_root_that_others_can_look_into_is_weak(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.root.mkdir()
        it.root.chmod(0o755)
        said = it.command("doctor", "--json")
        assert (said.code, said.json["outcome"], states(said, "store")) == (0, "weak", {"permissions": "weak"})
        assert sections(said)["store"]["permissions"]["advice"] == f"chmod 700 {it.root}"
        assert f"→ chmod 700 {it.root}" in it.command("doctor").out


def test_a_root_that_anybody_can_write_ends_with_5_and_the_pbx_is_examined(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.root.mkdir()
        it.root.chmod(0o777)
        said = it.command("doctor", "--json")
        assert said.code == 5
        assert "chmod o-w" in sections(said)["store"]["root"]["found"]
        assert set(not_examined(said)) == {"ledger"}
        assert set(sections(said)["pbx"]) == PBX


def test_a_root_whose_parent_is_not_there_ends_with_5_and_is_not_made(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.configure(store__local={"root": str(tmp_path / "not" / "mounted")})
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "store")) == (5, {"root": "failed"})
        assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("store", ["local", "s3"])
def test_a_root_that_can_not_even_be_looked_at_ends_with_5(tmp_path: Path, store: str) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.configure(
            store__local={"root": str(tmp_path / ("a" * 300) / "archive")},
            archive={"store": store},
            store__s3={"bucket": "plain", "endpoint_url": "http://127.0.0.1:9", "object_lock_mode": "COMPLIANCE"}
            | {"retention_days": 1},
        )
        said = it.command("doctor", "--json", env=CREDENTIALS)
        assert (said.code, states(said, "folder" if store == "s3" else "store")) == (5, {"root": "failed"})


def test_a_full_disk_ends_with_5(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "small", "1m") as small, rig(tmp_path / "work", fresh()) as it:
        it.configure(store__local={"root": str(small / "archive")})
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "store")) == (5, {"room": "failed"})


def test_another_file_system_inside_the_archive_ends_with_5(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.root.mkdir(0o700)
        with small_file_system(it.root / ACCOUNTS[0], "1m"):
            said = it.command("doctor", "--json")
        assert (said.code, states(said, "store")) == (5, {"one_file_system": "failed"})


def test_a_disk_that_takes_no_file_of_that_size_ends_with_5_and_leaves_nothing(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        said = it.command("doctor", "--json", limits=["--fsize=1000"])
        assert (said.code, states(said, "store")) == (5, {"write": "failed"})
        assert it.temporaries() == []


def test_a_run_that_is_under_way_is_named_and_not_disturbed(tmp_path: Path) -> None:
    rows = [*recordings(6), *fresh()]
    slow = Fault(on="media", recording_id=rows[0].recording_id, action=Delay(seconds=4))
    with rig(tmp_path / "work", rows, faults=[slow]) as it:
        running = it.start("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json")
        until(lambda: it.pbx.stats.media > 0)
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "store")) == (0, {"in_use": "weak"})
        assert str(running.process.pid) in sections(said)["store"]["in_use"]["found"]
        assert states(said, "ledger") == {}
        done = running.wait()
        assert (done.code, done.json["archived"]) == (0, 6)


def test_a_doctor_that_is_interrupted_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    slow = Fault(on="login", action=Delay(seconds=40), times=-1)
    with rig(tmp_path / "work", fresh(), faults=[slow]) as it:
        running = it.start("doctor", "--json")
        until(lambda: it.pbx.stats.logins > 0 or it.pbx.stats.requests > 0)
        running.signal(signal.SIGINT)
        said = running.wait(timeout_s=20)
        assert (said.code, said.out) == (130, "")
        assert it.temporaries() == []


# The ledger


def test_a_ledger_of_a_newer_program_ends_with_5_and_is_left_alone(tmp_path: Path) -> None:
    with rig(tmp_path / "work", [*recordings(1), *fresh()]) as it:
        assert it.run().code == 0
        path = it.root / ".archiver" / "ledger.sqlite3"
        with sqlite3.connect(path) as ledger:
            ledger.execute("UPDATE alembic_version SET version_num = '9999'")
        ledger.close()
        before = path.read_bytes()
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "ledger")) == (5, {"schema": "failed"})
        assert path.read_bytes() == before


def test_a_ledger_whose_folder_is_not_there_ends_with_5(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        it.configure(ledger={"url": f"sqlite:///{tmp_path}/nowhere/ledger.sqlite3"})
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "ledger"), states(said, "store")) == (5, {"place": "failed"}, {})


def test_a_file_that_is_no_ledger_ends_with_5_and_one_that_others_can_read_is_weak(tmp_path: Path) -> None:
    with rig(tmp_path / "work", [*recordings(1), *fresh()]) as it:
        assert it.run().code == 0
        path = it.root / ".archiver" / "ledger.sqlite3"
        path.chmod(0o644)
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "ledger")) == (0, {"private": "weak"})
        path.write_bytes(b"no database" * 1000)
        said = it.command("doctor", "--json")
        assert (said.code, list(states(said, "ledger").values())) == (5, ["failed"])


# The PBX


def test_a_password_that_is_refused_ends_with_4(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        said = it.command("doctor", "--json", env={"ARCHIVER_PBX__PASSWORD": "wrong"})
        assert (said.code, states(said, "pbx"), states(said, "store")) == (4, {"sign_in": "failed"}, {})
        assert it.pbx.stats.media == 0


def test_a_pbx_that_nobody_answers_for_ends_with_8(tmp_path: Path) -> None:
    with socket.socket() as taken, rig(tmp_path / "work", []) as it:
        taken.bind(("127.0.0.1", 0))
        it.configure(pbx={"base_url": f"http://127.0.0.1:{taken.getsockname()[1]}"})
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx"), states(said, "store")) == (8, {"reachable": "failed"}, {})


def test_a_ca_file_that_is_none_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with rig(tmp_path / "work", []) as it:
        it.configure(pbx={"ca_file": str(tmp_path / "ca.pem")})
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx")) == (2, {"settings": "failed"})


def test_a_clock_that_is_off_is_weak(tmp_path: Path) -> None:
    simulator = Simulator(Corpus(fresh(), (), accounts=ACCOUNTS), clock=lambda: time.time() + 600)
    with SimulatorThread(simulator) as pbx:
        said = Rig(tmp_path / "work", pbx).command("doctor", "--json")
    assert (said.code, states(said, "pbx")) == (0, {"clock": "weak"})
    assert "-600 s" in sections(said)["pbx"]["clock"]["found"] or "-599 s" in sections(said)["pbx"]["clock"]["found"]


def test_a_listing_that_is_refused_ends_with_8(tmp_path: Path) -> None:
    refused = Fault(on="recordings", action=Status(code=403), times=-1)
    with rig(tmp_path / "work", fresh(), faults=[refused]) as it:
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx")) == (8, {"listing": "failed"})


def test_a_pbx_without_calls_is_weak_as_no_media_can_be_tried(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(4)) as it:
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx")) == (0, {"listing": "weak", "media": "weak"})


@pytest.mark.parametrize(
    ("action", "code", "state"),
    [
        (Status(code=404), 0, "weak"),
        (Extra(bytes=7), 0, "weak"),
        (Status(code=403), 8, "failed"),
        (Status(code=500), 8, "failed"),
        (Body(text="<html>"), 8, "failed"),
    ],
    ids=["absent", "longer", "forbidden", "failing", "no audio"],
)
def test_media_that_do_not_come_whole_are_told(tmp_path: Path, action: Any, code: int, state: str) -> None:
    with rig(tmp_path / "work", fresh(), faults=[Fault(on="media", action=action, times=-1)]) as it:
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx")) == (code, {"media": state})
        assert it.files() == {}
        assert it.temporaries() == []


def test_one_recording_without_media_is_passed_over_for_the_next(tmp_path: Path) -> None:
    rows = fresh()
    absent = Fault(on="media", recording_id=rows[0].recording_id, action=Status(code=404), times=-1)
    with rig(tmp_path / "work", rows, faults=[absent]) as it:
        said = it.command("doctor", "--json")
        assert (said.code, states(said, "pbx")) == (0, {})
        assert str(len(media(rows[1]))) in sections(said)["pbx"]["media"]["found"]


def test_the_code_is_that_of_what_a_run_meets_first(tmp_path: Path) -> None:
    with rig(tmp_path / "work", []) as it:
        it.root.touch()
        wrong = {"ARCHIVER_PBX__PASSWORD": "wrong"}
        assert it.command("doctor", "--json", env=wrong).code == 5
        it.configure(cluster={"scheduler": "tcp://scheduler.example:8786"})
        assert it.command("doctor", "--json", env=wrong).code == 2


# S3

WEAK: Mapping[tuple[str, bool], dict[str, str]] = {
    ("ceph", False): {"versions": "weak"},
    ("ceph", True): {"conditional": "weak"},
    ("moto", False): {"digests": "weak", "versions": "weak"},
    ("moto", True): {"digests": "weak"},
    ("rclone", False): {"conditional": "weak", "versions": "weak"},
}
"""What each server can't do, with Object Lock and without; nothing of it keeps a run from working."""
GOVERNANCE: Mapping[str, Any] = {"object_lock_mode": "GOVERNANCE", "retention_days": 1}


def keys(access: S3Access) -> set[str]:
    client = admin(access.endpoint_url)
    found = client.list_objects_v2(Bucket=access.bucket, Prefix=access.path(""))
    return {one["Key"].removeprefix(access.path("")) for one in found.get("Contents", ())}


@pytest.mark.parametrize(("server", "locked"), sorted(WEAK))
def test_a_bucket_is_tried_out_and_what_it_can_not_do_is_weak(server: str, locked: bool, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=locked), tmp_path)
    with rig(tmp_path / "work", fresh()) as it:
        use(it, access, **(GOVERNANCE if locked else {}))
        said = it.command("doctor", "--json", env=CREDENTIALS)
        found = sections(said)
        assert (said.code, said.json["outcome"]) == (0, "weak"), said
        assert states(said, "store") == WEAK[server, locked]
        assert all(check["advice"] for check in found["store"].values() if check["state"] != "ok")
        assert {"bucket", "clock", "write", "read_back", "conditional", "digests", "lock"} <= set(found["store"])
        assert (set(found["folder"]), states(said, "folder")) == (LOCAL, {})
        assert {key.partition("-")[0] for key in keys(access)} == {".archiver/probe"}
        again = it.command("doctor", "--json", env=CREDENTIALS)
        assert states(again, "store") == WEAK[server, locked]


def test_ceph_shows_the_lock_it_was_asked_for(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        use(it, prefixed(bucket("ceph", locked=True), tmp_path), **GOVERNANCE)
        said = it.command("doctor", "--json", env=CREDENTIALS)
        assert sections(said)["store"]["lock"]["found"].startswith("read back: GOVERNANCE until ")


@pytest.mark.parametrize("server", sorted(SERVERS))
def test_a_bucket_without_the_locks_that_are_asked_for_ends_with_5(server: str, tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        use(it, prefixed(bucket(server), tmp_path), **GOVERNANCE)
        said = it.command("doctor", "--json", env=CREDENTIALS)
        assert (said.code, states(said, "store")) == (5, {"lock_setup": "failed"})
        assert states(said, "folder") == states(said, "pbx") == {}


def test_a_bucket_that_is_not_there_and_a_store_that_is_silent_end_with_5(tmp_path: Path) -> None:
    access = prefixed(bucket("moto"), tmp_path)
    with rig(tmp_path / "work", fresh()) as it:
        for changes, words in (
            ({"bucket": "other"}, "no bucket other"),
            ({"endpoint_url": "http://127.0.0.1:9"}, "127.0.0.1:9"),
        ):
            use(it, prefixed(access, tmp_path, **changes))
            said = it.command("doctor", "--json", env=CREDENTIALS)
            assert (said.code, states(said, "store")) == (5, {"bucket": "failed"})
            assert words in sections(said)["store"]["bucket"]["found"]


def test_compliance_is_tried_out_in_governance_until_it_is_accepted(tmp_path: Path) -> None:
    access = prefixed(bucket("moto", locked=True), tmp_path)
    with rig(tmp_path / "work", fresh()) as it:
        use(it, access, object_lock_mode="COMPLIANCE", retention_days=3650)
        said = it.command("doctor", "--json", env=CREDENTIALS)
        assert (said.code, states(said, "store")) == (0, {"compliance": "weak", "digests": "weak"})
        client = admin(access.endpoint_url)
        modes = {
            client.head_object(Bucket=access.bucket, Key=access.path(key))["ObjectLockMode"] for key in keys(access)
        }
        assert modes == {"GOVERNANCE"}


def test_tags_that_are_none_are_a_setting_that_is_wrong(tmp_path: Path) -> None:
    with rig(tmp_path / "work", fresh()) as it:
        use(it, prefixed(bucket("moto"), tmp_path), tags="no tags")
        said = it.command("doctor", "--json", env=CREDENTIALS)
        assert (said.code, states(said, "store")) == (2, {"settings": "failed"})
