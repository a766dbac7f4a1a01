"""The product from the outside with `archive.store = "s3"`: the real command, a PBX on the wire, real S3 servers."""

import gzip
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from archive_rig import Rig, cdr, conserved, key, media, recordings, rig, until
from s3_kinds import CREDENTIALS, admin, bucket, prefixed
from s3_proxy import Fault, Proxy, lose_reply, proxied, refuse
from s3_servers import SERVERS

from archiver.simulator import SimulatedRecording
from archiver.stores.s3_access import S3Access

every_server = pytest.mark.parametrize("server", sorted(SERVERS))


def use(it: Rig, access: S3Access, grace_s: float = 20, **s3: Any) -> None:
    """Settings for a bucket."""
    named = {"bucket": access.bucket, "prefix": access.prefix, "region": "us-east-1"}
    it.configure(
        archive={"store": "s3"},
        store__s3=named | {"endpoint_url": access.endpoint_url} | s3,
        pbx={"max_retries": 2},
        transfer={"grace_s": grace_s},
    )


def objects(access: S3Access) -> dict[str, bytes]:
    """What lies in the bucket under the prefix, without our own things."""
    client = admin(access.endpoint_url)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=access.bucket, Prefix=access.path(""))
    keys = [found["Key"] for page in pages for found in page.get("Contents", ()) if "/.archiver/" not in found["Key"]]
    return {
        name.removeprefix(access.path("")): client.get_object(Bucket=access.bucket, Key=name)["Body"].read()
        for name in keys
    }


def assert_holds_all(access: S3Access, rows: Sequence[SimulatedRecording]) -> None:
    """Each recording with its bytes and its sidecar, and nothing else."""
    source, found = {key(row): media(row) for row in rows}, objects(access)
    assert {name: data for name, data in found.items() if name.endswith(".mp3")} == source
    assert len(found) == 2 * len(source)
    for name, data in source.items():
        said = json.loads(found[name.removesuffix(".mp3") + ".json"])
        assert (said["key"], said["size_bytes"], said["sha256"]) == (name, len(data), sha256(data).hexdigest())


@every_server
def test_a_backfill_lands_in_the_bucket_and_a_second_one_asks_for_nothing(server: str, tmp_path: Path) -> None:
    rows = recordings(12)
    access = prefixed(bucket(server), tmp_path)
    with proxied(behind=access.endpoint_url) as proxy, rig(tmp_path, rows) as it:
        use(it, prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        said = it.command("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json", env=CREDENTIALS)
        assert said.code == 0, said.err
        assert (said.json["archived"], said.json["listed"]) == (12, 12)
        assert_holds_all(access, rows)
        assert it.files() == {}
        assert it.temporaries() == []
        proxy.requests.clear()
        gets = it.pbx.stats.media_gets.total()
        again = it.command("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json", env=CREDENTIALS)
        assert (again.code, again.json["already_archived"]) == (0, 12)
        # The audit trail alone has grown (and what the store does under a condition was tried out for it).
        written = {request.path for request in proxy.requests if request.method == "PUT"}
        assert (it.pbx.stats.media_gets.total(), {path for path in written if "/.archiver/" not in path}) == (
            gets,
            set(),
        )


@every_server
def test_an_archive_in_a_bucket_is_verified_like_one_on_a_disk(server: str, tmp_path: Path) -> None:
    rows = recordings(4)
    access = prefixed(bucket(server), tmp_path)
    client = admin(access.endpoint_url)
    with rig(tmp_path, rows) as it:
        use(it, access)
        assert it.command("run", "--since", "2024-05-06", "--until", "2024-05-08", env=CREDENTIALS).code == 0
        for level in ("presence", "size", "full"):
            said = it.command("verify", "--level", level, "--json", env=CREDENTIALS)
            assert (said.code, said.json["objects"], said.json["findings"]) == (0, 4, []), said
        client.delete_object(Bucket=access.bucket, Key=access.path(key(rows[0])))
        client.put_object(Bucket=access.bucket, Key=access.path(key(rows[1])), Body=media(rows[1])[:-1] + b"\0\0")
        client.put_object(Bucket=access.bucket, Key=access.path(key(rows[2])), Body=bytes(len(media(rows[2]))))
        found = it.command("verify", "--json", env=CREDENTIALS)
        assert found.code == 7
        assert {(each["kind"], each["key"]) for each in found.json["findings"]} == {
            ("missing_object", key(rows[0])),
            ("size", key(rows[1])),
            ("digest", key(rows[2])),
        }


@pytest.mark.parametrize("server", ["rclone"])
def test_reconcile_works_in_a_bucket_like_on_a_disk(server: str, tmp_path: Path) -> None:
    rows = [replace(row, listed_at=math.inf, available_at=0) if n < 2 else row for n, row in enumerate(recordings(4))]
    access = prefixed(bucket(server), tmp_path)
    client = admin(access.endpoint_url)
    period = ("--since", "2024-05-06", "--until", "2024-05-08", "--json")
    with rig(tmp_path, rows, cdrs=[cdr(row) for row in rows]) as it:
        use(it, access)
        assert it.command("run", *period, env=CREDENTIALS).code == 0
        said = it.command("reconcile", *period, env=CREDENTIALS)
        assert (said.code, said.json["fetched_archived"], said.json["recordings"]) == (0, 2, 4), said
        again = it.command("reconcile", *period, env=CREDENTIALS)
        assert (again.code, again.json["fetched"], again.json["cdrs_archived"]) == (0, 0, 4), again
        found = objects(access)
        assert {name: data for name, data in found.items() if name.endswith(".mp3")} == {
            key(row): media(row) for row in rows
        }
        files = sorted(name for name in found if name.endswith("cdrs.jsonl.gz"))
        assert sorted(line for name in files for line in gzip.decompress(found[name]).splitlines())
        assert len(found) == 2 * len(rows) + len(files) == 10
        assert it.command("verify", "--json", env=CREDENTIALS).json["findings"] == []
        changed = bytearray(found[files[0]])
        changed[-1] ^= 1
        client.put_object(Bucket=access.bucket, Key=access.path(files[0]), Body=bytes(changed))
        client.put_object(Bucket=access.bucket, Key=access.path(f"{files[1]}.mp3"), Body=b"stray")
        client.delete_object(Bucket=access.bucket, Key=access.path(key(rows[0])))
        verified = it.command("verify", "--json", env=CREDENTIALS)
        assert verified.code == 7
        assert ("digest", files[0]) in {(each["kind"], each["key"]) for each in verified.json["findings"]}
        last = it.command("reconcile", *period, env=CREDENTIALS)
        assert (last.code, last.json["classes"]["gone"]["count"], last.json["classes"]["orphan"]["count"]) == (3, 1, 1)


@every_server
def test_a_ledger_is_rebuilt_from_a_bucket_by_listing_and_reading_alone(server: str, tmp_path: Path) -> None:
    rows = recordings(6)
    access = prefixed(bucket(server), tmp_path)
    period = ("--since", "2024-05-06", "--until", "2024-05-08", "--json")
    with proxied(behind=access.endpoint_url) as proxy, rig(tmp_path, rows) as it:
        use(it, prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        assert it.command("run", *period, env=CREDENTIALS).code == 0
        gets = it.pbx.stats.media_gets.total()
        ledger = it.root / ".archiver" / "ledger.sqlite3"
        ledger.write_bytes(ledger.read_bytes()[: ledger.stat().st_size // 2])
        proxy.requests.clear()
        said = it.command("rebuild", "--json", env=CREDENTIALS)
        assert (said.code, said.json["ledger"], said.json["entered"]) == (0, "replaced", 6), said
        assert (proxy.count("PUT"), proxy.count("HEAD"), proxy.count("GET", ".mp3")) == (0, 0, 0)
        again = it.command("run", *period, env=CREDENTIALS)
        assert (again.code, again.json["already_archived"], again.json["notes"]) == (0, 6, [])
        shutil.rmtree(it.root)
        anew = it.command("run", *period, env=CREDENTIALS)
        assert (anew.code, anew.json["already_archived"], len(anew.json["notes"])) == (0, 6, 1), anew
        assert it.pbx.stats.media_gets.total() == gets
        assert it.command("verify", "--json", env=CREDENTIALS).json["findings"] == []


@pytest.mark.parametrize("server", ["ceph", "moto"])
def test_everything_is_locked_from_the_calls_date(server: str, tmp_path: Path) -> None:
    rows = recordings(3)
    access = prefixed(bucket(server, locked=True), tmp_path)
    with rig(tmp_path, rows) as it:
        use(it, access, object_lock_mode="GOVERNANCE", retention_days=3650)
        said = it.command("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json", env=CREDENTIALS)
        assert said.code == 0, said.err
    for name in objects(access):
        head = admin(access.endpoint_url).head_object(Bucket=access.bucket, Key=access.path(name))
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert f"{head['ObjectLockRetainUntilDate']:%Y-%m-%d}" == "2034-05-04"


@every_server
def test_a_bucket_without_the_lock_asked_for_ends_with_5_before_the_first_upload(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server), tmp_path)
    with rig(tmp_path, recordings(2)) as it:
        use(it, access, object_lock_mode="GOVERNANCE", retention_days=1)
        said = it.command("run", "--since", "2024-05-06", "--until", "2024-05-08", env=CREDENTIALS)
        assert said.code == 5
        assert "Object Lock" in said.err
        assert it.pbx.stats.media_gets.total() == 0
    assert objects(access) == {}


def test_compliance_asks_for_its_flag_once(tmp_path: Path) -> None:
    access = prefixed(bucket("moto", locked=True), tmp_path)
    with rig(tmp_path, recordings(1)) as it:
        use(it, access, object_lock_mode="COMPLIANCE", retention_days=3650)
        period = ("--since", "2024-05-06", "--until", "2024-05-08")
        said = it.command("run", *period, env=CREDENTIALS)
        assert said.code == 2
        assert "--i-understand-compliance-is-final" in said.err
        assert it.command("run", *period, "--i-understand-compliance-is-final", env=CREDENTIALS).code == 0
        assert it.command("run", *period, env=CREDENTIALS).code == 0


def faulty(tmp_path: Path, rows: Sequence[SimulatedRecording], *faults: Fault) -> tuple[Any, dict[str, Any], Proxy]:
    """A run whose store meets faults; what the command said, and the report."""
    access = prefixed(bucket("moto"), tmp_path)
    with proxied(*faults, behind=access.endpoint_url) as proxy, rig(tmp_path, rows) as it:
        use(it, prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        said = it.command("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json", env=CREDENTIALS)
        assert conserved(said.json), said.err
        return said, said.json, proxy


def test_a_store_that_stumbles_loses_nothing(tmp_path: Path) -> None:
    rows = recordings(10)
    faults = (
        Fault(refuse(503, "SlowDown"), path=".mp3", after=2, times=2),
        Fault(lose_reply, path=".json", after=1, times=2),
        Fault(refuse(409, "ConditionalRequestConflict"), path=".mp3", after=6),
    )
    said, report, _ = faulty(tmp_path, rows, *faults)
    assert (said.code, report["archived"]) == (0, 10)
    assert_holds_all(prefixed(bucket("moto"), tmp_path), rows)


def test_a_key_that_holds_other_bytes_is_quarantined_here_and_left_alone_there(tmp_path: Path) -> None:
    rows = recordings(2)
    access = prefixed(bucket("moto"), tmp_path)
    admin(access.endpoint_url).put_object(Bucket=access.bucket, Key=access.path(key(rows[0])), Body=b"other")
    with rig(tmp_path, rows) as it:
        use(it, access)
        said = it.command("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json", env=CREDENTIALS)
        assert (said.code, said.json["quarantined"], said.json["archived"]) == (3, 1, 1)
        assert said.json["problems"][0]["reason"].startswith("key_taken")
        assert media(rows[0]) in it.quarantined().values()
    assert objects(access)[key(rows[0])] == b"other"


def test_a_store_that_denies_in_the_middle_ends_with_5(tmp_path: Path) -> None:
    said, report, proxy = faulty(
        tmp_path, recordings(30), Fault(refuse(403, "AccessDenied"), path=".mp3", after=5, times=999)
    )
    assert (said.code, report["outcome"]) == (5, "failed")
    assert "docs/s3.md" in said.out
    # What the workers had under way: by default ten, two more than fetch at once.
    assert proxy.count("PUT", ".mp3") <= 5 + 10


def test_a_store_that_is_gone_for_good_ends_the_run_with_5_instead_of_trying_each_recording(tmp_path: Path) -> None:
    gone = Fault(refuse(500, "InternalError"), path=".mp3", after=5, times=99_999)
    said, report, _ = faulty(tmp_path, recordings(60), gone)
    assert (said.code, report["outcome"]) == (5, "failed")
    assert "could not be stored, whatever was retried" in said.out
    assert report["pending"] > 40


def test_60_a_run_that_is_stopped_does_not_wait_for_a_store_that_is_silent(tmp_path: Path) -> None:
    silent = threading.Event()

    def wait(request: Any, forward: Any) -> Any:
        silent.wait(60)
        return forward(request)

    rows = recordings(4)
    access = prefixed(bucket("moto"), tmp_path)
    with proxied(Fault(wait, path=".mp3", times=99), behind=access.endpoint_url) as proxy, rig(tmp_path, rows) as it:
        use(it, prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url), grace_s=0.5, read_timeout_s=2)
        running = it.start("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json", env=CREDENTIALS)
        until(lambda: proxy.count("PUT", ".mp3") >= 4)
        running.signal(signal.SIGTERM)
        begun_s = time.monotonic()
        said = running.wait()
        assert time.monotonic() - begun_s < 10
        silent.set()
        assert (said.code, said.json["outcome"], said.json["pending"]) == (143, "interrupted", 4)


def test_no_secret_is_said(tmp_path: Path) -> None:
    access = prefixed(bucket("moto"), tmp_path)
    with rig(tmp_path, recordings(2)) as it:
        use(it, access)
        secret = {"AWS_SECRET_ACCESS_KEY": "canary-secret-key", "AWS_SESSION_TOKEN": "canary-session-token"}
        said = it.command("-v", "run", "--since", "2024-05-06", "--until", "2024-05-08", env=CREDENTIALS | secret)
        assert said.code == 0, said.err
        assert "canary" not in said.out + said.err
        assert not [path for path in it.root.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]


@every_server
def test_50_a_run_that_is_killed_is_finished_by_the_next(server: str, tmp_path: Path) -> None:
    rows = recordings(20)
    access = prefixed(bucket(server), tmp_path)
    period = ("--since", "2024-05-06", "--until", "2024-05-08", "--json")
    with proxied(behind=access.endpoint_url) as proxy, rig(tmp_path, rows) as it:
        use(it, prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        running = it.start("run", *period, env=CREDENTIALS)
        until(lambda: proxy.count("PUT", ".mp3") >= 5)
        running.signal(signal.SIGKILL)
        running.wait()
        said = it.command("run", *period, env=CREDENTIALS)
        assert said.code == 0, said.err
        assert said.json["archived"] + said.json["already_archived"] == 20
        assert_holds_all(access, rows)
        assert it.temporaries() == []


def test_65_two_runs_into_one_bucket_from_two_machines_archive_each_recording_once(tmp_path: Path) -> None:
    rows = recordings(20)
    access = prefixed(bucket("moto"), tmp_path)
    period = ("--since", "2024-05-06", "--until", "2024-05-08", "--json")
    with rig(tmp_path / "one", rows) as one, rig(tmp_path / "two", rows) as two:
        use(one, access)
        use(two, access)
        for done in [it.start("run", *period, env=CREDENTIALS) for it in (one, two)]:
            said = done.wait()
            # One that begins when the other has archived something takes that over from the bucket.
            assert (said.code, said.json["archived"] + said.json["already_archived"]) == (0, 20), said.err
    assert_holds_all(access, rows)
    versions = admin(access.endpoint_url).list_object_versions(Bucket=access.bucket, Prefix=access.path("a" * 32))
    assert len(versions["Versions"]) == len({version["Key"] for version in versions["Versions"]})
