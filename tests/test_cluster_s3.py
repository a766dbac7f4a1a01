"""Work on a cluster into a bucket: each worker has a local folder and credentials of its own, and all share the bucket."""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from archive_rig import SINCE, UNTIL, Rig, cdr, conserved, key, recordings, rig, until
from cluster_rig import DaskCluster, claims, dask_cluster, on_cluster
from s3_kinds import CREDENTIALS, admin, bucket, prefixed
from s3_proxy import Answer, Cut, Fault, Request, proxied
from s3_servers import end, start_rclone
from test_s3_end_to_end import assert_holds_all

from archiver.stores.s3_access import S3Access

PERIOD = ("--since", SINCE, "--until", UNTIL, "--json")
SPREAD = {"window_hours": 6, "overlap_hours": 1}
NOBODY = {
    name: value for name, value in CREDENTIALS.items() if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
}


def use(it: Rig, cluster: DaskCluster, schema: str, access: S3Access, **sections: dict[str, Any]) -> None:
    """Settings for a bucket, a ledger in this schema, and the cluster's scheduler."""
    named = {"bucket": access.bucket, "prefix": access.prefix, "region": "us-east-1", "addressing": "path"}
    made: dict[str, dict[str, Any]] = {
        "archive": {"store": "s3"},
        "store__s3": named | {"endpoint_url": access.endpoint_url},
        "listing": SPREAD,
    }
    on_cluster(it, cluster, schema, **(made | sections))


@contextmanager
def apart(folder: Path, root: Path, *names: str, environment: Mapping[str, str] | None = None) -> Iterator[DaskCluster]:
    """A cluster whose workers each have a disk of their own where the archive's local folder lies."""
    root.mkdir(parents=True)
    with dask_cluster(folder) as cluster:
        for name in names:
            cluster.start_worker(name, hides=root, environment=environment)
        yield cluster


def test_run_verify_and_reconcile_work_on_workers_with_disks_and_credentials_of_their_own(tmp_path: Path) -> None:
    all_rows = recordings(60)
    rows = [replace(row, listed_at=math.inf, available_at=0) if n < 2 else row for n, row in enumerate(all_rows)]
    access = prefixed(bucket("moto"), tmp_path)
    of_workers = CREDENTIALS | {"AWS_ACCESS_KEY_ID": "KEYOFTHEWORKERS"}
    with (
        proxied(behind=access.endpoint_url) as proxy,
        rig(tmp_path / "rig", rows, cdrs=[cdr(row) for row in rows]) as it,
        apart(tmp_path / "dask", it.root, "one", "two", environment=of_workers) as cluster,
    ):
        use(it, cluster, "s3_keys", prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        said = it.command("run", *PERIOD, env=CREDENTIALS)
        assert (said.code, said.json["archived"], said.json["notes"]) == (0, 58, []), said
        assert len({row.holder for row in claims("s3_keys")}) == 2
        keys = {whose(request) for request in proxy.requests if ".mp3" in request.path}
        assert keys == {"KEYOFTHEWORKERS"}
        assert {whose(request) for request in proxy.requests} == {"KEYOFTHEWORKERS", CREDENTIALS["AWS_ACCESS_KEY_ID"]}
        said = it.command("reconcile", *PERIOD, env=CREDENTIALS)
        assert (said.code, said.json["fetched_archived"], said.json["recordings"]) == (0, 2, 60), said
        proxy.requests.clear()
        said = it.command("verify", "--json", env=CREDENTIALS)
        assert (said.code, said.json["objects"], said.json["findings"]) == (0, 60, []), said
        assert {whose(request) for request in proxy.requests if ".mp3" in request.path and request.method == "GET"} == {
            "KEYOFTHEWORKERS"
        }


def whose(request: Request) -> str:
    """The access key that signed a request."""
    said = next(value for name, value in request.headers.items() if name.lower() == "authorization")
    return said.partition("Credential=")[2].partition("/")[0]


def test_the_bucket_of_a_cluster_holds_what_one_machine_would_put_there(tmp_path: Path) -> None:
    rows = recordings(40)
    access = prefixed(bucket("rclone"), tmp_path)
    with (
        rig(tmp_path / "rig", rows, cdrs=[cdr(row) for row in rows]) as it,
        apart(tmp_path / "dask", it.root, "one", "two", environment=CREDENTIALS) as cluster,
    ):
        use(it, cluster, "s3_whole", access)
        said = it.command("run", *PERIOD, env=CREDENTIALS)
        assert (said.code, said.json["archived"]) == (0, 40), said
        assert_holds_all(access, rows)
        assert max(it.pbx.stats.media_gets.values()) == 1
        assert (it.files(), it.temporaries()) == ({}, [])
        again = it.command("run", *PERIOD, env=CREDENTIALS)
        assert (again.code, again.json["already_archived"], it.pbx.stats.media) == (0, 40, 40), again
        for command in (("verify", "--json"), ("reconcile", *PERIOD)):
            far = it.command(*command, env=CREDENTIALS)
            here = it.command(*command, "--scheduler", "", env=CREDENTIALS)
            assert (far.code, here.code) == (0, 0), (far, here)
        client = admin(access.endpoint_url)
        client.put_object(Bucket=access.bucket, Key=access.path(key(rows[3])), Body=b"x")
        client.delete_object(Bucket=access.bucket, Key=access.path(key(rows[4])))
        far = it.command("verify", "--json", env=CREDENTIALS)
        here = it.command("verify", "--json", "--scheduler", "", env=CREDENTIALS)
        assert (far.code, here.code) == (7, 7)
        assert far.json["findings"] == here.json["findings"]
        assert {key(rows[3]), key(rows[4])} <= {finding["key"] for finding in far.json["findings"]}


def test_a_worker_that_cannot_reach_the_bucket_is_named_before_anything_is_asked_of_the_pbx(tmp_path: Path) -> None:
    access = prefixed(bucket("rclone"), tmp_path)
    (tmp_path / "served" / access.bucket).mkdir(parents=True)
    other_process, other = start_rclone(tmp_path / "served", tmp_path / "other.log")
    ours = {"AWS_ENDPOINT_URL_S3": access.endpoint_url}
    elsewhere = {"AWS_ENDPOINT_URL_S3": other.endpoint_url}
    try:
        with (
            rig(tmp_path / "rig", recordings(2)) as it,
            apart(tmp_path / "dask", it.root) as cluster,
        ):
            use(it, cluster, "s3_unfit", prefixed(access, tmp_path, endpoint_url=""))
            for name, environment, why in (
                ("keyless", NOBODY | ours, "credentials"),
                ("wrong", CREDENTIALS | ours | {"AWS_SECRET_ACCESS_KEY": "x" * 40}, "SignatureDoesNotMatch"),
                ("astray", CREDENTIALS | elsewhere, "its bucket is not the one of this run"),
            ):
                cluster.start_worker(name, hides=it.root, environment=environment)
                said = it.command("run", *PERIOD, env=CREDENTIALS | ours)
                assert said.code == 5, said
                assert f"worker tcp://127.0.0.1:{cluster.ports[name]}: " in said.json["error"]
                assert why in said.json["error"], said
                assert it.pbx.stats.requests == 0
                cluster.signal(name, signal.SIGKILL)
    finally:
        end(other_process)


def test_a_worker_that_cannot_make_its_local_folder_is_named(tmp_path: Path) -> None:
    access = prefixed(bucket("rclone"), tmp_path)
    root = tmp_path / "disk" / "of" / "archive"
    with rig(tmp_path / "rig", recordings(2)) as it, apart(tmp_path / "dask", root) as cluster:
        cluster.start_worker("diskless", hides=tmp_path / "disk", environment=CREDENTIALS)
        use(it, cluster, "s3_diskless", access, store__local={"root": str(root)})
        said = it.command("run", *PERIOD, env=CREDENTIALS)
        assert (said.code, it.pbx.stats.requests) == (5, 0), said
        assert f":{cluster.ports['diskless']}: " in said.json["error"]
        assert str(root.parent) in said.json["error"]


def test_what_a_worker_was_uploading_when_it_was_killed_is_there_once(tmp_path: Path) -> None:
    """One upload arrives though nobody hears of it any more, another one never does."""
    rows = recordings(40)
    access = prefixed(bucket("rclone"), tmp_path)
    killed = threading.Event()
    under_way: list[str] = []

    def hold(request: Request, forward: Callable[[Request], Answer]) -> Answer:
        under_way.append(request.path)
        killed.wait(60)
        return forward(request)

    def drop(request: Request, forward: Callable[[Request], Answer]) -> Answer:
        under_way.append(request.path)
        killed.wait(60)
        raise Cut

    with (
        proxied(
            Fault(hold, path=".mp3", after=5), Fault(drop, path=".mp3", after=5), behind=access.endpoint_url
        ) as proxy,
        rig(tmp_path / "rig", rows) as it,
        apart(tmp_path / "dask", it.root, "one", environment=CREDENTIALS) as cluster,
    ):
        use(it, cluster, "s3_killed", prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        running = it.start("run", *PERIOD, env=CREDENTIALS)
        until(lambda: len(under_way) == 2)
        cluster.start_worker("two", hides=it.root, environment=CREDENTIALS)
        cluster.signal("one", signal.SIGKILL)
        killed.set()
        said = running.wait()
        assert (said.code, said.json["listed"]) == (0, 40), said
        assert conserved(said.json)
        assert said.json["archived"] == 40
        assert_holds_all(access, rows)
        assert it.pbx.stats.media <= 40 + 10
        assert {row.state for row in claims("s3_killed")} == {"done", "lost"}
        verified = it.command("verify", "--json", env=CREDENTIALS)
        assert (verified.code, verified.json["objects"], verified.json["findings"]) == (0, 40, []), verified
