"""Each command that works on the archive leaves its report under `.archiver/reports`, whole or not at all."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, Rig, key, recordings, rig, small_file_system, until

from archiver.monitoring.kept_reports import keep_report
from archiver.simulator import Switches


def reports(it: Rig) -> dict[str, dict[str, object]]:
    """The kept reports, by name."""
    folder = it.root / ".archiver" / "reports"
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.iterdir())}


def test_the_report_that_a_run_prints_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(4)) as it:
        said = it.run()
        assert reports(it) == {f"{said.json['run_id']}.json": said.json}
        [file] = (it.root / ".archiver" / "reports").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        words = it.command("run", "--since", SINCE, "--until", UNTIL)
        assert (words.code, len(reports(it))) == (0, 2)


def test_every_command_that_works_on_the_archive_keeps_its_report_and_verify_finds_nothing_foreign(
    tmp_path: Path,
) -> None:
    rows = recordings(4)
    other = tmp_path / "other"
    other.mkdir()
    with rig(tmp_path, rows) as it:
        period = ("--since", SINCE, "--until", UNTIL)
        assert it.run().code == 0
        known = set(reports(it))
        (it.root / key(rows[0])).write_bytes(b"damaged")
        for command in (
            ("verify",),
            ("verify", "--repair"),
            ("reconcile", *period),
            ("rebuild",),
            ("rebuild", "--adopt", str(other), *period),
        ):
            said = it.command(*command, "--json")
            assert said.code in {0, 3, 7}, said
            [name] = set(reports(it)) - known
            assert reports(it)[name] == said.json
            run_id = said.json.get("run_id") or said.json.get("repair_run_id")
            assert name == f"{run_id}.json" if run_id else "-verify-" in name
            known.add(name)
        assert it.command("verify", "--json").json["findings"] == []


def test_an_interrupted_run_and_one_that_failed_keep_their_reports(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(40), switches=Switches(media_think_time_s=0.15)) as it:
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media > 0)
        started.signal(signal.SIGINT)
        said = started.wait()
        assert (said.code, said.json["outcome"]) == (130, "interrupted")
        assert list(reports(it).values()) == [said.json]
        it.base_url = "http://127.0.0.1:1"
        it.configure(pbx={"max_retries": 0})
        failed = it.run()
        assert failed.code == 8
        assert failed.json in reports(it).values()


def test_looking_keeps_no_report(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        assert it.run("--dry-run").code == 0
        assert not it.root.exists()
        assert it.run().code == 0
        for command in (("status",), ("plan", "--since", SINCE), ("doctor",), ("audit", "check")):
            assert it.command(*command).code == 0
        assert len(reports(it)) == 1


def test_the_oldest_reports_beyond_the_limit_go_and_nothing_else(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        it.configure(monitoring={"reports_kept": 2})
        assert it.run().code == 0
        folder = it.root / ".archiver" / "reports"
        for night in range(1, 6):
            (folder / f"2020010{night}T000000Z-0badcafe.json").write_text("{}")
        (folder / "notes.txt").write_text("mine")
        first = max(path.name for path in folder.glob("*.json"))
        last = it.run().json["run_id"]
        assert {path.name for path in folder.iterdir()} == {first, f"{last}.json", "notes.txt"}


def test_a_limit_of_0_keeps_all_and_a_clock_that_went_back_loses_no_new_report(tmp_path: Path) -> None:
    (tmp_path / ".archiver").mkdir()
    for night in range(5):
        keep_report(tmp_path, f"2026010{night}T000000Z-aa", b"{}", most=0, durable=False)
    folder = tmp_path / ".archiver" / "reports"
    assert len(list(folder.iterdir())) == 5
    keep_report(tmp_path, "20200101T000000Z-aa", b"{}", most=2, durable=False)
    assert {path.name for path in folder.iterdir()} == {"20200101T000000Z-aa.json", "20260104T000000Z-aa.json"}


def test_a_report_that_cannot_be_written_is_a_warning_and_the_run_is_still_good(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        assert it.run().code == 0
        folder = it.root / ".archiver" / "reports"
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        folder.write_text("no folder")
        said = it.run()
        assert (said.code, said.json["outcome"]) == (0, "complete")
        assert "the report could not be kept" in said.err
        assert folder.read_text() == "no folder"


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / ".archiver").mkdir()
    (tmp_path / ".archiver" / "reports").symlink_to(elsewhere)
    with pytest.raises(OSError, match="reports"):
        keep_report(tmp_path, "20260101T000000Z-aa", b"{}", most=1, durable=True)
    assert list(elsewhere.iterdir()) == []


def test_an_archive_that_is_not_there_is_not_made_for_a_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        keep_report(tmp_path, "20260101T000000Z-aa", b"{}", most=1, durable=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_half_report_and_keeps_the_former(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "disk", "64k") as root:
        (root / ".archiver").mkdir()
        keep_report(root, "20260101T000000Z-aa", b'{"whole": 1}', most=5, durable=True)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                keep_report(root, "20260101T000000Z-aa", b"x" * 200_000, most=5, durable=True)
        [file] = (root / ".archiver" / "reports").iterdir()
        assert json.loads(file.read_text()) == {"whole": 1}


WRITER = """
import itertools, sys
from pathlib import Path
from archiver.monitoring.kept_reports import keep_report
report = b'{"filler": "' + b'x' * 4_000_000 + b'"}'
for number in itertools.count():
    keep_report(Path(sys.argv[1]), f"20260101T{number:06d}Z-aa", report, most=20, durable=False)
"""


def test_a_kill_leaves_no_half_report_under_a_reports_name(tmp_path: Path) -> None:
    (tmp_path / ".archiver").mkdir()
    folder = tmp_path / ".archiver" / "reports"
    half = 0
    for round_number in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        until(lambda: folder.is_dir() and any(path.suffix == ".new" for path in folder.iterdir()))
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = [path for path in folder.iterdir() if path.suffix == ".new"]
        half += len(left)
        for path in folder.glob("*.json"):
            json.loads(path.read_bytes())
        for path in left:
            old = time.time() - 2 * 3600 - round_number
            os.utime(path, (old, old))
    assert half
    keep_report(tmp_path, "20270101T000000Z-aa", b"{}", most=0, durable=True)
    assert not [path for path in folder.iterdir() if path.suffix == ".new"]
