"""The product from the outside: the real command in its own process against a PBX on the wire (contract, sections 2-7)."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from archive_rig import (
    ACCOUNTS,
    BEGIN_UNIX_S,
    SINCE,
    UNTIL,
    assert_holds_all,
    assert_private,
    conserved,
    key,
    media,
    recording,
    recordings,
    rig,
    until,
)

from archiver.simulator import Body, BucketRule, Cut, Delay, Drop, Extra, Fault, SimulatedRecording, Status, Switches
from archiver.simulator.hostile import hostile_recordings

FIELDS = {
    *("run_id", "outcome", "since", "until", "accounts", "listed", "archived", "already_archived", "pending"),
    *("missing", "quarantined", "bytes_archived", "pages", "requests", "retries", "logins", "windows_complete"),
    *("windows_incomplete", "duration_s", "problems", "problems_total"),
}
SLOW = Switches(media_think_time_s=0.15)


def test_a_backfill_archives_every_recording_and_says_so(tmp_path: Path) -> None:
    rows = recordings(24)
    with rig(tmp_path, rows) as it:
        said = it.run()
        report = said.json
        assert (said.code, report["outcome"]) == (0, "complete")
        assert set(report) >= FIELDS
        assert conserved(report)
        assert (report["listed"], report["archived"], report["problems_total"]) == (24, 24, 0)
        assert report["bytes_archived"] == sum(len(media(row)) for row in rows)
        assert report["accounts"] == list(ACCOUNTS)
        assert (report["since"], report["until"]) == ("2024-05-06T00:00:00Z", "2024-05-08T00:00:00Z")
        assert report["requests"] == it.pbx.stats.requests == 24 + report["pages"] + report["logins"]
        assert (report["logins"], it.pbx.stats.logins) == (1, 1)
        assert set(it.pbx.stats.media_gets.values()) == {1}
        assert_holds_all(it, rows)
        assert_private(it.root)


def test_a_sidecar_tells_everything_the_pbx_said_and_no_secret(tmp_path: Path) -> None:
    row = recording(1, overrides={"from_the_future": {"x": [1, None]}})
    with rig(tmp_path, [row]) as it:
        report = it.run().json
        said = json.loads(it.files()[key(row).removesuffix(".mp3") + ".json"])
        assert set(said) >= {"schema", "account_id", "recording_id", "content_type", "archived_at", "run_id", "source"}
        assert (said["account_id"], said["recording_id"]) == (row.account_id, row.recording_id)
        assert (said["run_id"], said["content_type"]) == (report["run_id"], "audio/mpeg")
        assert datetime.fromisoformat(said["archived_at"]).utcoffset() is not None
        assert said["source"].startswith(it.base_url)
        assert row.recording_id in said["source"]
        assert said["recording"]["from_the_future"] == {"x": [1, None]}
        assert said["recording"]["_attachments"]


def test_a_second_run_fetches_nothing_again(tmp_path: Path) -> None:
    rows = recordings(12)
    with rig(tmp_path, rows) as it:
        it.run()
        before, files = it.pbx.stats.media, it.files()
        said = it.run()
        assert said.code == 0
        assert (said.json["already_archived"], said.json["archived"], said.json["listed"]) == (12, 0, 12)
        assert it.pbx.stats.media == before
        assert it.files() == files


def test_a_recording_without_media_stays_pending_and_is_tried_again_only_when_due_row_25(tmp_path: Path) -> None:
    rows = recordings(6)
    lost = rows[2]
    fault = Fault(on="media", recording_id=lost.recording_id, action=Status(code=404), times=-1)
    with rig(tmp_path, rows, faults=[fault]) as it:
        said = it.run()
        report = said.json
        assert (said.code, report["outcome"]) == (3, "incomplete")
        assert (report["archived"], report["pending"], report["missing"]) == (5, 1, 0)
        assert conserved(report)
        (problem,) = report["problems"]
        assert (problem["account_id"], problem["recording_id"]) == (lost.account_id, lost.recording_id)
        assert problem["status"] == "pending"
        status = it.command("status", "--json").json
        text = json.dumps(status)
        assert "pending" in text
        asked = it.pbx.stats.media_gets[lost.account_id, lost.recording_id]
        it.configure(listing={"window_hours": 672})  # a night lists the years up to now
        nightly = it.command("run", "--json")
        assert nightly.code in {0, 3}
        assert conserved(nightly.json)
        assert it.pbx.stats.media_gets[lost.account_id, lost.recording_id] == asked


def test_media_that_come_late_are_archived_by_a_later_backfill(tmp_path: Path) -> None:
    rows = recordings(4)
    late = recording(9, available_at=math.inf)
    with rig(tmp_path, [*rows, late]) as it:
        assert it.run().code == 3
        it.pbx.call(lambda: it.pbx.simulator.corpus.replace(recording(9)))
        said = it.run()
        assert (said.code, said.json["archived"], said.json["already_archived"]) == (0, 1, 4)
        assert_holds_all(it, [*rows, recording(9)])


@pytest.mark.parametrize(
    "action",
    [Status(code=500), Status(code=503, headers={"Retry-After": "0"}), Status(code=429), Drop(), Drop(how="rst")],
    ids=["500", "503", "429", "fin", "rst"],
)
def test_a_fault_that_passes_is_retried_within_the_run_row_20(tmp_path: Path, action: Status | Drop) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows, faults=[Fault(on="media", action=action, times=2)]) as it:
        said = it.run()
        assert (said.code, said.json["archived"]) == (0, 4)
        # A kept connection that ends before any answer may be replaced by the HTTP client itself, uncounted.
        assert said.json["retries"] >= (2 if isinstance(action, Status) else 0)
        assert it.pbx.stats.media <= 4 + 2
        assert_holds_all(it, rows)


def test_a_token_that_ends_in_the_run_is_renewed_once(tmp_path: Path) -> None:
    rows = recordings(10)
    with rig(tmp_path, rows) as it:
        it.pbx.call(lambda: it.pbx.simulator.faults.add(Fault(on="media", action=Status(code=401), after=4)))
        said = it.run()
        assert said.code == 0
        assert said.json["logins"] == 2
        assert_holds_all(it, rows)


def test_a_body_longer_than_its_metadata_is_quarantined_with_its_bytes_row_23(tmp_path: Path) -> None:
    row = recording(1)
    fault = Fault(on="media", recording_id=row.recording_id, action=Extra(bytes=7), times=-1)
    with rig(tmp_path, [row, recording(2)], faults=[fault]) as it:
        said = it.run()
        report = said.json
        assert said.code == 3
        assert (report["quarantined"], report["archived"]) == (1, 1)
        assert conserved(report)
        assert set(it.media()) == {key(recording(2))}
        kept = it.quarantined()
        assert any(data.startswith(media(row)) and len(data) == len(media(row)) + 7 for data in kept.values())
        reasons = [json.loads(data) for name, data in kept.items() if name.endswith(".json")]
        assert [(one["recording_id"], one["reason"]) for one in reasons] == [(row.recording_id, "length")]
        assert it.temporaries() == []
        assert_private(it.root)


def test_metadata_with_a_wrong_length_keep_a_whole_body_out_of_the_archive_row_23(tmp_path: Path) -> None:
    attachment = {"x.mp3": {"content_type": "audio/mpeg", "length": 5, "stub": True}}
    with rig(tmp_path, [recording(1, overrides={"_attachments": attachment})]) as it:
        said = it.run()
        assert said.code == 3
        assert said.json["archived"] == 0
        assert it.media() == {}


@pytest.mark.parametrize("kind", ["json_metadata", "html", "wav", "empty"])
def test_what_is_no_recording_is_never_archived_though_its_length_is_right_row_24(tmp_path: Path, kind: str) -> None:
    row = recording(1)
    body = Body(kind=kind, right_length=True)  # type: ignore[arg-type]
    fault = Fault(on="media", recording_id=row.recording_id, action=body, times=-1)
    with rig(tmp_path, [row, recording(2)], faults=[fault]) as it:
        said = it.run()
        assert said.code == 3
        assert said.json["archived"] == 1
        assert conserved(said.json)
        assert set(it.media()) == {key(recording(2))}
        assert it.temporaries() == []


def test_a_refused_login_is_told_by_the_exit_code(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        said = it.command("run", "--since", SINCE, "--json", env={"ARCHIVER_PBX__PASSWORD": "wr0ng-secret"})
        assert said.code == 4
        assert "wr0ng-secret" not in said.out + said.err
        assert it.pbx.stats.logins <= 2
        assert it.media() == {}


def test_a_pbx_that_does_not_answer_is_told_by_the_exit_code(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with rig(tmp_path, []) as it:
            it.base_url = f"http://127.0.0.1:{port}"
            it.configure(pbx={"max_retries": 1})
            assert it.run().code == 8


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with rig(tmp_path, []) as it:
        it.configure(transfer={"concurency": 4})
        said = it.run()
        assert (said.code, said.out) == (2, "")
        assert "concurency" in said.err
        assert "settings.toml" in said.err
        assert "transfer.concurrency" in said.err
        assert "Traceback" not in said.err


def test_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with rig(tmp_path, []) as it:
        said = it.command("--settings", "nowhere.toml", "status")
        assert said.code == 2
        assert "nowhere.toml" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--since", "yesterday-ish"),
        ("run", "--since", UNTIL, "--until", SINCE),
        ("run", "--until", UNTIL),
        ("run", "--since", SINCE, "--account", "c" * 32),
        ("plan",),
        ("nonsense",),
        ("-v", "-q", "status"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_happens(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with rig(tmp_path, []) as it:
        said = it.command(*arguments)
        assert (said.code, said.out) == (2, "")
        assert said.err
        assert "Traceback" not in said.err
        assert it.pbx.stats.requests == 0
        assert not it.root.exists()


def test_a_second_run_of_the_same_archive_is_refused_while_the_first_goes_on(tmp_path: Path) -> None:
    rows = recordings(30)
    with rig(tmp_path, rows, switches=SLOW) as it:
        it.configure(transfer={"concurrency": 2})
        first = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media > 0)
        second = it.run()
        assert (second.code, second.out) == (6, "")
        said = first.wait()
        assert said.code == 0
        assert it.pbx.stats.media == 30
        assert_holds_all(it, rows)


@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link"])
def test_a_root_that_cannot_be_used_is_told_by_the_exit_code(tmp_path: Path, kind: str) -> None:
    with rig(tmp_path, recordings(2)) as it:
        if kind == "file":
            it.root.write_text("mine")
        elif kind == "below a file":
            (tmp_path / "occupied").write_text("mine")
            it.configure(store__local={"root": str(tmp_path / "occupied" / "archive")})
        else:
            it.root.symlink_to("/dev/null/nowhere")
        said = it.run()
        assert said.code == 5, said
        assert "Traceback" not in said.err
        assert it.pbx.stats.media == 0


def test_a_window_that_cannot_be_listed_is_incomplete_and_shown(tmp_path: Path) -> None:
    rows = recordings(6)
    fault = Fault(on="recordings", account_id=ACCOUNTS[1], action=Status(code=500), times=-1)
    with rig(tmp_path, rows, faults=[fault]) as it:
        it.configure(pbx={"max_retries": 1})
        said = it.run()
        report = said.json
        assert (said.code, report["outcome"]) == (3, "incomplete")
        assert report["windows_incomplete"] > 0
        assert report["windows_complete"] > 0
        assert report["archived"] == 3
        assert any(problem["account_id"] == ACCOUNTS[1] for problem in report["problems"])
        shown = {one["account_id"]: one for one in it.command("status", "--json").json["accounts"]}
        assert shown[ACCOUNTS[1]]["covered_through"] != shown[ACCOUNTS[0]]["covered_through"]
        it.pbx.call(it.pbx.simulator.faults.clear)
        assert it.run().code == 0
        assert_holds_all(it, rows)


def test_a_first_nightly_run_without_a_beginning_says_what_to_do(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        said = it.command("run", "--json")
        assert (said.code, said.out) == (2, "")
        assert "listing.begin" in said.err


def test_nightly_runs_start_at_the_beginning_and_find_what_came_since(tmp_path: Path) -> None:
    now = int(time.time())
    shift = now - 2 * 86400 - BEGIN_UNIX_S
    rows = [
        SimulatedRecording(
            account_id=ACCOUNTS[n % 2],
            recording_id=f"202605-{n:032x}",
            start_unix_s=BEGIN_UNIX_S + shift + n,
            duration_ms=2000,
        )
        for n in range(6)
    ]
    with rig(tmp_path, rows[:4]) as it:
        begin = time.strftime("%Y-%m-%d", time.gmtime(now - 5 * 86400))
        it.configure(listing={"begin": begin})
        said = it.command("run", "--json")
        assert (said.code, said.json["archived"], said.json["since"]) == (0, 4, f"{begin}T00:00:00Z")
        for row in rows[4:]:
            it.pbx.call(lambda row=row: it.pbx.simulator.corpus.add(row))  # type: ignore[misc]
        said = it.command("run", "--json")
        assert (said.code, said.json["archived"]) == (0, 2)
        assert_holds_all(it, rows)


def test_a_dry_run_a_plan_and_a_status_write_nothing(tmp_path: Path) -> None:
    rows = recordings(6)
    with rig(tmp_path, rows) as it:
        dry = it.run("--dry-run")
        plan = it.command("plan", "--since", SINCE, "--until", UNTIL, "--json")
        status = it.command("status", "--json")
        assert (dry.code, plan.code, status.code) == (0, 0, 0)
        assert dry.json["to_archive"] == 6
        assert plan.json["total"]["recordings"] == 6
        assert plan.json["total"]["bytes"] == sum(len(media(row)) for row in rows)
        assert {one["account_id"] for one in status.json["accounts"]} == set(ACCOUNTS)
        assert it.pbx.stats.media == 0
        assert not it.root.exists()
        it.run()

        def marks() -> dict[Path, int]:
            found = (path for path in it.root.rglob("*") if path.is_file() and "ledger" not in path.name)
            return {path: path.stat().st_mtime_ns for path in found}

        before = marks()
        assert it.run("--dry-run").json["to_archive"] == 0
        assert marks() == before


def test_the_words_without_json_are_for_people(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(4)) as it:
        for arguments in (["run", "--since", SINCE, "--until", UNTIL], ["status"], ["plan", "--since", SINCE]):
            said = it.command(*arguments)
            assert said.code == 0
            assert said.out.strip()
            assert not said.out.startswith("{")


def test_only_the_accounts_that_were_named_are_run(tmp_path: Path) -> None:
    rows = recordings(6)
    with rig(tmp_path, rows) as it:
        said = it.run("--account", ACCOUNTS[1])
        assert (said.code, said.json["archived"], said.json["accounts"]) == (0, 3, [ACCOUNTS[1]])
        assert_holds_all(it, [row for row in rows if row.account_id == ACCOUNTS[1]])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_ends_a_run_in_order_and_the_next_goes_on_from_there_row_60(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    rows = recordings(40)
    with rig(tmp_path, rows, switches=SLOW) as it:
        it.configure(transfer={"concurrency": 2})
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media > 4)
        started.signal(number)
        said = started.wait(20)
        report = said.json
        assert (said.code, report["outcome"]) == (code, "interrupted")
        assert conserved(report)
        assert 0 < report["archived"] < 40
        assert len(it.media()) == report["archived"]
        assert it.temporaries() == []
        it.configure()
        last = it.run()
        assert (last.code, last.json["archived"]) == (0, 40 - report["archived"])
        assert it.pbx.stats.media == 40
        assert_holds_all(it, rows)


def test_a_second_signal_ends_a_run_at_once_row_60(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows, faults=[Fault(on="media", action=Delay(seconds=30), times=4)]) as it:
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media > 0)
        started.signal(signal.SIGINT)
        time.sleep(0.3)
        assert started.process.poll() is None
        begun_s = time.monotonic()
        started.signal(signal.SIGINT)
        assert started.wait(10).code == 130
        assert time.monotonic() - begun_s < 2
        it.pbx.call(it.pbx.simulator.faults.clear)
        assert it.run().code == 0
        assert_holds_all(it, rows)


def test_a_stop_waits_no_longer_than_the_grace_period_row_60(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(4), faults=[Fault(on="media", action=Delay(seconds=30), times=4)]) as it:
        it.configure(transfer={"grace_s": 0.2})
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media > 0)
        started.signal(signal.SIGTERM)
        said = started.wait(10)
        assert (said.code, said.json["outcome"], said.json["pending"]) == (143, "interrupted", said.json["listed"])


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_and_no_number_reaches_a_stream_or_the_disk(tmp_path: Path, log_format: str) -> None:
    rows = recordings(6)
    faults = [
        Fault(on="media", action=Status(code=401)),
        Fault(on="media", action=Status(code=500, text="simulator said no"), times=2),
        Fault(on="recordings", action=Body(text="no json"), times=1),
    ]
    with rig(tmp_path, rows, faults=faults) as it:
        said = it.command("-v", "--log-format", log_format, "run", "--since", SINCE, "--until", UNTIL, "--json")
        assert said.code in {0, 3}
        if log_format == "json":
            assert all(isinstance(json.loads(line), dict) for line in said.err.splitlines())
        canaries = it.pbx.call(lambda: it.pbx.simulator.canaries) - {"simulator"}
        assert len(canaries) >= 4
        streams = said.out + said.err
        disk = b"".join(path.read_bytes() for path in it.root.rglob("*") if path.is_file())
        for canary in canaries:
            assert canary not in streams
            assert canary.encode() not in disk
        # The password is a word here, so it is looked for where a leak of it would stand.
        assert "simulator" not in streams.replace("simulator said no", "")


def test_hostile_metadata_neither_leave_the_root_nor_forge_a_log_line_row_68(tmp_path: Path) -> None:
    rows = list(hostile_recordings(ACCOUNTS[0], BEGIN_UNIX_S))
    outside = tmp_path / "outside"
    outside.mkdir()
    with rig(outside / "work", rows) as it:
        it.configure(pbx={"max_retries": 1})
        before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(it.root)}
        said = it.command("--log-format", "json", "run", "--since", SINCE, "--until", UNTIL, "--json")
        assert said.code in {0, 3}, said.err[-3000:]
        assert conserved(said.json)
        assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(it.root)} == before
        assert all(isinstance(json.loads(line), dict) for line in said.err.splitlines())
        assert not any(path.is_symlink() for path in it.root.rglob("*"))
        assert it.temporaries() == []
        plain = it.command("run", "--since", SINCE, "--until", UNTIL)
        assert plain.code in {0, 3}
        for line in (plain.out + plain.err).splitlines():
            assert not line.startswith("FAKE LOG")
            assert "\x1b]" not in line


def test_other_bytes_at_the_source_become_a_version_beside_the_old_one(tmp_path: Path) -> None:
    old, new = recording(1), recording(1, duration_ms=4000)
    with rig(tmp_path, [old, recording(2)]) as it:
        it.run()
        before = it.files()
        it.pbx.call(lambda: it.pbx.simulator.corpus.replace(new))
        said = it.run()
        assert said.code == 0
        assert conserved(said.json)
        after = it.files()
        assert {name: after[name] for name in before} == before
        added = {name: data for name, data in after.items() if name not in before}
        version = key(old).removesuffix(".mp3") + ".v2.mp3"
        assert version in added
        assert added[version] == media(new)
        assert it.run().json["archived"] == 0


def test_a_closed_stdout_and_a_home_that_is_not_there_hinder_no_run_row_63(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows) as it:
        reader, writer = os.pipe()
        os.close(reader)
        started = it.start(
            *("run", "--since", SINCE, "--until", UNTIL, "--json"),
            env={"LANG": "C", "LC_ALL": "C", "HOME": "/nonexistent"},
            stdout=writer,
        )
        os.close(writer)
        said = started.wait()
        assert "Traceback" not in said.err
        assert said.code == 0
        assert_holds_all(it, rows)


def test_streams_that_are_closed_hinder_no_run_row_63(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows) as it:
        done = subprocess.run(
            [
                "sh",
                "-c",
                'exec "$0" -m archiver run --since "$1" --until "$2" <&- >&- 2>&-',
                sys.executable,
                SINCE,
                UNTIL,
            ],
            cwd=it.folder,
            env=it.environment(),
            check=False,
        )
        assert done.returncode == 0
        assert_holds_all(it, rows)


def test_a_bucket_that_runs_dry_slows_a_run_and_loses_nothing(tmp_path: Path) -> None:
    rows = recordings(30)
    with rig(tmp_path, rows, switches=Switches(bucket=BucketRule(10, 40))) as it:
        it.configure(pbx={"max_retries": 40, "retry_wait_s": 0.1})
        said = it.run()
        assert said.code == 0
        assert_holds_all(it, rows)


def test_a_body_that_is_cut_once_is_fetched_again_row_20(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows, faults=[Fault(on="media", action=Cut(fraction=0.5, how="rst"), times=3)]) as it:
        said = it.run()
        assert (said.code, said.json["archived"]) == (0, 4)
        assert_holds_all(it, rows)
