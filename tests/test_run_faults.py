"""Rows of `faults.md` that only a whole run shows: listings that lie, limits of the machine, redirects, certificates."""

import os
import signal
import sqlite3
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
import trustme
from archive_rig import (
    ACCOUNTS,
    SINCE,
    UNTIL,
    Rig,
    assert_holds_all,
    cdr,
    conserved,
    key,
    media,
    recording,
    recordings,
    rig,
    small_file_system,
    until,
)

from archiver.simulator import (
    Body,
    Corpus,
    Delay,
    Drip,
    Extra,
    Fault,
    Frame,
    HeaderFlood,
    Redirect,
    SimulatedRecording,
    Simulator,
    SimulatorThread,
    Stall,
    Status,
)

OUTAGE = Fault(on="recordings", action=Body(text='{"recordings": []}'), times=-1)


def assert_only_whole(it: Rig, rows: list[SimulatedRecording]) -> None:
    """Whatever stands under a final name is a whole recording of the source, and nothing lies about."""
    source = {key(row): media(row) for row in rows}
    assert it.media().items() <= source.items()
    assert it.temporaries() == []


# An empty listing (row 18)


def test_an_empty_listing_is_not_believed_while_cdrs_name_recordings_row_18(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows, cdrs=[cdr(row) for row in rows], faults=[OUTAGE]) as it:
        said = it.run()
        report = said.json
        assert (said.code, report["outcome"]) == (3, "incomplete")
        assert report["windows_incomplete"] > 0
        assert conserved(report)
        assert any("CDRs name" in problem["reason"] for problem in report["problems"])
        # What the CDRs name is fetched by its id all the same.
        assert report["archived"] == 4
        assert it.media() == {key(row): media(row) for row in rows}
        shown = it.command("status", "--json").json["accounts"]
        assert all(account["windows_incomplete"] for account in shown)
        it.pbx.call(it.pbx.simulator.faults.clear)
        last = it.run()
        assert (last.code, last.json["windows_incomplete"]) == (0, 0)
        assert (last.json["archived"], last.json["already_archived"]) == (0, 4)
        assert set(it.pbx.stats.media_gets.values()) == {1}
        assert set(it.media()) == {key(row) for row in rows}


def test_an_empty_listing_is_believed_when_no_cdr_names_a_recording_row_18(tmp_path: Path) -> None:
    with rig(tmp_path, [], cdrs=[]) as it:
        said = it.run()
        assert (said.code, said.json["windows_incomplete"]) == (0, 0)
        assert it.pbx.stats.cdr_pages > 0


def test_an_empty_listing_whose_cdrs_cannot_be_had_is_incomplete_row_18(tmp_path: Path) -> None:
    cdrs = Fault(on="cdrs", action=Status(code=500), times=-1)
    with rig(tmp_path, [recording(1, account=1)], faults=[cdrs]) as it:
        it.configure(pbx={"max_retries": 1})
        said = it.run()
        assert said.code == 3
        assert said.json["windows_incomplete"] > 0
        assert said.json["archived"] == 1


def test_a_user_who_may_not_read_cdrs_can_still_archive_row_18(tmp_path: Path) -> None:
    rows = recordings(2)
    with rig(tmp_path, rows, faults=[Fault(on="cdrs", action=Status(code=403), times=-1)]) as it:
        assert it.run().code == 0
        assert_holds_all(it, rows)


# The moment between a page and the ledger (row 19)


def test_a_run_killed_before_a_page_is_in_the_ledger_lists_it_again_row_19(tmp_path: Path) -> None:
    rows = [recording(n) for n in range(9)]
    late = Fault(on="recordings", account_id=ACCOUNTS[0], page=2, action=Delay(seconds=0.5))
    with rig(tmp_path, rows, faults=[late]) as it:
        it.configure(pbx={"page_size": 4, "account_ids": [ACCOUNTS[0]]})
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: any(hits for _, hits in it.pbx.simulator.faults.hits()))
        # Another process holds the ledger, so that the page comes and can't be recorded.
        other = sqlite3.connect(it.root / ".archiver" / "ledger.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        until(lambda: it.pbx.stats.in_flight == 0)
        time.sleep(0.2)
        assert started.process.poll() is None
        started.signal(signal.SIGKILL)
        started.wait()
        known = other.execute("SELECT count(*) FROM entries").fetchone()[0]
        other.execute("ROLLBACK")
        other.close()
        assert known < len(rows)
        assert_only_whole(it, rows)
        pages = it.pbx.stats.recordings_pages
        said = it.run()
        assert (said.code, said.json["listed"]) == (0, len(rows))
        assert it.pbx.stats.recordings_pages >= pages + 3
        assert_holds_all(it, rows)


# Bodies without an end (rows 22, 26)


@pytest.mark.parametrize("framing", ["content_length", "close", "chunked"])
@pytest.mark.parametrize("more", [1, 9, 1 << 40], ids=["one byte", "a few", "endless"])
def test_a_body_that_goes_on_is_cut_just_behind_its_length_row_22(
    tmp_path: Path, framing: Literal["content_length", "close", "chunked"], more: int
) -> None:
    rows = [recording(1), recording(2)]
    actions = (Frame(framing=framing), Extra(bytes=more, announced=framing == "content_length"))
    fault = Fault(on="media", recording_id=rows[0].recording_id, action=actions, times=-1)
    with rig(tmp_path, rows, faults=[fault]) as it:
        said = it.run()
        assert said.code == 3
        assert (said.json["archived"], said.json["pending"] + said.json["quarantined"]) == (1, 1)
        assert set(it.media()) == {key(rows[1])}
        assert it.temporaries() == []
        # What socket buffers swallow is sent; the body is not read to any end.
        assert it.pbx.stats.body_bytes < 256 << 20
        assert sum(map(len, it.quarantined().values())) < 10 * len(media(rows[0]))


def test_a_body_that_stalls_frees_its_place_and_comes_later_row_26(tmp_path: Path) -> None:
    rows = recordings(6)
    stalled = Fault(on="media", action=Stall(after_bytes=5000, seconds=60), times=1)
    with rig(tmp_path, rows, faults=[stalled]) as it:
        it.configure(pbx={"read_timeout_s": 0.5}, transfer={"concurrency": 1})
        said = it.run()
        assert (said.code, said.json["archived"], said.json["retries"]) == (0, 6, 1)
        assert_holds_all(it, rows)


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="a minute long; runs behind `make campaign`")
def test_a_body_that_trickles_under_the_floor_is_cut_and_fetched_again_row_26(tmp_path: Path) -> None:
    rows = recordings(4)
    trickle = Fault(on="media", recording_id=rows[0].recording_id, action=Drip(bytes=1, interval_s=0.2), times=1)
    with rig(tmp_path, rows, faults=[trickle]) as it:
        it.configure(transfer={"concurrency": 1, "min_rate": "1KiB"})
        said = it.start("run", "--since", SINCE, "--until", UNTIL, "--json").wait(150)
        assert (said.code, said.json["archived"], said.json["retries"]) == (0, 4, 1)
        assert_holds_all(it, rows)


# The destination (rows 36, 37)


def test_a_disk_that_fills_up_stops_the_run_and_the_next_goes_on_row_36(tmp_path: Path) -> None:
    rows = recordings(60, duration_ms=240_000)  # 2 MB each
    with rig(tmp_path / "work", rows) as it, small_file_system(it.root, "96m") as mount:
        mount.chmod(0o700)
        said = it.run()
        assert (said.code, said.json["outcome"]) == (5, "failed")
        assert conserved(said.json)
        # Whoever meets it first says so: the store or the ledger.
        assert "no room left" in said.json["error"] or "disk is full" in said.json["error"]
        assert "Traceback" not in said.err
        assert 0 < said.json["archived"] < len(rows)
        assert len(it.media()) >= said.json["archived"]
        assert_only_whole(it, rows)
        fetched = it.pbx.stats.media
        subprocess.run(["mount", "-o", "remount,size=400m", str(mount)], check=True)
        status = it.command("status", "--json").json
        kept = sum(account["recordings"]["archived"] for account in status["accounts"])
        # A ledger that met it could not keep all that it had been told; that is found again without a download.
        assert kept == said.json["archived"] or "disk is full" in said.json["error"]
        again = it.run()
        assert (again.code, again.json["archived"]) == (0, len(rows) - kept)
        assert it.pbx.stats.media <= fetched + len(rows) - said.json["archived"]
        assert_holds_all(it, rows)


@pytest.mark.parametrize("stranger", ["same bytes", "other bytes", "folder", "symlink", "dangling symlink", "fifo"])
def test_what_already_stands_under_a_recordings_name_is_never_replaced_nor_followed_row_37(
    tmp_path: Path, stranger: str
) -> None:
    rows = [recording(1), recording(2)]
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    with rig(tmp_path / "work", rows) as it:
        place = it.root / key(rows[0])
        place.parent.mkdir(parents=True, mode=0o700)
        for folder in (it.root, *place.parents):
            if folder.is_relative_to(it.root):
                folder.chmod(0o700)
        match stranger:
            case "same bytes":
                place.write_bytes(media(rows[0]))
            case "other bytes":
                place.write_bytes(b"other")
            case "folder":
                place.mkdir()
            case "symlink":
                place.symlink_to(outside)
            case "dangling symlink":
                place.symlink_to(tmp_path / "nowhere")
            case "fifo":
                os.mkfifo(place)
        before = place.lstat()
        said = it.run()
        assert conserved(said.json)
        assert "Traceback" not in said.err
        assert (place.lstat().st_ino, place.lstat().st_mode) == (before.st_ino, before.st_mode)
        assert outside.read_bytes() == b"mine"
        assert not (tmp_path / "nowhere").exists()
        assert it.temporaries() == []
        if stranger == "same bytes":
            assert (said.code, said.json["archived"]) == (0, 2)
            assert_holds_all(it, rows)
        elif stranger in {"other bytes", "folder"}:
            assert (said.code, said.json["quarantined"], said.json["archived"]) == (3, 1, 1)
            assert media(rows[0]) in it.quarantined().values()
        else:
            assert said.code in {3, 5}
            assert place.name in said.out + said.err
        if stranger != "same bytes":
            # Once somebody moved the stranger away, a run archives the recording.
            place.rename(tmp_path / "moved")
            assert it.run().code == 0
            assert_holds_all(it, rows)


# Limits of the machine (row 61)


def test_a_run_with_few_descriptors_ends_in_order_and_the_next_goes_on_row_61(tmp_path: Path) -> None:
    rows = recordings(60)
    with rig(tmp_path, rows) as it:
        it.configure(transfer={"concurrency": 200}, pbx={"max_retries": 1})
        said = it.run(limits=["--nofile=64"])
        assert said.code in {0, 3, 5, 8}, said
        assert "Traceback" not in said.err
        assert said.code == 0 or "open files" in said.out + said.err
        assert_only_whole(it, rows)
        assert it.run().code == 0
        assert_holds_all(it, rows)


@pytest.mark.parametrize("most_bytes", [4096, 50_000, 400_000])
def test_a_limit_on_file_sizes_stops_the_run_with_a_reason_row_61(tmp_path: Path, most_bytes: int) -> None:
    rows = recordings(6, duration_ms=60_000)  # 480 kB each
    with rig(tmp_path, rows) as it:
        said = it.run(limits=[f"--fsize={most_bytes}"])
        assert said.code == 5, said
        assert "Traceback" not in said.err
        assert said.err or "`ulimit -f`" in said.json["error"]
        assert_only_whole(it, rows)
        assert it.run().code == 0
        assert_holds_all(it, rows)


@pytest.mark.parametrize("megabytes", [120, 300, 600])
def test_a_run_without_memory_leaves_nothing_partial_row_61(tmp_path: Path, megabytes: int) -> None:
    rows = recordings(12, duration_ms=600_000)
    with rig(tmp_path, rows) as it:
        limits = [f"--as={megabytes << 20}"]
        said = it.start("run", "--since", SINCE, "--until", UNTIL, "--json", limits=limits).wait(20)
        assert said.code != 0 or said.json["archived"] == len(rows)
        assert_only_whole(it, rows)
        assert it.run().code == 0
        assert_holds_all(it, rows)


# Intruders (row 68)


@pytest.mark.parametrize(("on", "code"), [("login", 4), ("recordings", 8), ("media", 3)])
def test_a_redirect_takes_neither_password_nor_token_elsewhere_row_68(tmp_path: Path, on: str, code: int) -> None:
    rows = recordings(2)
    with SimulatorThread(Simulator(Corpus(rows, accounts=ACCOUNTS))) as elsewhere:
        fault = Fault(on=on, action=Redirect(location=f"{elsewhere.base_url}/api/v2/login"), times=-1)  # type: ignore[arg-type]
        with rig(tmp_path, rows, faults=[fault]) as it:
            said = it.run()
            assert said.code == code
            assert "redirect" in said.out + said.err
            assert "Traceback" not in said.err
            assert it.media() == {}
            it.pbx.call(it.pbx.simulator.faults.clear)
            assert it.run().code == 0
            assert_holds_all(it, rows)
        assert elsewhere.stats.connections_opened == 0


@pytest.mark.parametrize("on", ["login", "recordings", "media"])
@pytest.mark.parametrize("flood", [HeaderFlood(count=20_000, value_bytes=8), HeaderFlood(count=2, value_bytes=1 << 20)])
def test_a_flood_of_headers_ends_neither_the_run_nor_anything_else_row_68(
    tmp_path: Path, on: str, flood: HeaderFlood
) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows, faults=[Fault(on=on, action=flood, times=1)]) as it:  # type: ignore[arg-type]
        said = it.run()
        assert said.code == 0, said
        assert_holds_all(it, rows)


def server_side(authority: trustme.CA, kind: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    name = "other.example" if kind == "another host" else "127.0.0.1"
    ends_at = datetime.now(UTC) - timedelta(days=1) if kind == "expired" else None
    authority.issue_cert(name, not_after=ends_at).configure_cert(context)
    return context


@pytest.mark.parametrize("kind", ["self-signed", "expired", "another host"])
def test_a_certificate_that_cannot_be_trusted_ends_the_run_and_is_explained_row_68(tmp_path: Path, kind: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca_file = "" if kind == "self-signed" else str(tmp_path / "ca.pem")
    with rig(tmp_path / "work", recordings(2), tls=server_side(authority, kind)) as it:
        it.configure(pbx={"ca_file": ca_file})
        said = it.run()
        assert said.code == 8
        assert "certificate" in said.out + said.err
        assert "pbx.ca_file" in said.out + said.err
        assert "Traceback" not in said.err
        assert it.pbx.stats.requests == 0
        assert it.media() == {}


def test_a_private_authority_is_all_that_https_needs_row_68(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    rows = recordings(3)
    with rig(tmp_path / "work", rows, tls=server_side(authority, "good")) as it:
        it.configure(pbx={"ca_file": str(tmp_path / "ca.pem")})
        assert it.run().code == 0
        assert_holds_all(it, rows)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_authority_that_is_none_is_a_setting_that_is_wrong(tmp_path: Path, processes: int) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with rig(tmp_path / "work", recordings(1)) as it:
        it.configure(pbx={"ca_file": str(tmp_path / "ca.pem")}, transfer={"processes": processes})
        said = it.command("run", "--since", SINCE)
        assert said.code == 2
        assert "pbx.ca_file" in said.err + said.out
        assert "Traceback" not in said.err


# The destination


@pytest.mark.parametrize("command", [("run", "--since", SINCE), ("status",), ("verify",), ("explain", "202405-1")])
def test_a_root_that_can_not_even_be_looked_at_is_a_destination_that_can_not_be_used(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        it.configure(store__local={"root": str(tmp_path / ("a" * 300) / "archive")})
        said = it.command(*command)
        assert said.code == 5
        assert "aaa/archive" in said.err
        assert "Traceback" not in said.err


def test_a_plan_for_a_root_that_can_not_be_looked_at_leaves_out_what_is_free(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        it.configure(store__local={"root": str(tmp_path / ("a" * 300) / "archive")})
        said = it.command("plan", "--since", SINCE, "--until", UNTIL, "--json")
        assert (said.code, said.json["free_bytes"]) == (0, None)
