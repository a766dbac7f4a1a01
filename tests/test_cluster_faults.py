"""What happens on a cluster when something dies, stands still or is told to stop: nothing is lost, nothing comes twice."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archive_rig import SINCE, UNTIL, Rig, Started, assert_holds_all, conserved, recordings, rig, until
from cluster_rig import DaskCluster, claims, dask_cluster, on_cluster
from postgres_server import postgres

from archiver.simulator import Switches

SPREAD = {"window_hours": 1, "overlap_hours": 1}
ROWS = recordings(120)
SLOW = Switches(media_think_time_s=0.1)


@contextmanager
def under_way(folder: Path, schema: str, *names: str) -> Iterator[tuple[Rig, DaskCluster, Started]]:
    """A run on a cluster of these workers that has stored a few recordings and has many to go."""
    with rig(folder / "rig", ROWS, switches=SLOW) as it, dask_cluster(folder / "dask", *names) as cluster:
        on_cluster(it, cluster, schema, listing=SPREAD, transfer={"concurrency": 4, "requests_per_s": 0})
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 12)
        yield it, cluster, running


def holder_at_work(cluster: DaskCluster, schema: str) -> str:
    """The name of a worker that has a parcel just now."""
    found: list[str] = []

    def one() -> bool:
        found.extend(row.holder for row in claims(schema) if row.state == "held")
        return bool(found)

    until(one)
    return cluster.name_of(found[0])


def assert_whole(it: Rig, report: dict[str, object]) -> None:
    """Everything is there, once, and counted."""
    assert conserved(report)
    assert (report["outcome"], report["listed"], report["archived"]) == ("complete", 120, 120)
    assert_holds_all(it, ROWS)


def test_what_a_killed_worker_had_is_done_by_another_and_the_ledger_shows_both_attempts(tmp_path: Path) -> None:
    with under_way(tmp_path, "killed", "one", "two") as (it, cluster, running):
        cluster.signal(holder_at_work(cluster, "killed"), signal.SIGKILL)
        said = running.wait()
        assert said.code == 0, said
        assert_whole(it, said.json)
        rows = claims("killed")
        lost = [row for row in rows if row.state == "lost"]
        assert lost
        for row in lost:
            again = [other for other in rows if other.partition == row.partition and other.state == "done"]
            assert [other.holder for other in again] != [row.holder]
            assert len(again) == 1
        # Only what was on its way when the worker died came a second time.
        assert it.pbx.stats.media <= 120 + 2 * 4


def test_a_worker_that_wakes_after_its_work_was_given_away_does_no_harm(tmp_path: Path) -> None:
    with under_way(tmp_path, "paused", "one", "two") as (it, cluster, running):
        name = holder_at_work(cluster, "paused")
        cluster.signal(name, signal.SIGSTOP)
        until(lambda: any(row.state == "lost" for row in claims("paused")))
        cluster.signal(name, signal.SIGCONT)
        said = running.wait()
        assert said.code == 0, said
        assert_whole(it, said.json)
        assert {row.state for row in claims("paused")} == {"lost", "done"}
        verified = it.command("verify", "--scheduler", "", "--json")
        assert (verified.code, verified.json["objects"]) == (0, 120)


def test_when_the_scheduler_dies_the_run_ends_with_8_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with under_way(tmp_path, "headless", "one", "two") as (it, cluster, running):
        cluster.scheduler.kill()
        said = running.wait()
        assert (said.code, said.json["outcome"]) == (8, "failed")
        assert "was lost" in said.json["error"]
        assert conserved(said.json)
        with dask_cluster(tmp_path / "again", "three") as another:
            on_cluster(it, another, "headless", listing=SPREAD)
            said = it.run()
        assert said.code == 0, said
        assert said.json["archived"] + said.json["already_archived"] == 120
        assert said.json["already_archived"] >= 8
        assert_holds_all(it, ROWS)


def test_an_interrupted_client_stops_its_workers_at_the_next_recording(tmp_path: Path) -> None:
    with under_way(tmp_path, "interrupted", "one", "two") as (it, _, running):
        running.signal(signal.SIGINT)
        said = running.wait()
        assert (said.code, said.json["outcome"]) == (130, "interrupted")
        assert conserved(said.json)
        asked = it.pbx.stats.media
        assert asked < 120
        assert "held" not in {row.state for row in claims("interrupted")}
        said = it.run()
        assert said.code == 0, said
        assert_holds_all(it, ROWS)
        assert it.pbx.stats.media <= 120 + 2 * 4


def test_workers_stop_when_their_client_is_killed_and_the_next_run_takes_over(tmp_path: Path) -> None:
    with under_way(tmp_path, "orphaned", "one", "two") as (it, _, running):
        running.process.kill()
        running.wait()
        said = it.run()
        assert said.code == 0, said
        assert said.json["archived"] + said.json["already_archived"] == 120
        assert_holds_all(it, ROWS)


def test_a_second_run_over_the_same_account_is_refused_by_the_ledger_on_any_machine(tmp_path: Path) -> None:
    with under_way(tmp_path, "second", "one") as (it, cluster, running):
        elsewhere = Rig(tmp_path / "elsewhere", it.pbx)
        on_cluster(elsewhere, cluster, "second", listing=SPREAD)
        said = elsewhere.run()
        assert said.code == 6
        assert "another run" in said.err
        running.signal(signal.SIGINT)
        assert running.wait().code == 130


def test_a_restart_of_postgresql_is_waited_for(tmp_path: Path) -> None:
    with under_way(tmp_path, "restarted", "one", "two") as (it, _, running):
        postgres().control("restart", "-m", "immediate")
        said = running.wait()
        assert said.code == 0, said
        assert_whole(it, said.json)
        assert it.pbx.stats.media == 120


def test_a_worker_that_is_asked_to_leave_hands_its_work_over(tmp_path: Path) -> None:
    with under_way(tmp_path, "leaving", "one", "two") as (it, cluster, running):
        cluster.signal(holder_at_work(cluster, "leaving"), signal.SIGTERM)
        said = running.wait()
        assert said.code == 0, said
        assert_whole(it, said.json)
