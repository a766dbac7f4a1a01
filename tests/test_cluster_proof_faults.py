"""Proving an archive on a cluster while something dies: the same comes of it, or it ends as a run would."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, Rig, assert_holds_all, cdr, conserved, key, recordings, rig, until
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
        until(lambda: bool(at.reading))
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
        until(lambda: bool(at.reading))
        at.cluster.scheduler.kill()
        said = running.wait()
        assert said.code == 8, said
        assert "was lost" in said.err
        assert "Traceback" not in said.err


def test_an_interrupted_verification_ends_with_130_and_says_that_it_is_not_complete(tmp_path: Path) -> None:
    with held(tmp_path, "verify_stopped", "one") as at:
        running = at.it.start(*VERIFY, env=CREDENTIALS)
        until(lambda: bool(at.reading))
        running.signal(signal.SIGINT)
        at.go_on.set()
        said = running.wait()
        assert (said.code, said.json["complete"]) == (130, False), said


def test_days_whose_worker_is_killed_are_reconciled_by_another_as_if_nothing_had_been(tmp_path: Path) -> None:
    switches = Switches(round_trip_s=0.3)
    with (
        rig(tmp_path / "rig", ROWS, cdrs=[cdr(row) for row in ROWS], switches=switches) as it,
        dask_cluster(tmp_path / "dask", "one", "two") as cluster,
    ):
        on_cluster(it, cluster, "reconcile_killed")
        assert it.run("--scheduler", "").code == 0
        running = it.start(*RECONCILE)
        until(lambda: any(row.state == "held" for row in claims("reconcile_killed")))
        cluster.signal("one", signal.SIGKILL)
        far = running.wait()
        here = it.command(*RECONCILE, "--scheduler", "")
        assert (far.code, here.code) == (0, 0), far
        for name in ("complete", "classes", "call_records", "days_whole", "recordings", "cdrs"):
            assert far.json[name] == here.json[name]


@pytest.mark.parametrize("command", ["run", "reconcile"])
def test_what_its_workers_die_of_is_left_to_the_next_one_and_the_rest_is_done(tmp_path: Path, command: str) -> None:
    """With a scheduler that allows no failure the first one that dies is enough."""
    scheduler = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    switches = Switches(round_trip_s=0.1, media_think_time_s=0.2)
    cdrs = [cdr(row) for row in ROWS]
    with (
        rig(tmp_path / "rig", ROWS, cdrs=cdrs, switches=switches) as it,
        dask_cluster(tmp_path / "dask", "one", "two", scheduler=scheduler) as cluster,
    ):
        schema = f"given_up_{command}"
        on_cluster(it, cluster, schema, transfer={"concurrency": 2, "requests_per_s": 0})
        if command == "reconcile":
            assert it.run("--scheduler", "").code == 0
        again = ("run", *RECONCILE[1:]) if command == "run" else RECONCILE
        running = it.start(*again)
        until(lambda: any(row.state == "held" for row in claims(schema)))
        cluster.signal(
            next(cluster.name_of(row.holder) for row in claims(schema) if row.state == "held")
            if command == "run"
            else "one",
            signal.SIGKILL,
        )
        said = running.wait()
        assert said.code == 3, said
        if command == "run":
            assert conserved(said.json)
            assert [problem for problem in said.json["problems"] if "partition_lost" in problem["reason"]]
            assert said.json["windows"]["incomplete"] >= 1
        else:
            assert "left undone" in said.json["error"]
        assert it.start(*again).wait().code == 0
        assert_holds_all(it, ROWS) if command == "run" else None


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
