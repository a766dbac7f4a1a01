"""Proving an archive on a cluster while something dies: the same comes of it, or it ends as a run would."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, Rig, Said, assert_holds_all, cdr, conserved, key, recordings, rig, until
from cluster_rig import DaskCluster, claims, dask_cluster, on_cluster
from s3_kinds import CREDENTIALS, bucket, prefixed
from s3_proxy import Answer, Cut, Fault, Request, proxied
from test_cluster_s3 import SPREAD, use

from archiver.simulator import Switches

ROWS = recordings(20)
VERIFY = ("verify", "--json")
RECONCILE = ("reconcile", "--since", SINCE, "--until", UNTIL, "--json")


@dataclass
class Held:
    """A verification whose readers wait at the store."""

    it: Rig
    cluster: DaskCluster
    reading: list[str]
    go_on: threading.Event


@contextmanager
def held(folder: Path, schema: str, *names: str) -> Iterator[Held]:
    """An archive in a bucket, whose recordings can't be read until the test lets them; two are waited for."""
    go_on, reading = threading.Event(), list[str]()

    def hold(request: Request, forward: Callable[[Request], Answer]) -> Answer:
        reading.append(request.path)
        if not go_on.wait(60):
            raise Cut
        return forward(request)

    access = prefixed(bucket("rclone"), folder)
    with (
        proxied(Fault(hold, method="GET", path=".mp3", times=len(ROWS) * 4), behind=access.endpoint_url) as proxy,
        rig(folder / "rig", ROWS) as it,
        dask_cluster(folder / "dask") as cluster,
    ):
        for name in names:
            cluster.start_worker(name, environment=CREDENTIALS)
        use(it, cluster, schema, prefixed(access, folder, endpoint_url=proxy.endpoint_url), listing=SPREAD)
        said = it.command("run", "--since", SINCE, "--until", UNTIL, "--scheduler", "", "--json", env=CREDENTIALS)
        assert said.code == 0, said
        yield Held(it, cluster, reading, go_on)
        go_on.set()


def test_a_worker_that_is_killed_while_it_reads_changes_nothing_of_what_is_found(tmp_path: Path) -> None:
    with held(tmp_path, "verify_killed", "one") as at:
        running = at.it.start(*VERIFY, env=CREDENTIALS)
        until(lambda: bool(at.reading) or running.process.poll() is not None)
        at.cluster.start_worker("two", environment=CREDENTIALS)
        at.cluster.signal("one", signal.SIGKILL)
        at.go_on.set()
        far = running.wait()
        here = at.it.command(*VERIFY, "--scheduler", "", env=CREDENTIALS)
        assert (far.code, far.json["complete"], far.json["objects"]) == (0, True, len(ROWS)), far
        assert (far.json["findings"], far.json["bytes"]) == (here.json["findings"], here.json["bytes"])


def test_when_the_scheduler_dies_a_verification_ends_with_8_and_says_so(tmp_path: Path) -> None:
    with held(tmp_path, "verify_headless", "one") as at:
        running = at.it.start(*VERIFY, env=CREDENTIALS)
        until(lambda: bool(at.reading) or running.process.poll() is not None)
        at.cluster.scheduler.kill()
        said = running.wait()
        assert said.code == 8, said
        assert "was lost" in said.err
        assert "Traceback" not in said.err


def test_an_interrupted_verification_ends_with_130_and_says_that_it_is_not_complete(tmp_path: Path) -> None:
    with held(tmp_path, "verify_stopped", "one") as at:
        running = at.it.start(*VERIFY, env=CREDENTIALS)
        until(lambda: bool(at.reading) or running.process.poll() is not None)
        running.signal(signal.SIGINT)
        at.go_on.set()
        said = running.wait()
        assert (said.code, said.json["complete"]) == (130, False), said


def killed_at_work(it: Rig, cluster: DaskCluster, schema: str, *command: str) -> Said:
    """A command of which a worker is killed that has a part of the work, when the PBX has heard a few words."""
    before = it.pbx.stats.requests
    running = it.start(*command)
    until(lambda: it.pbx.stats.requests > before + 2 or running.process.poll() is not None)
    holder = next(row.holder for row in claims(schema) if row.state == "held")
    # Parcels name the worker, days the process.
    name = next(
        name
        for name, worker in cluster.workers.items()
        if holder.endswith((f":{cluster.ports[name]}", f" {worker.pid}"))
    )
    cluster.signal(name, signal.SIGKILL)
    return running.wait()


def test_days_whose_worker_is_killed_are_reconciled_by_another_as_if_nothing_had_been(tmp_path: Path) -> None:
    switches = Switches(round_trip_s=0.3)
    with (
        rig(tmp_path / "rig", ROWS, cdrs=[cdr(row) for row in ROWS], switches=switches) as it,
        dask_cluster(tmp_path / "dask", "one", "two") as cluster,
    ):
        on_cluster(it, cluster, "reconcile_killed")
        assert it.run("--scheduler", "").code == 0
        far = killed_at_work(it, cluster, "reconcile_killed", *RECONCILE)
        here = it.command(*RECONCILE, "--scheduler", "")
        assert (far.code, here.code) == (0, 0), far
        assert "lost" in {row.state for row in claims("reconcile_killed")}
        for name in ("complete", "classes", "call_records", "days_whole", "recordings", "cdrs"):
            assert far.json[name] == here.json[name]


NO_FAILURE = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
"""The first worker that dies of a parcel is the last one that gets it."""


def test_a_parcel_that_its_workers_die_of_is_left_to_the_next_run_and_the_others_are_done(tmp_path: Path) -> None:
    switches = Switches(media_think_time_s=0.5)
    with (
        rig(tmp_path / "rig", ROWS, switches=switches) as it,
        dask_cluster(tmp_path / "dask", "one", "two", scheduler=NO_FAILURE) as cluster,
    ):
        on_cluster(it, cluster, "parcel_lost", transfer={"concurrency": 2, "requests_per_s": 0})
        said = killed_at_work(it, cluster, "parcel_lost", "run", *RECONCILE[1:])
        assert (said.code, said.json["outcome"]) == (3, "incomplete"), said
        assert conserved(said.json)
        assert [problem for problem in said.json["problems"] if "partition_lost" in problem["reason"]]
        assert said.json["windows_incomplete"] >= 1
        assert it.run().code == 0
        assert_holds_all(it, ROWS)


def test_days_that_their_workers_die_of_are_left_to_the_next_one_and_the_others_are_reconciled(tmp_path: Path) -> None:
    switches = Switches(round_trip_s=0.3)
    with (
        rig(tmp_path / "rig", ROWS, cdrs=[cdr(row) for row in ROWS], switches=switches) as it,
        dask_cluster(tmp_path / "dask", "one", "two", scheduler=NO_FAILURE) as cluster,
    ):
        on_cluster(it, cluster, "days_lost")
        assert it.run("--scheduler", "").code == 0
        said = killed_at_work(it, cluster, "days_lost", *RECONCILE)
        assert said.code == 3, said
        assert "left undone" in said.json["error"]
        assert 0 < len(said.json["days"]) < 4
        assert it.command(*RECONCILE).code == 0


@pytest.mark.parametrize("how", ["broken", "absent"])
def test_the_scheduler_needs_dask_alone(tmp_path: Path, how: str) -> None:
    without = tmp_path / "without"
    for name in ("archiver", "msgspec"):
        (without / name).mkdir(parents=True)
        error = "ImportError('none here')" if how == "absent" else "RuntimeError('another one')"
        (without / name / "__init__.py").write_text(f"raise {error}\n")
    with (
        rig(tmp_path / "rig", ROWS[:4]) as it,
        dask_cluster(tmp_path / "dask", scheduler={"PYTHONPATH": str(without)}) as cluster,
    ):
        cluster.start_worker("one")
        on_cluster(it, cluster, f"bare_{how}")
        said = it.run()
        assert (said.code, said.json["archived"]) == (0, 4), said
        damaged = it.root / key(ROWS[1])
        damaged.write_bytes(b"x" + damaged.read_bytes()[1:])
        assert it.command(*VERIFY).code == 7
