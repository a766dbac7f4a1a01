"""A run in several processes (`transfer.processes`): one archive, one report, whatever happens to one of them."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from archive_rig import (
    SINCE,
    UNTIL,
    Rig,
    assert_holds_all,
    conserved,
    key,
    media,
    recordings,
    rig,
    until,
)

from archiver.simulator import Switches

PROCESSES = 3
SPREAD = {"listing": {"window_hours": 1, "overlap_hours": 1}}
"""Many small windows, whose overlaps show each recording to several processes."""


def spread(it: Rig, **transfer: object) -> None:
    it.configure(transfer={"processes": PROCESSES, "concurrency": 2, **transfer}, **SPREAD)


def children(pid: int) -> list[int]:
    """The processes that a run has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(folder.name))
    return found


def test_several_processes_make_the_archive_that_one_makes(tmp_path: Path) -> None:
    rows = recordings(300)
    with rig(tmp_path, rows) as it:
        spread(it)
        report = it.run().json
        assert (report["outcome"], report["listed"], report["archived"]) == ("complete", 300, 300)
        assert conserved(report)
        assert_holds_all(it, rows)
        assert max(it.pbx.stats.media_gets.values()) == 1
        assert report["requests"] == it.pbx.stats.requests
        assert 1 <= report["logins"] <= PROCESSES
        again = it.run().json
        assert (again["archived"], again["already_archived"]) == (0, 300)
        assert it.pbx.stats.media == 300


def test_each_process_keeps_its_part_of_the_request_rate(tmp_path: Path) -> None:
    rows = recordings(60)
    with rig(tmp_path, rows) as it:
        it.configure(transfer={"processes": PROCESSES, "concurrency": 2, "requests_per_s": 20.0})
        report = it.run().json
        assert report["archived"] == 60
        # Each process may be one ahead; the rest is what a busy machine makes of a tenth of a second.
        assert it.pbx.stats.most_requests_within(1.0) <= 20 + PROCESSES + 6
        assert it.pbx.stats.most_requests_within(3.0) <= 60 + PROCESSES + 6


def test_a_process_that_is_killed_leaves_its_work_to_the_next_run_and_the_others_go_on(tmp_path: Path) -> None:
    rows = recordings(120)
    with rig(tmp_path, rows, switches=Switches(media_think_time_s=0.02)) as it:
        spread(it)
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 20)
        os.kill(children(running.process.pid)[0], signal.SIGKILL)
        said = running.wait()
        report = said.json
        assert (said.code, report["outcome"]) == (3, "incomplete")
        assert any("process_died" in problem["reason"] for problem in report["problems"]), report
        assert "SIGKILL" in said.out
        assert conserved(report)
        last = it.run()
        assert (last.code, last.json["outcome"]) == (0, "complete")
        assert_holds_all(it, rows)


def test_a_run_whose_processes_all_die_says_so(tmp_path: Path) -> None:
    rows = recordings(60)
    with rig(tmp_path, rows, switches=Switches(media_think_time_s=0.05)) as it:
        spread(it)
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 10)
        for pid in children(running.process.pid):
            os.kill(pid, signal.SIGKILL)
        said = running.wait()
        assert (said.code, said.json["outcome"]) == (3, "incomplete")
        assert len([each for each in said.json["problems"] if "process_died" in each["reason"]]) == PROCESSES
        assert it.run().code == 0
        assert_holds_all(it, rows)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_ends_the_run_in_order(tmp_path: Path, signum: signal.Signals) -> None:
    """A terminal's Ctrl-C and systemd reach every process of the run, not only the one that leads."""
    rows = recordings(120)
    with rig(tmp_path, rows, switches=Switches(media_think_time_s=0.05)) as it:
        spread(it)
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 10)
        for pid in children(running.process.pid):
            os.kill(pid, signum)
        running.signal(signum)
        said = running.wait()
        assert (said.code, said.json["outcome"]) == (128 + signum, "interrupted"), said
        assert conserved(said.json)
        assert it.temporaries() == []
        assert it.run().code == 0
        assert_holds_all(it, rows)


def test_processes_do_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    rows = recordings(80)
    source = {key(row): media(row) for row in rows}
    with rig(tmp_path, rows, switches=Switches(media_think_time_s=0.02)) as it:
        spread(it)
        for _ in range(3):
            before = it.pbx.stats.media
            running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
            until(lambda before=before: it.pbx.stats.media >= before + 6)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))
            pids = children(running.process.pid)
            running.signal(signal.SIGKILL)
            running.wait()
            until(lambda pids=pids: not any(Path(f"/proc/{pid}").exists() for pid in pids))  # type: ignore[misc]
            for name, data in it.media().items():
                assert data == source[name], name
        assert it.run().code == 0
        assert_holds_all(it, rows)
        assert max(it.pbx.stats.media_gets.values()) <= 4


def test_a_pbx_that_is_gone_ends_with_8(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(20)) as it:
        spread(it)
        it.configure(
            pbx={"base_url": "http://127.0.0.1:9", "max_retries": 0}, transfer={"processes": PROCESSES}, **SPREAD
        )
        said = it.run()
        assert (said.code, said.json["outcome"]) == (8, "failed")


def test_a_wrong_password_ends_with_4_and_is_tried_once_by_each_process(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(20)) as it:
        spread(it)
        said = it.command("run", "--since", SINCE, "--until", UNTIL, "--json", env={"ARCHIVER_PBX__PASSWORD": "wrong"})
        assert said.code == 4
        assert said.json["logins"] <= PROCESSES
