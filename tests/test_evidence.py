"""Evidence from the outside: what commands leave in the audit trail and the manifests, and how it is checked."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from archive_rig import ACCOUNTS, SINCE, UNTIL, Rig, key, recordings, rig, until
from s3_kinds import CREDENTIALS, admin, bucket, prefixed
from s3_proxy import Fault, proxied, refuse
from test_s3_end_to_end import use

from archiver.proof.evidence.audit import Draft, What, add_records
from archiver.simulator import Corpus, Simulator, SimulatorThread
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.trail_file import TrailFile

ROWS = 8


def trail(it: Rig) -> Path:
    return it.root / ".archiver" / "audit.jsonl"


def records(it: Rig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trail(it).read_bytes().splitlines()]


def manifests(it: Rig) -> dict[str, bytes]:
    folder = it.root / ".archiver" / "manifests"
    return {path.relative_to(it.root).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.sha256"))}


def sha256sum(it: Rig, *names: str) -> "subprocess.CompletedProcess[str]":
    """The real tool, from the archive's root."""
    command = ["sha256sum", "--strict", "-c", *names]
    return subprocess.run(command, cwd=it.root, check=False, capture_output=True, text=True)


def named(it: Rig) -> list[str]:
    return sorted(line.split(b"  ")[1].decode() for data in manifests(it).values() for line in data.splitlines())


@pytest.fixture(name="made", scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    with rig(tmp_path_factory.mktemp("made") / "work", recordings(ROWS)) as it:
        assert it.run().code == 0
    return it


@pytest.fixture(name="it")
def copy(made: Rig, tmp_path: Path) -> Rig:
    """A copy of one archive, which no test needs to make anew."""
    it = Rig(tmp_path / "work", made.pbx, base_url=made.base_url)
    shutil.copytree(made.root, it.root)
    return it


def test_a_run_leaves_a_handful_of_records_and_manifests_that_sha256sum_accepts(tmp_path: Path) -> None:
    rows = recordings(40)
    with rig(tmp_path / "work", rows) as it:
        report = it.run().json
        assert len(manifests(it)) == 2
        assert named(it) == sorted(it.files())
        said = sha256sum(it, *manifests(it))
        assert (said.returncode, said.stdout.count(": OK")) == (0, 80)
        written = records(it)
        assert [each["what"] for each in written] == ["run_began", "manifest", "manifest", "run_ended"]
        assert {each["run_id"] for each in written} == {report["run_id"]}
        assert written[0]["details"]["since"] == f"{SINCE}T00:00:00Z"
        ended = written[-1]
        assert (ended["result"], ended["details"]["archived"]) == ("complete", 40)
        assert re.fullmatch(r"\S+@\S+", ended["who"])
        # Nothing new: nothing to seal.
        assert it.run().code == 0
        assert [each["what"] for each in records(it)[4:]] == ["run_began", "run_ended"]
        checked = it.command("audit", "check", "--json")
        assert (checked.code, checked.json["whole"], checked.json["records"]) == (0, True, 6)
        assert "Whole" in it.command("audit", "check").out


def test_what_a_later_run_archives_comes_into_later_parts(tmp_path: Path) -> None:
    rows = recordings(6)
    simulator = Simulator(Corpus(rows[:4], accounts=["a" * 32, "b" * 32]))
    with SimulatorThread(simulator) as pbx:
        it = Rig(tmp_path / "work", pbx)
        assert it.run().code == 0
    before = manifests(it)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        after = manifests(it)
        assert {name: after[name] for name in before} == before
        assert sorted(set(after) - set(before)) == [name.replace(".sha256", ".2.sha256") for name in sorted(before)]
        assert named(it) == sorted(it.files())
        assert sha256sum(it, *after).returncode == 0
        assert it.command("verify").code == 0


def test_a_run_that_was_interrupted_is_told_and_what_it_archived_is_sealed(tmp_path: Path) -> None:
    rows = recordings(300, duration_ms=200)
    with rig(tmp_path / "work", rows) as it:
        it.configure(transfer={"requests_per_s": 40})
        started = it.start("run", "--since", SINCE, "--until", UNTIL)
        until(lambda: len(it.media()) >= 10)
        started.signal(signal.SIGTERM)
        assert started.wait().code == 143
        assert records(it)[-1]["result"] == "interrupted"
        assert named(it) == sorted(it.files())
        assert sha256sum(it, *manifests(it)).returncode == 0


def test_no_number_and_no_name_of_the_corpus_gets_into_the_trail(tmp_path: Path) -> None:
    rows = recordings(12)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        (it.root / key(rows[0])).unlink()
        (it.root / key(rows[1])).write_bytes(b"cut")
        beside = it.root / key(rows[2]).replace(".mp3", ".json")
        beside.write_bytes(beside.read_bytes()[:-9])
        (it.root / key(rows[3])).with_name("34912345678.mp3").write_bytes(b"a stranger")
        assert it.command("verify").code == 7
        said = trail(it).read_text()
        assert "34912345678" not in said
        words: set[str] = set()
        for name, data in it.files().items():
            if name.endswith(".json") and name != key(rows[2]).replace(".mp3", ".json"):
                metadata = json.dumps(json.loads(data)["recording"])
                words.update(re.findall(r'"(?:caller|callee|from|to|name)[\w-]*": "([^"]{3,})"', metadata))
                words.update(re.findall(r"\+?\d{7,15}", re.sub(r"\d{6}-[0-9a-f]+|[0-9a-f]{32}", "", metadata)))
        words -= {each["at"] for each in records(it)}
        assert len(words) > 10
        # On its own and not within a digest; an extension of a few digits may well be some count.
        told = {
            word for word in words if len(word) > 4 and re.search(rf"(?<![0-9a-f]){re.escape(word)}(?![0-9a-f])", said)
        }
        assert told == set()
        assert "simulator" not in said


def edited(it: Rig) -> str:
    data = trail(it).read_bytes()
    trail(it).write_bytes(data.replace(b'"result":"complete"', b'"result":"failed"', 1))
    return "audit_edited"


def cut(it: Rig) -> str:
    lines = trail(it).read_bytes().splitlines(keepends=True)
    trail(it).write_bytes(b"".join(lines[:-1]))
    return "audit_cut"


def gone(it: Rig) -> str:
    trail(it).unlink()
    return "audit_cut"


def a_line_taken_out(it: Rig) -> str:
    lines = trail(it).read_bytes().splitlines(keepends=True)
    trail(it).write_bytes(b"".join(lines[:1] + lines[2:]))
    return "audit_cut"


@pytest.mark.parametrize("damage", [edited, cut, gone, a_line_taken_out])
def test_a_trail_that_was_cut_or_edited_is_found_for_ever_after(it: Rig, damage: Callable[[Rig], str]) -> None:
    kind = damage(it)
    said = it.command("audit", "check", "--json")
    assert (said.code, said.json["whole"]) == (7, False)
    assert [finding["kind"] for finding in said.json["findings"]] == [kind]
    found = it.command("verify", "--json", "--level", "presence", "--since", "2024-05-07", "--until", UNTIL)
    assert (found.code, [each["kind"] for each in found.json["findings"]]) == (7, [kind])
    # The verification has added its records, and the ledger a new mark.
    shown = it.command("audit", "check")
    assert (shown.code, kind in shown.out, "NOT whole" in shown.out) == (7, True, True)


def test_an_addition_that_a_dead_process_left_torn_is_no_damage_and_is_cleared(it: Rig) -> None:
    with trail(it).open("ab") as file:
        file.write(b'{"seq":9,"at"')
    said = it.command("audit", "check", "--json")
    assert (said.code, said.json["torn_bytes"]) == (0, 13)
    assert it.command("verify").code == 0
    assert [each["what"] for each in records(it)[-2:]] == ["recovered", "verified"]
    assert it.command("audit", "check", "--json").json["torn_bytes"] == 0


@pytest.mark.parametrize("how", ["gone", "edited"])
def test_a_manifest_that_is_gone_or_edited_is_found(it: Rig, how: str) -> None:
    name, data = next(iter(manifests(it).items()))
    if how == "gone":
        (it.root / name).unlink()
    else:
        (it.root / name).write_bytes(data.replace(b"a", b"b", 1))
    said = it.command("verify", "--json")
    assert said.code == 7
    assert [(each["kind"], each["key"]) for each in said.json["findings"]] == [("manifest", name)]
    day = it.command("verify", "--json", "--since", "2024-05-07", "--until", UNTIL)
    assert (day.code, day.json["findings"]) == (0, [])


def test_a_verification_and_its_findings_are_told_by_the_trail_and_by_explain(it: Rig) -> None:
    rows = recordings(ROWS)
    assert it.command("verify", "--level", "size").code == 0
    (it.root / key(rows[0])).write_bytes(b"cut")
    assert it.command("verify").code == 7
    verified, finding = records(it)[-2:]
    assert (verified["what"], verified["result"], verified["details"]["findings"]) == ("verified", "damage", 1)
    assert (finding["what"], finding["subject"], finding["result"]) == ("finding", key(rows[0]), "size")
    assert finding["details"]["found"].startswith("3 bytes")
    (found,) = it.command("explain", rows[0].recording_id, "--json").json["found"]
    assert found["versions"][0]["manifest"] in manifests(it)
    assert [(each["level"], each["result"]) for each in found["verifications"]] == [
        ("size", "whole"),
        ("full", "damage"),
    ]
    assert [(each["what"], each["result"], each["key"]) for each in found["audit"]] == [
        ("finding", "size", key(rows[0]))
    ]
    shown = it.command("explain", rows[0].recording_id).out
    assert "2024-05-06.sha256" in shown
    assert "2 times, last at" in shown
    (other,) = it.command("explain", rows[1].recording_id, "--json").json["found"]
    assert (len(other["verifications"]), other["audit"]) == (2, [])


def test_the_last_records_are_shown(it: Rig) -> None:
    said = it.command("audit", "show", "--last", "2", "--json")
    assert [each["what"] for each in said.json["records"]] == ["manifest", "run_ended"]
    assert said.json["records"][-1]["details"]["archived"] == ROWS
    shown = it.command("audit", "show")
    assert len(shown.out.splitlines()) == len(records(it))


def test_where_nothing_was_ever_run_there_is_no_trail_and_no_damage(tmp_path: Path) -> None:
    with rig(tmp_path / "work", []) as it:
        it.root.mkdir(mode=0o700)
        assert it.command("audit", "check").code == 0
        assert "no audit trail yet" in it.command("audit", "show").out


def test_a_verification_that_the_trail_can_not_take_still_says_what_it_found(it: Rig) -> None:
    (it.root / key(recordings(1)[0])).unlink()
    size = grown_trail(it)
    said = it.command("verify", "--json", limits=[f"--fsize={size}"])
    assert (said.code, [each["kind"] for each in said.json["findings"]]) == (7, ["missing_object"])
    assert "larger than" in said.json["not_recorded"]
    assert trail(it).stat().st_size == size


def grown_trail(it: Rig) -> int:
    """How large the trail is now: not even root can add to a file beyond such a limit."""
    folder = ArchiveFolder(it.root, durable=False, reserve_bytes=0)
    many = [Draft(What.VERIFIED, result="whole")] * 8000
    add_records(TrailFile(folder), many, who="me@here", at=datetime.now(UTC), mark=None)
    folder.close()
    size = trail(it).stat().st_size
    assert size > 1 << 20
    return size


def test_who_looks_a_recording_up_is_told_by_the_trail_and_who_asks_for_none_is_not(it: Rig) -> None:
    before, asked = records(it), recordings(1)[0].recording_id
    said = it.command("explain", asked, "--json")
    assert (said.code, said.json["not_recorded"]) == (0, None)
    assert it.command("explain", "202405-nobody").code == 2
    (added,) = records(it)[len(before) :]
    assert (added["what"], added["subject"], added["result"]) == ("looked_up", asked, "told")
    assert added["details"] == {"accounts": [ACCOUNTS[0]]}
    assert it.command("audit", "check").code == 0


def test_a_page_that_names_parties_is_told_by_the_trail_and_one_that_names_nobody_is_not(it: Rig) -> None:
    before = records(it)
    assert it.command("report", "--html", "page.html").code == 0
    assert records(it) == before
    said = it.command("report", "--html", "page.html", "--with-parties", "--json")
    assert (said.code, said.json["figures"]["not_recorded"]) == (0, None)
    (added,) = records(it)[len(before) :]
    assert (added["what"], added["result"]) == ("reported", "with_parties")
    assert added["details"] == {"listed": 0, "findings": 0}


def test_where_the_trail_takes_nothing_any_more_people_still_read_and_are_told(it: Rig) -> None:
    limits = [f"--fsize={grown_trail(it)}"]
    before = trail(it).read_bytes()
    told = it.command("explain", recordings(1)[0].recording_id, limits=limits)
    assert told.code == 0
    assert "NOT in the audit trail: " in told.out
    page = it.command("report", "--html", "page.html", "--with-parties", limits=limits)
    assert page.code == 0
    assert "NOT in the audit trail: " in page.out
    assert trail(it).read_bytes() == before


def in_bucket(access: Any, prefix: str) -> list[str]:
    pages = admin(access.endpoint_url).get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=access.bucket, Prefix=access.path(prefix))
    return [each["Key"].removeprefix(access.path("")) for page in found for each in page.get("Contents", ())]


def body(access: Any, name: str) -> bytes:
    got: bytes = admin(access.endpoint_url).get_object(Bucket=access.bucket, Key=access.path(name))["Body"].read()
    return got


@pytest.mark.parametrize("server", ["moto", "rclone"])
def test_on_s3_trail_and_manifests_are_objects_and_say_what_the_local_file_no_longer_does(
    server: str, tmp_path: Path
) -> None:
    access = prefixed(bucket(server), tmp_path)
    with rig(tmp_path / "work", recordings(4)) as it:
        use(it, access)
        period = ("--since", SINCE, "--until", UNTIL)
        assert it.command("run", *period, env=CREDENTIALS).code == 0
        assert it.command("verify", env=CREDENTIALS).code == 0
        assert in_bucket(access, ".archiver/audit/") == [
            ".archiver/audit/000000000001-4.jsonl",
            ".archiver/audit/000000000005-5.jsonl",
        ]
        copies = b"".join(body(access, name) for name in in_bucket(access, ".archiver/audit/"))
        assert copies == trail(it).read_bytes()
        assert len(in_bucket(access, ".archiver/manifests/")) == 2
        assert not (it.root / ".archiver" / "manifests").exists()
        checked = it.command("audit", "check", "--json", env=CREDENTIALS)
        assert (checked.code, checked.json["copies"]) == (0, 5)
        # Whoever owns this machine can forge file and ledger alike, but not the bucket.
        (it.root / ".archiver" / "ledger.sqlite3").unlink()
        lines = trail(it).read_bytes().splitlines(keepends=True)
        trail(it).write_bytes(b"".join(lines[:-1]))
        found = it.command("audit", "check", "--json", env=CREDENTIALS)
        assert (found.code, [each["kind"] for each in found.json["findings"]]) == (7, ["audit_cut"])


def test_on_s3_evidence_has_the_lock_of_the_recordings(tmp_path: Path) -> None:
    access = prefixed(bucket("moto", locked=True), tmp_path)
    with rig(tmp_path / "work", recordings(2)) as it:
        use(it, access, object_lock_mode="GOVERNANCE", retention_days=3650)
        assert it.command("run", "--since", SINCE, "--until", UNTIL, env=CREDENTIALS).code == 0
    for prefix, begin in ((".archiver/audit/", "20"), (".archiver/manifests/", "2034-05-04")):
        names = in_bucket(access, prefix)
        assert names
        for name in names:
            head = admin(access.endpoint_url).head_object(Bucket=access.bucket, Key=access.path(name))
            assert head["ObjectLockMode"] == "GOVERNANCE"
            assert f"{head['ObjectLockRetainUntilDate']:%Y-%m-%d}".startswith(begin)


def test_what_could_not_be_put_into_the_bucket_is_put_by_the_next_command(tmp_path: Path) -> None:
    access = prefixed(bucket("moto"), tmp_path)
    denied = Fault(refuse(403, "AccessDenied"), path="/.archiver/audit/", times=1)
    with proxied(denied, behind=access.endpoint_url) as proxy, rig(tmp_path / "work", recordings(2)) as it:
        use(it, prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        period = ("--since", SINCE, "--until", UNTIL)
        assert it.command("run", *period, env=CREDENTIALS).code == 0
        assert in_bucket(access, ".archiver/audit/") == []
        assert it.command("audit", "check", env=CREDENTIALS).code == 0
        assert it.command("run", *period, env=CREDENTIALS).code == 0
        assert in_bucket(access, ".archiver/audit/") == [".archiver/audit/000000000001-6.jsonl"]
        assert it.command("audit", "check", env=CREDENTIALS).code == 0
