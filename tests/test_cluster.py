"""Work on a cluster: real scheduler and worker processes, a real PostgreSQL, and the real commands."""

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archive_rig import BEGIN_UNIX_S, SINCE, UNTIL, assert_holds_all, cdr, conserved, key, recordings, rig, until
from cluster_rig import DaskCluster, claims, dask_cluster, on_cluster
from s3_servers import free_port

from archiver.simulator import Delay, Fault, SimulatedRecording, Switches

SPREAD = {"window_hours": 1, "overlap_hours": 1}
"""Many small windows, whose overlaps show each recording to several workers."""
WIDER = {"window_hours": 4, "overlap_hours": 1}
"""Likewise, and not too many of them where listing is beside the point."""


def apart(count: int, *, duration_ms: int = 2000) -> list[SimulatedRecording]:
    """So many recordings, a quarter of an hour apart, so that every worker finds a window of its own."""
    rows = recordings(count, duration_ms=duration_ms)
    return [replace(row, start_unix_s=BEGIN_UNIX_S + 900 * ordinal) for ordinal, row in enumerate(rows)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), "one", "two") as it:
        yield it


def test_a_run_on_a_cluster_archives_and_reports_what_a_run_on_one_machine_does(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    rows = recordings(300)
    with rig(tmp_path / "rig", rows) as it:
        on_cluster(it, cluster, "whole", listing=SPREAD)
        said = it.run()
        report = said.json
        assert (said.code, said.err, report["outcome"]) == (0, "", "complete")
        assert conserved(report)
        assert (report["listed"], report["archived"], report["problems"], report["error"]) == (300, 300, [], None)
        assert_holds_all(it, rows)
        assert max(it.pbx.stats.media_gets.values()) == 1
        assert report["requests"] == it.pbx.stats.requests
        assert 1 <= report["logins"] <= 2
        assert {row.state for row in claims("whole", report["run_id"])} == {"done"}
        assert len({row.holder for row in claims("whole", report["run_id"])}) == 2
        again = it.run()
        assert (again.code, again.json["archived"], again.json["already_archived"]) == (0, 0, 300)
        assert it.pbx.stats.media == 300


def test_the_concurrency_is_reached_and_holds_for_the_whole_cluster(cluster: DaskCluster, tmp_path: Path) -> None:
    with rig(tmp_path / "rig", apart(60), switches=Switches(media_think_time_s=0.2)) as it:
        on_cluster(it, cluster, "at_once", transfer={"concurrency": 4}, listing=WIDER)
        report = it.run().json
        assert report["archived"] == 60
        assert len({row.holder for row in claims("at_once", report["run_id"])}) == 2
        assert it.pbx.stats.highest_media_in_flight == 4


def test_the_bandwidth_holds_for_the_whole_cluster(cluster: DaskCluster, tmp_path: Path) -> None:
    rows = apart(60, duration_ms=8000)
    size_bytes = rows[0].source.length_bytes
    a_second = 12 * size_bytes
    with rig(tmp_path / "rig", rows) as it:
        on_cluster(it, cluster, "bandwidth", transfer={"concurrency": 4, "bandwidth": f"{a_second}B"}, listing=WIDER)
        report = it.run().json
        assert report["archived"] == 60
        assert len({row.holder for row in claims("bandwidth", report["run_id"])}) == 2
        # A tenth of a second ahead, and one recording of each of those that are fetched at a time; listings besides.
        assert it.pbx.stats.most_body_bytes_within(3.0) <= 3.1 * a_second + 4 * size_bytes + 60_000


def test_a_full_verification_reads_on_the_cluster_and_finds_what_one_machine_would(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    rows = recordings(40)
    with rig(tmp_path / "rig", rows) as it:
        on_cluster(it, cluster, "verify")
        assert it.run().code == 0
        good = it.command("verify", "--json")
        assert (good.code, good.json["objects"], good.json["findings"]) == (0, 40, [])
        damaged, gone = it.root / key(rows[3]), it.root / key(rows[4])
        damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
        gone.unlink()
        far = it.command("verify", "--json")
        here = it.command("verify", "--json", "--scheduler", "")
        assert (far.code, here.code) == (7, 7)
        assert far.json["findings"] == here.json["findings"]
        assert {finding["key"] for finding in far.json["findings"]} == {key(rows[3]), key(rows[4])}


def test_days_are_reconciled_on_the_cluster_as_on_one_machine(cluster: DaskCluster, tmp_path: Path) -> None:
    rows = recordings(30)
    with rig(tmp_path / "rig", rows, cdrs=[cdr(row) for row in rows]) as it:
        on_cluster(it, cluster, "reconcile")
        assert it.run().code == 0
        far = it.command("reconcile", "--since", SINCE, "--until", UNTIL, "--json")
        here = it.command("reconcile", "--since", SINCE, "--until", UNTIL, "--json", "--scheduler", "")
        assert (far.code, here.code) == (0, 0)
        assert (far.json["complete"], far.json["cdrs"], far.json["recordings"]) == (True, 30, 30)
        for name in ("classes", "call_records", "days_whole", "recordings", "cdrs"):
            assert far.json[name] == here.json[name]


def test_without_a_scheduler_at_the_address_the_run_ends_with_8_and_says_so(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", recordings(2)) as it:
        nobody = DaskCluster(tmp_path, free_port(), None)  # type: ignore[arg-type]
        on_cluster(it, nobody, "nobody")
        said = it.run()
        assert (said.code, said.json["outcome"]) == (8, "failed")
        assert str(nobody.port) in said.json["error"]
        assert it.pbx.stats.requests == 0


def test_a_scheduler_without_workers_is_named_before_anything_is_asked_of_the_pbx(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", recordings(2)) as it, dask_cluster(tmp_path / "empty") as empty:
        on_cluster(it, empty, "empty")
        said = it.run()
        assert said.code == 8
        assert "has no worker" in said.json["error"]
        assert it.pbx.stats.requests == 0


def test_a_ledger_in_a_file_and_several_processes_do_not_go_with_a_cluster(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", recordings(2)) as it:
        it.configure(cluster={"scheduler": "tcp://127.0.0.1:1"})
        said = it.run()
        assert said.code == 2
        assert "ledger.url = 'postgresql://" in said.err
        it.configure(
            cluster={"scheduler": "tcp://127.0.0.1:1"},
            ledger={"url": "postgresql://somebody@127.0.0.1:1/x"},
            transfer={"processes": 2},
        )
        said = it.run()
        assert said.code == 2
        assert "transfer.processes" in said.err


def test_without_the_extra_the_message_says_what_to_install(cluster: DaskCluster, tmp_path: Path) -> None:
    without = tmp_path / "without" / "distributed"
    without.mkdir(parents=True)
    (without / "__init__.py").write_text("raise ImportError('not here')\n")
    with rig(tmp_path / "rig", recordings(2)) as it:
        on_cluster(it, cluster, "extra")
        path = os.pathsep.join([str(without.parent), os.environ.get("PYTHONPATH", "")])
        said = it.start("run", "--since", SINCE, "--json", env={"PYTHONPATH": path}).wait()
        assert said.code == 2
        assert "pip install 'recording-archiver[cluster]'" in said.err


def test_a_worker_with_another_archiver_is_named_and_gets_nothing(tmp_path: Path) -> None:
    other = tmp_path / "other"
    house = Path(__file__).parent.parent / "archiver"
    shutil.copytree(house, other / "archiver", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "archiver" / "window.py").open("a") as file:
        file.write("# a line more\n")
    with rig(tmp_path / "rig", recordings(2)) as it, dask_cluster(tmp_path / "mixed") as mixed:
        mixed.start_worker("other", PYTHONPATH=str(other))
        on_cluster(it, mixed, "mixed")
        said = it.run()
        assert said.code == 2
        assert f":{mixed.ports['other']} runs another archiver" in said.json["error"]
        assert it.pbx.stats.requests == 0


def test_a_worker_that_does_not_see_the_archive_is_named_and_gets_nothing(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", recordings(2)) as it, dask_cluster(tmp_path / "apart") as apart:
        it.root.mkdir()
        apart.start_worker("blind", hides=it.root)
        on_cluster(it, apart, "apart")
        said = it.run()
        assert (said.code, it.pbx.stats.requests) == (5, 0)
        assert f":{apart.ports['blind']}: " in said.json["error"]
        assert "mount the same file system" in said.json["error"]


def test_a_worker_that_joins_gets_its_share_of_work_and_what_is_free_of_the_concurrency(tmp_path: Path) -> None:
    rows = apart(100)
    switches = Switches(media_think_time_s=0.4)
    with rig(tmp_path / "rig", rows, switches=switches) as it, dask_cluster(tmp_path / "dask", "one") as cluster:
        on_cluster(it, cluster, "joins", transfer={"concurrency": 4}, listing=WIDER)
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.highest_media_in_flight == 4)
        cluster.start_worker("two")
        # Whoever was alone holds all slots for long when the other one begins.
        it.pbx.add_fault(Fault(on="media", action=Delay(seconds=4.0), times=4))
        said = running.wait()
        report = said.json
        assert (said.code, report["archived"]) == (0, 100)
        assert it.pbx.stats.highest_media_in_flight == 4
        assert len({row.holder for row in claims("joins", report["run_id"])}) == 2
        assert report["logins"] == 2


def test_the_rate_holds_in_every_second_while_workers_come_and_go(tmp_path: Path) -> None:
    rows, rate = apart(150), 16
    with rig(tmp_path / "rig", rows) as it, dask_cluster(tmp_path / "dask", "one", "two") as cluster:
        on_cluster(it, cluster, "rate", transfer={"requests_per_s": float(rate), "concurrency": 8}, listing=WIDER)
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 4)
        cluster.start_worker("three")
        until(lambda: "three" in {cluster.name_of(row.holder) for row in claims("rate")})
        cluster.signal("one", signal.SIGTERM)
        said = running.wait()
        assert said.code == 0, said
        assert said.json["archived"] + said.json["already_archived"] == 150
        assert len({row.holder for row in claims("rate", said.json["run_id"])}) == 3
        # Each of three may be one ahead; the rest is what a busy machine makes of a tenth of a second.
        for seconds in (1.0, 4.0):
            assert it.pbx.stats.most_requests_within(seconds) <= rate * seconds + 3 + rate * 0.3


def test_a_worker_with_another_archiver_that_joins_gets_nothing_is_named_and_harms_no_run(tmp_path: Path) -> None:
    other = tmp_path / "other"
    house = Path(__file__).parent.parent / "archiver"
    shutil.copytree(house, other / "archiver", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "archiver" / "window.py").open("a") as file:
        file.write("# a line more\n")
    rows = recordings(80)
    switches = Switches(media_think_time_s=0.05)
    with rig(tmp_path / "rig", rows, switches=switches) as it, dask_cluster(tmp_path / "dask", "one") as cluster:
        on_cluster(it, cluster, "joins_other", transfer={"requests_per_s": 40.0, "concurrency": 4}, listing=SPREAD)
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media >= 5)
        cluster.start_worker("other", PYTHONPATH=str(other))
        said = running.wait()
        assert (said.code, said.json["archived"]) == (0, 80), said
        assert [note for note in said.json["notes"] if f":{cluster.ports['other']} got nothing to do" in note], said.out
        assert len({row.holder for row in claims("joins_other", said.json["run_id"])}) == 1
