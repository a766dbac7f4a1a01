"""`archiver reconcile` as a command: what it prints and leaves behind, how it ends, and how it is killed."""

import csv
import fcntl
import gzip
import math
import random
import signal
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from archive_rig import ACCOUNTS, SINCE, UNTIL, Rig, Said, assert_private, cdr, key, media, recordings, rig, until

from archiver.simulator import SimulatedRecording, Switches

WORKERS = 4
"""Of a concurrency of two."""


def withheld(count: int) -> list[SimulatedRecording]:
    """Recordings that no listing ever shows, and whose media are there."""
    return [replace(row, listed_at=math.inf, available_at=0) for row in recordings(count)]


def reconcile(it: Rig, *arguments: str) -> Said:
    return it.command("reconcile", "--since", SINCE, "--until", UNTIL, *arguments)


def test_it_prints_words_or_one_object_and_writes_the_days_as_csv(tmp_path: Path) -> None:
    rows = withheld(3)
    with rig(tmp_path, rows, cdrs=[cdr(row) for row in rows]) as it:
        first = reconcile(it, "--csv", "days.csv")
        assert first.code == 0, first.err
        assert "in a CDR, but never listed" in first.out
        assert "Complete:" in first.out
        written = it.folder / "days.csv"
        assert stat.S_IMODE(written.stat().st_mode) == 0o600
        lines = list(csv.DictReader(written.read_text().splitlines()))
        assert [(line["account_id"], line["day"]) for line in lines] == [
            (account_id, day) for account_id in ACCOUNTS for day in ("2024-05-06", "2024-05-07")
        ]
        assert [line["archived"] for line in lines] == ["2", "0", "1", "0"]
        said = reconcile(it, "--json", "--csv", "days.csv", "--account", ACCOUNTS[1])
        report = said.json
        assert (said.code, report["recordings"], report["accounts"]) == (0, 1, [ACCOUNTS[1]])
        assert len(written.read_text().splitlines()) == 3
        assert [path.name for path in it.folder.iterdir() if path.name.endswith(".part")] == []
        assert_private(it.root)
        status = it.command("status", "--json").json
        assert status["last_run"]["run_id"] == report["run_id"]
        told = it.command("explain", rows[0].recording_id, "--json").json
        assert told["found"][0]["versions"][0]["in_store"] == "present"
        phones = [
            leg["caller_id_number"] for leg in map(it.pbx.simulator._api._documents.cdr, it.pbx.simulator.corpus.cdrs)
        ]
        for text in (first.out, first.err, said.out, said.err, written.read_text()):
            assert not [number for number in phones if number in text]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["reconcile"], 2, "--since"),
        (["reconcile", "--since", "2024-05-08", "--until", "2024-05-06"], 2, "--since"),
        (["reconcile", "--since", SINCE, "--account", "nobody"], 2, "--account"),
        (["reconcile", "--since", SINCE, "--csv", "no/such/folder.csv"], 2, "--csv"),
    ],
)
def test_a_wrong_use_is_named_before_any_work(tmp_path: Path, arguments: list[str], code: int, named: str) -> None:
    with rig(tmp_path, []) as it:
        said = it.command(*arguments)
        assert (said.code, it.pbx.stats.requests) == (code, 0)
        assert named in said.err


def test_it_waits_for_nobody_who_has_the_archive(tmp_path: Path) -> None:
    with rig(tmp_path, []) as it:
        assert reconcile(it).code == 0
        asked = it.pbx.stats.requests
        with (it.root / ".archiver" / "lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert reconcile(it).code == 6
        assert it.pbx.stats.requests == asked


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_report_and_the_next_one_goes_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    rows = withheld(40)
    legs = [cdr(row) for row in rows]
    with rig(tmp_path, rows, cdrs=legs, switches=Switches(media_think_time_s=0.05)) as it:
        it.configure(transfer={"concurrency": 2})
        started = it.start("reconcile", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 5)
        started.signal(number)
        said = started.wait()
        assert (said.code, said.json["outcome"]) == (code, "interrupted")
        assert it.command("status", "--json").json["last_run"]["outcome"] == "interrupted"
        done = reconcile(it, "--json")
        assert (done.code, done.json["recordings"]) == (0, 40)
        assert_fetched_once_and_whole(it, rows)


@pytest.mark.parametrize("ordinal", range(3))
def test_one_that_is_killed_at_any_moment_is_completed_by_the_next(tmp_path: Path, ordinal: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    rows = withheld(30)
    legs = [cdr(row) for row in rows]
    with rig(tmp_path, rows, cdrs=legs, switches=Switches(media_think_time_s=0.02, round_trip_s=0.005)) as it:
        it.configure(transfer={"concurrency": 2})
        started = it.start("reconcile", "--since", SINCE, "--until", UNTIL)
        if ordinal == 0:
            # In the middle of listing, or of archiving the CDRs.
            until(lambda: it.pbx.stats.cdr_pages >= 1 or started.process.poll() is not None)
            time.sleep(chance.uniform(0, 0.05))
        else:
            asked = chance.randrange(1, len(rows))
            until(lambda: it.pbx.stats.media >= asked or started.process.poll() is not None)
        started.signal(signal.SIGKILL)
        started.wait()
        said = reconcile(it, "--json")
        assert (said.code, said.json["recordings"], said.json["cdrs_archived"]) == (0, 30, 30), said
        assert_fetched_once_and_whole(it, rows)
        # Nothing is in two CDR files, whenever it was that the first one died.
        lines = [line for path in it.root.rglob("cdrs*.gz") for line in gzip.decompress(path.read_bytes()).splitlines()]
        assert len(lines) == len(set(lines)) == 30
        checked = it.command("verify", "--json")
        assert (checked.code, checked.json["findings"]) == (0, [])


def assert_fetched_once_and_whole(it: Rig, rows: list[SimulatedRecording]) -> None:
    found = {name: data for name, data in it.media().items() if name.endswith(".mp3")}
    assert found == {key(row): media(row) for row in rows}
    # What was under way when the first one ended may have been asked for twice.
    assert sum(it.pbx.stats.media_gets.values()) <= len(rows) + 2 * WORKERS
    assert it.temporaries() == []
