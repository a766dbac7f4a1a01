"""Exports that go wrong: whatever happens, nothing that looks like a bag is left, and nothing is handed out unrecorded."""

import fcntl
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from archive_rig import (
    SINCE,
    UNTIL,
    Rig,
    Said,
    Started,
    assert_private,
    cdr,
    key,
    media,
    recordings,
    rig,
    small_file_system,
    until,
)
from s3_kinds import CREDENTIALS, admin, bucket, prefixed
from s3_servers import SERVERS
from test_export import PERIOD, archived, bag_of, export, ids, table, trail, validate
from test_s3_end_to_end import use


@contextmanager
def trail_held(it: Rig) -> Iterator[None]:
    """Nobody can read the audit trail: an export waits when its media are copied, and its last files are not written."""
    with (it.root / ".archiver" / "audit.jsonl").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def begun(it: Rig, count: int) -> Started:
    """An export that has copied so many recordings and waits for the audit trail."""
    started = it.start("export", "--case", "C-1", "--to", str(it.folder / "out"), "--json", *PERIOD)
    until(lambda: len(list((it.folder / "out").glob(".*.part/data/metadata/**/*.json"))) == count)
    until(lambda: bool(list((it.folder / "out").glob(".*.part/data/audit.jsonl"))))
    return started


def fill(path: Path) -> None:
    """Somebody else's file takes all the room that is left."""
    with path.open("wb", 0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def left(it: Rig) -> list[str]:
    return sorted(path.name for path in (it.folder / "out").iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_export_leaves_nothing_and_no_record(number: signal.Signals, code: int, tmp_path: Path) -> None:
    rows = recordings(20)
    with rig(tmp_path / "work", rows) as it:
        archived(it)
        before = trail(it)
        with trail_held(it):
            started = begun(it, len(rows))
            started.signal(number)
            # Its word that it stops comes from the loop, so that the event is set.
            assert started.process.stderr is not None
            assert "stopping" in started.process.stderr.readline()
        said = started.wait()
        assert (said.code, said.json["outcome"], said.json["bag"]) == (code, "interrupted", "")
        assert left(it) == []
        assert trail(it) == before


def test_a_killed_export_leaves_no_bag_and_the_next_one_says_what_lies_there(tmp_path: Path) -> None:
    rows = recordings(20)
    with rig(tmp_path / "work", rows) as it:
        archived(it)
        with trail_held(it):
            started = begun(it, len(rows))
            started.signal(signal.SIGKILL)
            assert started.wait().code == -signal.SIGKILL
        (part,) = left(it)
        assert part.startswith(".C-1-")
        assert part.endswith(".part")
        assert not (it.folder / "out" / part / "bagit.txt").exists()
        said = export(it, *PERIOD)
        validate(bag_of(said))
        assert said.code == 0
        assert any(part in note for note in said.json["notes"])
        assert (it.folder / "out" / part).exists()


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="runs behind `make campaign`")
@pytest.mark.parametrize("moment", range(30))
def test_a_kill_at_any_moment_leaves_a_whole_bag_or_none(moment: int, tmp_path: Path) -> None:
    rows = recordings(60)
    with rig(tmp_path / "work", rows) as it:
        archived(it)
        started = it.start("export", "--case", "C-1", "--to", str(it.folder / "out"), "--json", *PERIOD)
        seen = itertools.count()
        until(lambda: next(seen) > 5 * moment or started.process.poll() is not None)
        started.signal(signal.SIGKILL)
        started.wait()
        for name in left(it) if (it.folder / "out").exists() else []:
            if not name.startswith("."):
                validate(it.folder / "out" / name)
        assert it.command("audit", "check").code == 0


def test_a_folder_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(10, duration_ms=60_000)) as it:
        archived(it)
        with small_file_system(it.folder / "out", "1m"):
            said = export(it, *PERIOD)
            assert (said.code, said.out, left(it)) == (5, "", [])
            assert "make room" in said.err


def test_a_disk_that_fills_up_meanwhile_ends_with_5_and_is_cleaned_up(tmp_path: Path) -> None:
    rows = recordings(10)
    with rig(tmp_path / "work", rows) as it:
        archived(it)
        with small_file_system(it.folder / "out", "4m") as out:
            with trail_held(it):
                started = begun(it, len(rows))
                fill(out / "somebody-else-s")
            said = started.wait()
            assert (said.code, said.out) == (5, ""), said
            assert "no room left" in said.err
            assert left(it) == ["somebody-else-s"]
        assert [record for record in trail(it) if record["what"] == "exported"] == []


def test_what_can_not_be_recorded_is_not_handed_out(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(3)) as it:
        archived(it)
        file = it.root / ".archiver" / "audit.jsonl"
        for options in (["--bind"], ["-o", "remount,ro,bind"]):
            made = subprocess.run(
                ["mount", *options, *([str(file)] if options == ["--bind"] else []), str(file)],
                check=False,
                capture_output=True,
            )
            if made.returncode != 0:
                pytest.skip("mounting is not permitted here")
        try:
            said = export(it, *PERIOD)
            assert (said.code, said.out, left(it)) == (5, "", [])
            assert "audit.jsonl" in said.err
        finally:
            subprocess.run(["umount", str(file)], check=True)
        assert export(it, *PERIOD).code == 0


def test_a_name_that_is_taken_meanwhile_is_not_replaced_and_the_trail_says_so(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(3)) as it:
        archived(it)
        with trail_held(it):
            started = begun(it, 3)
            (part,) = left(it)
            taken = it.folder / "out" / part.removeprefix(".").removesuffix(".part")
            taken.mkdir()
            (taken / "mine").write_text("mine")
        said = started.wait()
        assert (said.code, said.out) == (5, "")
        assert (left(it), (taken / "mine").read_text()) == ([taken.name], "mine")
        results = [
            record["result"]
            for record in trail(it)
            if record["subject" if "subject" in record else "what"] == taken.name
        ]
        assert results == ["handed_out", "not_handed_out"]
        assert it.command("audit", "check").code == 0


def test_a_folder_that_others_may_not_write_to_ends_with_5(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        archived(it)
        with small_file_system(it.folder / "out", "4m") as out:
            subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
            said = export(it, *PERIOD)
            assert (said.code, "read-only" in said.err) == (5, True), said


def test_an_archive_that_nobody_ever_ran_has_nothing_to_export(tmp_path: Path) -> None:
    with rig(tmp_path / "work", []) as it:
        it.root.mkdir()
        said: Said = export(it, *PERIOD)
        assert (said.code, said.out) == (5, ""), said
        assert not (it.folder / "out").exists()


@pytest.mark.parametrize("server", sorted(SERVERS))
def test_an_archive_in_a_bucket_is_exported_like_one_on_a_disk(server: str, tmp_path: Path) -> None:
    rows = recordings(6)
    access = prefixed(bucket(server), tmp_path)
    client = admin(access.endpoint_url)
    with rig(tmp_path / "work", rows, cdrs=[cdr(row) for row in rows]) as it:
        use(it, access)
        assert it.command("run", "--since", SINCE, "--until", UNTIL, env=CREDENTIALS).code == 0
        assert it.command("reconcile", "--since", SINCE, "--until", UNTIL, env=CREDENTIALS).code == 0
        said = export(it, "--party", "*@pbx.example", env=CREDENTIALS)
        assert (said.code, said.json["exported"], said.json["cdrs"]) == (0, 6, 6), said
        bag = bag_of(said)
        validate(bag)
        assert {row["path"] for row in table(bag)} == {f"data/media/{key(row)}" for row in rows}
        assert all((bag / "data" / "media" / key(row)).read_bytes() == media(row) for row in rows)
        client.put_object(Bucket=access.bucket, Key=access.path(key(rows[0])), Body=media(rows[0])[:-1] + b"\0")
        client.delete_object(Bucket=access.bucket, Key=access.path(key(rows[1])))
        damaged = export(it, *PERIOD, env=CREDENTIALS)
        assert damaged.code == 7
        assert {(each["kind"], each["key"]) for each in damaged.json["findings"]} == {
            ("digest", key(rows[0])),
            ("missing_object", key(rows[1])),
        }
        validate(bag_of(damaged))
        assert ids(bag_of(damaged)) == {row.recording_id for row in rows}
        # The bucket has the trail's lines about both.
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=access.bucket, Prefix=access.path(".archiver/audit/")
        )
        names = [found["Key"] for page in pages for found in page.get("Contents", ())]
        copies = b"".join(client.get_object(Bucket=access.bucket, Key=name)["Body"].read() for name in sorted(names))
        assert copies.count(b'"what":"exported"') == 2 * (1 + len(rows))


def test_a_store_that_is_gone_is_no_damage(tmp_path: Path) -> None:
    rows = recordings(40)
    access = prefixed(bucket("rclone"), tmp_path)
    with rig(tmp_path / "work", rows) as it:
        use(it, access)
        assert it.command("run", "--since", SINCE, "--until", UNTIL, env=CREDENTIALS).code == 0
        use(it, prefixed(access, tmp_path, endpoint_url="http://127.0.0.1:9"))
        said = export(it, *PERIOD, env=CREDENTIALS)
        assert (said.code, said.out, left(it)) == (5, "", [])


def test_files_that_nobody_else_may_read_under_any_umask(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(2)) as it:
        archived(it)
        before = os.umask(0)
        try:
            bag = bag_of(export(it, *PERIOD))
        finally:
            os.umask(before)
        assert_private(bag)
