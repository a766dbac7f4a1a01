"""What looks and does not archive, where the settings name a cluster: `doctor` looks at it too, the rest works here."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_rig import SINCE, UNTIL, Said, recordings, rig, until
from cluster_rig import DaskCluster, dask_cluster, on_cluster
from s3_kinds import CREDENTIALS, bucket, prefixed
from s3_servers import free_port
from test_cluster_s3 import use

from archiver.simulator import Switches

HOUSE = Path(__file__).parent.parent / "archiver"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), "one", "two", threads=2) as it:
        yield it


def of_cluster(said: Said) -> dict[str, dict[str, Any]]:
    """The checks of doctor's section, by name."""
    section = next(part for part in said.json["sections"] if part["name"] == "cluster")
    return {check["name"]: check for check in section["checks"]}


def states(said: Said) -> dict[str, str]:
    return {name: check["state"] for name, check in of_cluster(said).items()}


def test_doctor_looks_at_the_scheduler_and_its_workers_before_the_first_run_and_after(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    with rig(tmp_path / "rig", recordings(4)) as it:
        on_cluster(it, cluster, "looked_at")
        for _ in range(2):
            said = it.command("doctor", "--json")
            assert said.code == 0, said
            assert [part["name"] for part in said.json["sections"]] == ["settings", "store", "ledger", "cluster", "pbx"]
            assert set(states(said)) == {"reachable", "versions", "workers", "shared", "worker_ttl"}
            assert set(states(said).values()) == {"ok"}, said
            assert "2 workers with 4 threads" in of_cluster(said)["workers"]["found"]
            assert it.files() == {}
            assert list((it.root / ".archiver").rglob("cluster*/*")) == []
            # The ledger is made by a run, and then the workers look into it.
            assert it.command("run", "--since", "2020-01-01", "--until", "2020-01-02").code == 0
        words = it.command("doctor")
        assert f"Cluster: {cluster.address}\n  ok      reachable" in words.out


def test_doctor_says_which_threads_stay_idle_and_nothing_of_a_cluster_that_is_not_named(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    with rig(tmp_path / "rig", []) as it:
        on_cluster(it, cluster, "idle", transfer={"concurrency": 3})
        said = it.command("doctor", "--json")
        assert (said.code, states(said)["workers"]) == (0, "weak")
        assert of_cluster(said)["workers"]["advice"] == "transfer.concurrency = 4"
        it.configure()
        assert "cluster" not in [part["name"] for part in it.command("doctor", "--json").json["sections"]]


def test_doctor_ends_as_a_run_would_when_nobody_is_at_the_address_or_no_worker(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", []) as it:
        on_cluster(it, DaskCluster(tmp_path, free_port(), None), "nobody")  # type: ignore[arg-type]
        said = it.command("doctor", "--json")
        assert (said.code, states(said)) == (8, {"reachable": "failed"})
        assert it.run().code == 8
        with dask_cluster(
            tmp_path / "patient", scheduler={"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5 minutes"}
        ) as no:
            on_cluster(it, no, "nobody")
            said = it.command("doctor", "--json")
            assert said.code == 8
            assert states(said) == {"reachable": "ok", "versions": "ok", "workers": "failed", "worker_ttl": "weak"}
            assert "5 minutes" in of_cluster(said)["worker_ttl"]["found"]
            assert it.run().code == 8


def test_doctor_names_the_worker_that_does_not_fit_and_ends_as_a_run_would(tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(HOUSE, other / "archiver", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "archiver" / "window.py").open("a") as file:
        file.write("# a line more\n")
    with rig(tmp_path / "rig", []) as it, dask_cluster(tmp_path / "dask", "fit") as cluster:
        it.root.mkdir()
        on_cluster(it, cluster, "unfit")
        cluster.start_worker("blind", hides=it.root)
        said = it.command("doctor", "--json")
        assert (said.code, states(said)["shared"]) == (5, "failed")
        assert f":{cluster.ports['blind']}: " in of_cluster(said)["shared"]["found"]
        assert it.run().code == 5
        cluster.signal("blind", signal.SIGKILL)
        cluster.start_worker("other", PYTHONPATH=str(other))
        said = it.command("doctor", "--json")
        assert (said.code, states(said)) == (2, {"reachable": "ok", "versions": "failed"})
        assert f":{cluster.ports['other']} runs another archiver" in of_cluster(said)["versions"]["found"]
        assert it.run().code == 2


def test_workers_that_are_busy_with_another_run_are_asked_all_the_same(tmp_path: Path) -> None:
    endless = Switches(media_think_time_s=600)
    with (
        rig(tmp_path / "rig", recordings(4), switches=endless) as it,
        dask_cluster(tmp_path / "dask", "one") as cluster,
    ):
        on_cluster(it, cluster, "busy")
        running = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.highest_media_in_flight >= 1)
        said = it.command("doctor", "--json")
        assert (said.code, states(said)["shared"]) == (0, "ok"), said
        running.process.kill()
        running.wait()


def test_doctor_says_that_settings_do_not_go_with_a_cluster_and_does_not_look_further(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", []) as it:
        it.configure(cluster={"scheduler": "tcp://127.0.0.1:1"})
        said = it.command("doctor", "--json")
        part = next(part for part in said.json["sections"] if part["name"] == "cluster")
        assert (said.code, part["checks"]) == (2, [])
        assert "settings are wrong" in part["not_examined"]


def test_doctor_tells_a_worker_without_the_buckets_credentials(tmp_path: Path) -> None:
    access = prefixed(bucket("rclone"), tmp_path)
    with rig(tmp_path / "rig", []) as it, dask_cluster(tmp_path / "dask") as cluster:
        it.root.mkdir()
        use(it, cluster, "bucket", access)
        cluster.start_worker("fit", hides=it.root, environment=CREDENTIALS)
        said = it.command("doctor", "--json", env=CREDENTIALS)
        assert (said.code, states(said)["shared"]) == (0, "ok"), said
        assert "the first run tells" in of_cluster(said)["shared"]["found"]
        cluster.start_worker("keyless", hides=it.root, AWS_EC2_METADATA_DISABLED="true")
        said = it.command("doctor", "--json", env=CREDENTIALS)
        assert (said.code, states(said)["shared"]) == (5, "failed")
        assert f":{cluster.ports['keyless']}: " in of_cluster(said)["shared"]["found"]


def test_what_only_looks_works_on_this_machine_whatever_the_scheduler_does(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", recordings(6)) as it:
        nobody = DaskCluster(tmp_path, free_port(), None)  # type: ignore[arg-type]
        on_cluster(it, nobody, "only_looks")
        assert it.run("--scheduler", "").code == 0
        period = ("--since", SINCE, "--until", UNTIL)
        assert it.command("run", *period, "--dry-run", "--json").code == 0
        assert it.command("plan", *period, "--json").json["total"]["recordings"] == 6
        assert it.command("status", "--json").code == 0
        found = it.command("explain", recordings(1)[0].recording_id, "--json")
        assert found.code == 0, found
        bag = it.command("export", "--case", "one", "--to", str(tmp_path), *period, "--json")
        assert (bag.code, bag.json["recordings"]) == (0, 6), bag
        assert it.command("verify", "--level", "size", "--json").json["findings"] == []
        rebuilt = it.command("rebuild", "--json")
        assert rebuilt.code == 0, rebuilt
        assert it.run("--scheduler", "").json["already_archived"] == 6
