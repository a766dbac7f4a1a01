"""`archiver rebuild`: whatever became of the ledger, the archive alone makes a new one, and nothing is fetched again."""

import asyncio
import fcntl
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from archive_rig import SINCE, UNTIL, Rig, key, recording, recordings, rig, until
from in_process import NIGHTLY, PERIOD, Silent, archived, made

from archiver.assembly import RunRequest
from archiver.commands.archiving import run_archive
from archiver.commands.inspection import VerifyRequest, run_explain, run_verify
from archiver.commands.restoring import RebuildRequest, run_rebuild
from archiver.proof.verification.verify import VerifyReport
from archiver.reports.explain import Explained
from archiver.reports.rebuild_report import RebuildReport
from archiver.reports.run_report import RunReport
from archiver.settings import Settings

RECORDINGS = 12
THEN = datetime(2024, 5, 9, tzinfo=UTC)


def ledger(it: Rig) -> Path:
    return it.root / ".archiver" / "ledger.sqlite3"


def ran(it: Rig, request: RunRequest = PERIOD, **settings: Any) -> RunReport:
    """A run in this process, which is quicker than a command."""
    return asyncio.run(archived(configured(it, **settings), request, now=lambda: THEN)).report


def rebuilt(it: Rig, *, full: bool = False, **settings: Any) -> RebuildReport:
    """A rebuild, likewise."""
    request = RebuildRequest(full)
    return asyncio.run(run_rebuild(configured(it, **settings), request, stop=asyncio.Event(), now=lambda: THEN))


def explained(it: Rig, recording_id: str) -> Explained:
    (found,) = asyncio.run(run_explain(configured(it), recording_id)).found
    return found


def verified(it: Rig) -> VerifyReport:
    return asyncio.run(run_verify(configured(it), VerifyRequest(), stop=asyncio.Event()))


def configured(it: Rig, *, sidecar: bool = True) -> Settings:
    settings = made(it.pbx.base_url, it.root)
    return settings.model_copy(update={"archive": settings.archive.model_copy(update={"sidecar": sidecar})})


def fetched(it: Rig) -> int:
    return it.pbx.stats.media_gets.total()


def assert_as_good_as_before(it: Rig, count: int = RECORDINGS) -> RunReport:
    """A run over the same period fetches nothing, and a full verification is clean; the run's report."""
    before = fetched(it)
    report = ran(it)
    assert (report.outcome, report.already_archived, fetched(it)) == ("complete", count, before)
    found = verified(it)
    assert (found.findings, found.objects) == ([], count)
    return report


def problems(report: RebuildReport) -> list[tuple[str, str]]:
    return [(problem.kind, problem.key) for problem in report.problems]


def delete(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def cut_in_the_middle(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def cut_to_nothing(file: Path) -> None:
    os.truncate(file, 0)


def zeroed_pages(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        for page in range(4096 * 3, size, 4096 * 4):
            opened.seek(page)
            opened.write(bytes(4096))


def no_database(file: Path) -> None:
    file.write_bytes(b"The ledger was here. " * 999)


def random_garbage(file: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    file.write_bytes(random.Random(seed).randbytes(20_000))


def without_a_table(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE tallies")
    connection.close()


DAMAGES: list[Callable[[Path], None]] = [
    delete,
    cut_in_the_middle,
    cut_to_nothing,
    zeroed_pages,
    no_database,
    random_garbage,
    without_a_table,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: str(damage.__name__))
def test_a_ledger_that_is_gone_or_damaged_is_made_anew_and_the_old_one_kept(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).outcome == "complete"
        damage(ledger(it))
        damaged = ledger(it).read_bytes() if ledger(it).exists() else None
        said = rebuilt(it)
        assert (said.entered, problems(said)) == (RECORDINGS, [])
        if damaged:
            assert said.ledger == "replaced"
            assert "ledger.sqlite3.until-" in said.set_aside
            kept = Path(said.set_aside).read_bytes()
            # Opening a file that is sound on the outside may set its write-ahead marks.
            assert len(kept) == len(damaged)
            assert kept[4096:] == damaged[4096:] or damage is without_a_table
        assert_as_good_as_before(it)


def test_a_sound_ledger_is_left_and_only_what_it_lacks_is_entered(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).outcome == "complete"
        said = rebuilt(it)
        assert (said.ledger, said.entered, said.known) == ("updated", 0, RECORDINGS)
        with sqlite3.connect(ledger(it)) as connection:
            connection.execute("DELETE FROM entries WHERE key = ?", [key(recordings(1)[0])])
        connection.close()
        said = rebuilt(it)
        assert (said.ledger, said.entered, said.calendar) == ("updated", 1, "kept")
        assert "brought up to date" in it.command("rebuild").out
        assert it.command("status", "--json").json["accounts"][0]["covered_through"] is not None


def test_a_log_that_belongs_to_a_ledger_that_is_gone_is_not_played_into_the_new_one(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).outcome == "complete"
        keep_open = sqlite3.connect(ledger(it))
        keep_open.execute("PRAGMA wal_autocheckpoint=0")
        keep_open.execute("UPDATE entries SET sha256 = zeroblob(32)")
        keep_open.commit()
        log = Path(f"{ledger(it)}-wal")
        data = log.read_bytes()
        keep_open.close()
        ledger(it).unlink()
        log.write_bytes(data)
        assert rebuilt(it).entered == RECORDINGS
        assert_as_good_as_before(it)


def test_a_run_notices_that_its_ledger_is_gone_and_fetches_nothing_again(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).outcome == "complete"
        delete(ledger(it))
        report = assert_as_good_as_before(it)
        assert report.notes[0].startswith(f"There was no ledger: {RECORDINGS} recordings were entered")
        shutil.rmtree(it.root / ".archiver")
        assert assert_as_good_as_before(it).notes != []
        assert ran(it).notes == []


def test_a_run_notices_that_its_ledger_was_restored_from_an_older_copy(tmp_path: Path) -> None:
    rows = recordings(RECORDINGS)
    with rig(tmp_path / "work", rows) as it:
        assert ran(it, RunRequest(since=PERIOD.since, until=datetime(2024, 5, 6, 9, 5, tzinfo=UTC))).archived == 5
        shutil.copy(ledger(it), tmp_path / "old")
        assert ran(it).archived == RECORDINGS - 5
        shutil.copy(tmp_path / "old", ledger(it))
        report = assert_as_good_as_before(it)
        assert report.notes[0].startswith(f"The ledger was older than the archive: {RECORDINGS - 5} recordings")
        assert ran(it).notes == []
        shutil.copy(tmp_path / "old", ledger(it))
        assert rebuilt(it).entered == RECORDINGS - 5
        assert assert_as_good_as_before(it).notes == []


def test_a_copy_made_while_the_last_run_went_on_is_noticed_too(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).outcome == "complete"
        with sqlite3.connect(ledger(it)) as connection:
            connection.execute("DELETE FROM entries")
            connection.execute("UPDATE runs SET ended_ms = NULL, outcome = NULL")
        connection.close()
        assert assert_as_good_as_before(it).notes != []


def test_a_run_that_was_killed_leaves_a_ledger_that_is_up_to_date(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(60)) as it:
        running = it.start("run", "--since", SINCE, "--until", UNTIL)
        until(lambda: fetched(it) >= 10)
        running.signal(signal.SIGKILL)
        running.wait()
        assert ran(it).notes == []


def test_after_a_rebuild_the_next_night_begins_at_the_beginning_and_fetches_nothing(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).archived == RECORDINGS
        before = fetched(it)
        delete(ledger(it))
        said = it.command("rebuild")
        assert said.code == 0
        assert "listing.begin again" in said.out
        report = ran(it, NIGHTLY)
        assert (report.since, report.already_archived, fetched(it)) == (f"{SINCE}T00:00:00Z", RECORDINGS, before)


def test_versions_come_back_in_order(tmp_path: Path) -> None:
    old = recording(0)
    with rig(tmp_path / "work", [old, *recordings(3)[1:]]) as it:
        assert ran(it).outcome == "complete"
        it.pbx.call(lambda: it.pbx.simulator.corpus.replace(recording(0, duration_ms=4000)))
        report = ran(it)
        assert (report.archived, report.changed_at_source) == (1, 1)
        assert report.problems[0].reason == "changed_at_source: archived as version 2 beside the former"
        before = explained(it, old.recording_id)
        delete(ledger(it))
        assert rebuilt(it).entered == 4
        after = explained(it, old.recording_id)
        assert after.versions == [msgspec.structs.replace(version, manifest=None) for version in before.versions]
        assert [one.version for one in after.versions] == [1, 2]
        assert (after.duration_ms, after.flags) == (before.duration_ms, ["rebuilt"])
        assert ran(it).changed_at_source == 0


def test_what_does_not_fit_together_is_listed_with_its_reason(tmp_path: Path) -> None:
    rows = recordings(10)
    with rig(tmp_path / "work", rows) as it:
        assert ran(it).outcome == "complete"
        delete(ledger(it))
        media = [it.root / key(row) for row in rows]
        beside = [path.with_suffix(".json") for path in media]
        beside[0].unlink()
        media[1].unlink()
        beside[2].write_bytes(b"{}")
        beside[3].write_bytes(beside[4].read_bytes())
        os.truncate(media[5], 100)
        edited = json.loads(beside[6].read_bytes())
        edited["recording"]["_id"] = rows[7].recording_id
        beside[6].write_text(json.dumps(edited))
        (it.root / "stranger.mp3").write_bytes(b"mine")
        data = bytearray(media[8].read_bytes())
        data[100] ^= 1
        media[8].write_bytes(data)
        expected = [
            ("object_without_sidecar", key(rows[0])),
            ("sidecar_without_object", key(rows[1]).replace(".mp3", ".json")),
            ("no_sidecar", key(rows[2]).replace(".mp3", ".json")),
            ("contradicts", key(rows[3]).replace(".mp3", ".json")),
            ("size", key(rows[5])),
            ("contradicts", key(rows[6]).replace(".mp3", ".json")),
            ("object_without_sidecar", "stranger.mp3"),
        ]
        known_by_its_object = {key(rows[2]), key(rows[3]), key(rows[6])}
        said = rebuilt(it)
        assert sorted(problems(said)) == sorted(expected)
        assert not known_by_its_object & {name for _, name in problems(said)}
        full = rebuilt(it, full=True)
        assert sorted(problems(full)) == sorted([*expected, ("digest", key(rows[8]))])
        shown = it.command("rebuild")
        assert shown.code == 3
        assert all(problem.reason for problem in said.problems)
        assert "nothing says what it is" in shown.out
        # What is damaged is entered as its sidecar says, so that a verification tells it.
        found = {(str(one.kind), one.key) for one in verified(it).findings}
        assert {("size", key(rows[5])), ("digest", key(rows[8]))} <= found


def test_a_ledger_that_contradicts_the_sidecar_is_not_changed_by_it(tmp_path: Path) -> None:
    rows = recordings(3)
    with rig(tmp_path / "work", rows) as it:
        assert ran(it).outcome == "complete"
        with sqlite3.connect(ledger(it)) as connection:
            connection.execute("UPDATE entries SET sha256 = zeroblob(32) WHERE key = ?", [key(rows[0])])
        connection.close()
        said = rebuilt(it)
        assert problems(said) == [("ledger_differs", key(rows[0]))]


def test_an_archive_without_sidecars_is_known_by_its_ledger_alone(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(3)) as it:
        assert ran(it, sidecar=False).archived == 3
        assert rebuilt(it, sidecar=False).problems == []
        delete(ledger(it))
        assert [kind for kind, _ in problems(rebuilt(it))] == ["object_without_sidecar"] * 3


def test_a_newer_programs_ledger_and_other_databases_are_not_touched(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(3)) as it:
        assert ran(it).outcome == "complete"
        with sqlite3.connect(ledger(it)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.close()
        said = it.command("rebuild")
        assert said.code == 5
        assert "newer program" in said.err
        ledger(it).unlink()
        with sqlite3.connect(ledger(it)) as connection:
            connection.execute("CREATE TABLE theirs (id INTEGER)")
        connection.close()
        before = ledger(it).read_bytes()
        assert it.command("rebuild").code == 5
        assert ledger(it).read_bytes() == before


def test_an_archive_that_is_in_use_is_not_rebuilt(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        assert ran(it).archived == 1
        with (it.root / ".archiver" / "lock").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            said = it.command("rebuild")
        assert said.code == 6


def test_an_archive_that_was_never_made_is_told_as_such(tmp_path: Path) -> None:
    with rig(tmp_path / "work", []) as it:
        said = it.command("rebuild")
        assert said.code == 5
        assert "Traceback" not in said.err
        assert it.command("rebuild", "--since", SINCE).code == 2
        assert it.command("rebuild", "--full", "--adopt", str(tmp_path)).code == 2


def test_a_rebuild_that_is_killed_at_any_moment_leaves_the_old_or_the_new_ledger(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).outcome == "complete"
        cut_in_the_middle(ledger(it))
        for _ in range(6):
            running = it.start("rebuild", "--json")
            new = Path(f"{ledger(it)}.rebuilding")
            until(lambda new=new, running=running: new.exists() or running.process.poll() is not None)  # type: ignore[misc]
            time.sleep(chance.random() * 0.05)  # where it is killed, and not what is waited for
            running.signal(signal.SIGKILL)
            running.wait()
            assert ledger(it).exists()
        said = rebuilt(it)
        assert said.entered + said.known == RECORDINGS
        assert not [path for path in ledger(it).parent.iterdir() if ".rebuilding" in path.name]
        assert_as_good_as_before(it)


def test_a_run_that_is_killed_while_it_brings_its_ledger_up_to_date_is_finished_by_the_next(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).outcome == "complete"
        delete(ledger(it))
        # As a killed run leaves it: the archive says that a rebuild began, the ledger holds nothing of it yet.
        note = it.root / ".archiver" / "last-run.json"
        assert json.loads(note.read_bytes())["ended"] is True
        running = it.start("run", "--since", SINCE, "--until", UNTIL)
        until(lambda: b"-rebuild-" in note.read_bytes() or running.process.poll() is not None)
        running.signal(signal.SIGKILL)
        running.wait()
        assert_as_good_as_before(it)


def test_a_rebuild_that_is_stopped_changes_nothing(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).archived == RECORDINGS
        cut_in_the_middle(ledger(it))
        before = ledger(it).read_bytes()[4096:]
        stop = asyncio.Event()
        stop.set()
        report = asyncio.run(run_rebuild(configured(it), RebuildRequest(), stop=stop))
        assert (report.ledger, report.complete, report.set_aside) == ("unchanged", False, "")
        assert ledger(it).read_bytes()[4096:] == before
        assert [path.name for path in ledger(it).parent.glob("*rebuilding*")] == []
        assert rebuilt(it).entered == RECORDINGS


def test_a_run_that_is_stopped_while_its_ledger_is_brought_up_to_date_leaves_that_to_the_next(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(RECORDINGS)) as it:
        assert ran(it).archived == RECORDINGS
        delete(ledger(it))
        stop = asyncio.Event()
        stop.set()
        work = run_archive(configured(it), PERIOD, stop=stop, watcher=Silent(), now=lambda: THEN)
        report = asyncio.run(work).report
        assert (report.outcome, report.archived) == ("interrupted", 0)
        assert assert_as_good_as_before(it).notes != []
        assert ran(it).notes == []


def test_a_run_with_a_damaged_ledger_says_what_to_do(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(2)) as it:
        assert ran(it).archived == 2
        no_database(ledger(it))
        said = it.run()
        assert said.code == 5
        assert "`archiver rebuild`" in said.err
