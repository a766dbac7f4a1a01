"""What is special about removals and locks on S3: versions, markers, permissions, and heads that are silent."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from s3_kinds import LOCKED, admin, bucket, kept_of, lock_by_hand, opened, prefixed
from s3_proxy import Answer, Fault, Proxy, Request, change_headers, lose_reply, proxied, refuse, reset
from s3_servers import SERVERS
from stores import new, old

from archiver.errors import ObjectLocked, ObjectNotFound, Severity, StoreDenied, StoreUnavailable
from archiver.keys import AUDIT_PREFIX, sidecar_key
from archiver.stores.base import ObjectLock
from archiver.stores.s3 import S3Store
from archiver.stores.s3_access import Attributes, S3Access
from archiver.stores.s3_lock import LockPolicy, whole_seconds

KEY = "acc/2022/05/06/202205-04f5.mp3"
BODY = bytes(range(256)) * 40
Forward = Callable[[Request], Answer]
locking = pytest.mark.parametrize("server", ["ceph", "moto"])
every_server = pytest.mark.parametrize("server", sorted(SERVERS))


def soon(**span: int) -> datetime:
    """Whole seconds from now."""
    return datetime.now(UTC).replace(microsecond=0) + timedelta(**span)


@contextmanager
def behind(
    server: str, root: Path, *faults: Fault, attributes: Attributes | None = None, locked: bool = True
) -> Iterator[tuple[S3Store, Proxy]]:
    """A store that speaks to a server through a proxy; faults begin after `prepare`, and each must be hit."""
    access = bucket(server, locked=locked)
    with proxied(behind=access.endpoint_url) as proxy:
        with opened(prefixed(access, root, endpoint_url=proxy.endpoint_url, attempts=2), attributes) as store:
            store.prepare()
            proxy.requests.clear()
            proxy.faults += faults
            yield store, proxy
        assert all(fault.hits for fault in proxy.faults), "a fault was never hit"


def where(store: S3Store, key: str = KEY) -> dict[str, str]:
    return {"Bucket": store.connection.access.bucket, "Key": store.connection.access.path(key)}


def direct(server: str, store: S3Store) -> S3Access:
    """The same prefix, not through the proxy."""
    twin = copy.copy(store.connection.access)
    return S3Access(twin.bucket, prefix=twin.prefix, endpoint_url=bucket(server).endpoint_url)


@cache
def versioned(server: str) -> S3Access:
    """A bucket with versions and without Object Lock."""
    plain = bucket(server)
    client = admin(plain.endpoint_url)
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    return S3Access("versioned", region="us-east-1", endpoint_url=plain.endpoint_url)


@locking
def test_every_version_goes_and_every_marker_that_others_left(server: str, tmp_path: Path) -> None:
    access = prefixed(versioned(server), tmp_path)
    client = admin(access.endpoint_url)
    with opened(access) as store:
        store.prepare()
        store.put([new(KEY, BODY), new(KEY + "4", b"beside")])
        client.put_object(**where(store), Body=b"theirs")
        client.delete_object(**where(store))
        client.put_object(**where(store), Body=b"theirs again")
        client.delete_object(**where(store))
        assert len(kept_of(access, KEY)) == 5
        assert store.head(KEY) is None
        store.delete(KEY)
        assert not kept_of(access, KEY)
        assert len(kept_of(access, KEY + "4")) == 1
        assert store.locked_until(KEY + "4") == ObjectLock()


def test_more_versions_than_a_page_has_all_go(tmp_path: Path) -> None:
    def two_to_a_page(request: Request, forward: Forward) -> Answer:
        return forward(Request("GET", f"{request.path}&max-keys=2", request.headers, b""))

    few = Fault(two_to_a_page, "GET", "versions", times=99)
    with behind("moto", tmp_path, few) as (store, proxy):
        for number in range(7):
            admin(bucket("moto").endpoint_url).put_object(**where(store), Body=b"%d" % number)
        store.put([old(KEY + "x", BODY)])
        store.delete(KEY)
        assert not kept_of(direct("moto", store), KEY)
        assert len(kept_of(direct("moto", store), KEY + "x")) == 1
        assert few.hits >= 4
        assert proxy.count("DELETE") == 7


@locking
def test_a_version_that_is_locked_leaves_what_is_to_be_seen_as_it_was(server: str, tmp_path: Path) -> None:
    """Whichever version has the lock: the visible one goes last, and nothing older comes back to light."""
    access = prefixed(bucket(server, locked=True), tmp_path)
    until_at = soon(hours=1)
    with opened(access) as store:
        store.prepare()
        for key, locks in (("acc/a.mp3", (True, False)), ("acc/b.mp3", (False, True))):
            for body, lock in zip((b"first", b"second"), locks, strict=True):
                admin(access.endpoint_url).put_object(**where(store, key), Body=body)
                if lock:
                    lock_by_hand(store, key, until_at=until_at)
            with pytest.raises(ObjectLocked) as caught:
                store.delete(key)
            assert caught.value.until_at == until_at
            assert b"".join(store.open(key)) == b"second"


@locking
def test_what_is_hidden_and_locked_stays_hidden(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=True), tmp_path)
    with opened(access, LOCKED) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        admin(access.endpoint_url).delete_object(**where(store))
        with pytest.raises(ObjectLocked):
            store.delete(KEY)
        assert store.head(KEY) is None
        assert len(kept_of(access, KEY)) == 2


@locking
def test_nothing_asks_to_get_around_a_lock(server: str, tmp_path: Path) -> None:
    with behind(server, tmp_path, attributes=LOCKED) as (store, proxy):
        store.put([new(KEY, BODY)])
        with pytest.raises(ObjectLocked):
            store.delete(KEY)
        store.extend_lock(KEY, soon(days=5))
        assert proxy.count("DELETE") == 1
        assert not [header for request in proxy.requests for header in request.headers if "bypass" in header.lower()]
        # A plain removal, without a version's id, would have hidden it.
        assert all("versionId=" in request.path for request in proxy.requests if request.method == "DELETE")


def test_who_may_not_list_versions_removes_nothing_and_is_told_what_to_allow(tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(refuse(403, "AccessDenied"), "GET", "versions")) as (store, proxy):
        store.put([old(KEY, BODY)])
        with pytest.raises(StoreDenied, match=r"only hide it.*s3:ListBucketVersions and s3:DeleteObjectVersion"):
            store.delete(KEY)
        assert proxy.count("DELETE") == 0
        assert b"".join(store.open(KEY)) == BODY


def test_who_may_not_remove_versions_is_told_what_to_allow(tmp_path: Path) -> None:
    denied = Fault(refuse(403, "AccessDenied"), "DELETE")
    with behind("ceph", tmp_path, denied) as (store, _):
        store.put([old(KEY, BODY)])
        with pytest.raises(StoreDenied, match=r"though no lock keeps it.*s3:DeleteObjectVersion.*MFA"):
            store.delete(KEY)
        assert b"".join(store.open(KEY)) == BODY


def test_who_may_not_read_why_a_version_stays_is_not_told_that_it_is_free(tmp_path: Path) -> None:
    silent = Fault(refuse(403, ""), "HEAD", "versionId=")
    with behind("ceph", tmp_path, silent, attributes=LOCKED) as (store, _):
        store.put([new(KEY, BODY)])
        with pytest.raises(StoreDenied, match="nor show its lock"):
            store.delete(KEY)


@pytest.mark.parametrize("code", ["InvalidRequest", "ObjectLocked", "AccessDenied"])
def test_each_servers_word_for_a_lock_is_understood(code: str, tmp_path: Path) -> None:
    kept = Fault(refuse(400 if code == "InvalidRequest" else 403, code, "WORM protected"), "DELETE")
    with behind("ceph", tmp_path, kept, attributes=LOCKED) as (store, _):
        store.put([new(KEY, BODY)])
        with pytest.raises(ObjectLocked):
            store.delete(KEY)


def test_a_store_that_passes_over_the_question_for_versions_is_seen_through(tmp_path: Path) -> None:
    """It answers with an ordinary listing, in which there are no versions."""
    body = (
        b"<?xml version='1.0'?><ListBucketResult><Name>plain</Name><IsTruncated>false</IsTruncated></ListBucketResult>"
    )

    def passes_over(request: Request, forward: Forward) -> Answer:
        return Answer(200, {"Content-Type": "application/xml"}, body)

    with behind("rclone", tmp_path, Fault(passes_over, "GET", "versions", times=9), locked=False) as (store, _):
        store.put([new(KEY, BODY)])
        store.delete(KEY)
        assert not kept_of(direct("rclone", store), KEY)
        store.delete(KEY)


def test_versions_that_are_kept_and_not_listed_are_not_hidden(tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(refuse(501, "NotImplemented"), "GET", "versions&")) as (store, proxy):
        store.put([old(KEY, BODY)])
        with pytest.raises(StoreDenied, match="keeps versions"):
            store.delete(KEY)
        assert proxy.count("DELETE") == 0
        assert store.head(KEY) is not None


@every_server
def test_a_store_that_took_the_removal_and_still_has_the_object_is_not_believed(server: str, tmp_path: Path) -> None:
    taken = Fault(lambda request, forward: Answer(204, {}, b""), "DELETE", times=9)
    with behind(server, tmp_path, taken, locked=False) as (store, _):
        store.put([new(KEY, BODY)])
        with pytest.raises(StoreUnavailable, match="took the removal"):
            store.delete(KEY)


@pytest.mark.parametrize("act", [reset, lose_reply, refuse(503, "SlowDown")], ids=["reset", "lost", "busy"])
@every_server
def test_a_removal_whose_reply_is_lost_is_made_again(server: str, act: Any, tmp_path: Path) -> None:
    with behind(server, tmp_path, Fault(act, "DELETE"), locked=False) as (store, proxy):
        store.put([new(KEY, BODY)])
        store.delete(KEY)
        assert proxy.count("DELETE") == 2
        assert not kept_of(direct(server, store), KEY)


@pytest.mark.parametrize("status", [500, 503])
def test_a_removal_that_fails_can_be_made_again(status: int, tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(refuse(status, ""), "DELETE", times=2)) as (store, _):
        store.put([old(KEY, BODY), old(sidecar_key(KEY), b"{}")])
        with pytest.raises(StoreUnavailable):
            store.delete(KEY)
        assert b"".join(store.open(KEY)) == BODY
        store.delete(KEY)
        assert store.head(KEY) is None


def test_a_removed_key_can_be_taken_again_in_the_same_run(tmp_path: Path) -> None:
    for server in SERVERS:
        with opened(prefixed(bucket(server), tmp_path)) as store:
            store.prepare()
            store.put([new(KEY, BODY)])
            store.delete(KEY)
            assert not store.put([new(KEY, b"other")])[0].adopted


# Policies, as a real store applies them.


def policed(name: str, *denials: dict[str, Any]) -> S3Access:
    """A bucket of its own on Ceph whose policy refuses this to everybody, its owner included."""
    plain = bucket("ceph")
    client = admin(plain.endpoint_url)
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    every = f"arn:aws:s3:::{name}"
    whole = {"Effect": "Deny", "Principal": "*", "Resource": [every, f"{every}/*"]}
    policy = {"Version": "2012-10-17", "Statement": [whole | denial for denial in denials]}
    client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    return S3Access(name, region="us-east-1", endpoint_url=plain.endpoint_url)


def denials_of(sid: str, name: str) -> list[dict[str, Any]]:
    """What the policy in `docs/s3.md` that has this statement refuses, for another bucket."""
    page = (Path(__file__).parent.parent / "docs" / "s3.md").read_text("utf-8").replace(":::recordings", f":::{name}")
    blocks = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    policy = next(block for block in blocks if sid in str(block))
    return [statement for statement in policy["Statement"] if statement["Effect"] == "Deny"]


def test_under_the_documented_policy_recordings_go_for_good_and_evidence_can_not_be_removed() -> None:
    evidence = f"{AUDIT_PREFIX}000000000001-2.jsonl"
    access = policed("retention", *denials_of("RemoveForGood", "retention"))
    with opened(access) as store:
        store.prepare()
        store.put([old(KEY, BODY), new(evidence, b"{}")])
        store.delete(KEY)
        assert not kept_of(access, KEY)
        client = admin(access.endpoint_url)
        for version in ({}, {"VersionId": kept_of(access, evidence)[0]}):
            with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
                client.delete_object(**where(store, evidence), **version)


def test_under_the_documented_policy_of_the_archiver_nothing_can_be_removed() -> None:
    access = policed("archiving", *denials_of("WriteAndReadBack", "archiving"))
    with opened(access) as store:
        store.prepare()
        store.put([old(KEY, BODY)])
        with pytest.raises(StoreDenied, match="s3:DeleteObjectVersion"):
            store.delete(KEY)
        assert len(kept_of(access, KEY)) == 1
        assert b"".join(store.open(KEY)) == BODY


def test_a_real_store_that_hides_its_locks_is_not_taken_for_one_without() -> None:
    hidden = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    with opened(policed("hidden-locks", {"Action": hidden})) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        lock_by_hand(store, KEY, until_at=soon(hours=1))
        assert "ObjectLockMode" not in admin(store.connection.access.endpoint_url).head_object(**where(store))
        with pytest.raises(StoreDenied, match="get_object_retention refused: AccessDenied"):
            store.locked_until(KEY)
        with pytest.raises(StoreDenied, match="nor show its lock"):
            store.delete(KEY)


def test_a_real_store_that_does_not_list_versions_is_left_as_it_was() -> None:
    with opened(policed("hidden-versions", {"Action": "s3:ListBucketVersions"})) as store:
        store.prepare()
        store.put([old(KEY, BODY)])
        with pytest.raises(StoreDenied, match="only hide it"):
            store.delete(KEY)
        assert b"".join(store.open(KEY)) == BODY


# Locks: what a head does not say, and what is never sent.

SILENT = change_headers(
    x_amz_object_lock_mode="", x_amz_object_lock_retain_until_date="", x_amz_object_lock_legal_hold=""
)


def test_a_head_that_is_silent_about_a_lock_is_not_believed(tmp_path: Path) -> None:
    """Without the permission to read locks a head shows none."""
    quiet = Fault(SILENT, "HEAD", KEY, times=9)
    with behind("ceph", tmp_path, attributes=LOCKED) as (store, proxy):
        store.put([new(KEY, BODY)])
        lock_by_hand(store, KEY, legal_hold=True)
        seen = store.locked_until(KEY)
        assert seen.until_at is not None
        assert seen.legal_hold
        proxy.faults.append(quiet)
        assert store.locked_until(KEY) == seen
        assert store.extend_lock(KEY, seen.until_at + timedelta(days=1)).mode == "GOVERNANCE"


@pytest.mark.parametrize("part", ["?retention", "?legal-hold"])
def test_a_lock_that_we_may_not_read_is_no_absent_lock(part: str, tmp_path: Path) -> None:
    denied = Fault(refuse(403, "AccessDenied"), "GET", part)
    with behind("ceph", tmp_path, denied) as (store, _):
        store.put([old(KEY, BODY)])
        with pytest.raises(StoreDenied, match="AccessDenied") as caught:
            store.locked_until(KEY)
        assert caught.value.severity is Severity.FATAL


def test_a_lock_without_its_date_can_not_be_told(tmp_path: Path) -> None:
    dateless = Fault(change_headers(x_amz_object_lock_retain_until_date=""), "HEAD", KEY)
    with behind("moto", tmp_path, attributes=LOCKED) as (store, proxy):
        store.put([new(KEY, BODY)])
        proxy.faults.append(dateless)
        with pytest.raises(StoreUnavailable, match="not until when"):
            store.locked_until(KEY)


def test_a_bucket_that_does_not_tell_whether_it_has_locks_is_asked_again(tmp_path: Path) -> None:
    denied = Fault(refuse(403, "AccessDenied"), "GET", "object-lock")
    with behind("ceph", tmp_path, denied) as (store, _):
        store.put([old(KEY, BODY)])
        with pytest.raises(StoreDenied, match="get_object_lock_configuration"):
            store.locked_until(KEY)
        assert store.locked_until(KEY) == ObjectLock()


def test_an_object_that_was_never_locked_has_no_lock_in_a_bucket_that_has_them(tmp_path: Path) -> None:
    with opened(prefixed(bucket("ceph", locked=True), tmp_path)) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        assert store.locked_until(KEY) == ObjectLock()
        lock_by_hand(store, KEY, legal_hold=True)
        assert store.locked_until(KEY) == ObjectLock(legal_hold=True)
        with pytest.raises(ObjectLocked, match=r"a legal hold keeps it$") as caught:
            store.delete(KEY)
        assert caught.value.until_at is None


def test_headers_that_a_store_only_repeats_are_no_lock(tmp_path: Path) -> None:
    access = prefixed(bucket("rclone"), tmp_path)
    with opened(access) as store:
        store.prepare()
        lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": soon(days=1)}
        admin(access.endpoint_url).put_object(**where(store), Body=BODY, **lock)
        assert admin(access.endpoint_url).head_object(**where(store))["ObjectLockMode"] == "GOVERNANCE"
        assert store.locked_until(KEY) == ObjectLock()
        store.delete(KEY)
        assert store.head(KEY) is None


@locking
def test_compliance_stays_compliance(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=True), tmp_path)
    with opened(access, Attributes(lock=LockPolicy("COMPLIANCE", retention_days=1))) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
    with opened(access, LOCKED) as store:
        until_at = soon(days=3)
        assert store.extend_lock(KEY, until_at) == ObjectLock(until_at, "COMPLIANCE")
        with pytest.raises(ObjectLocked, match="COMPLIANCE"):
            store.delete(KEY)


def test_a_lock_that_is_long_enough_is_not_sent_again(tmp_path: Path) -> None:
    with behind("ceph", tmp_path, attributes=LOCKED) as (store, proxy):
        store.put([new(KEY, BODY)])
        wanted_at = soon(days=3) + timedelta(microseconds=1)
        first = store.extend_lock(KEY, wanted_at)
        assert proxy.count("PUT", "retention") == 1
        assert store.extend_lock(KEY, wanted_at) == first
        with pytest.raises(ObjectLocked):
            store.extend_lock(KEY, wanted_at - timedelta(days=1))
        assert proxy.count("PUT", "retention") == 1


def test_a_lock_that_is_taken_and_not_shown_is_not_believed(tmp_path: Path) -> None:
    taken = Fault(lambda request, forward: Answer(200, {}, b""), "PUT", "retention")
    with behind("ceph", tmp_path, taken, attributes=LOCKED) as (store, _):
        store.put([new(KEY, BODY)])
        with pytest.raises(StoreDenied, match="does not show it"):
            store.extend_lock(KEY, soon(days=9))


def test_an_object_without_a_lock_gets_one_of_the_settings_mode_or_none(tmp_path: Path) -> None:
    access = prefixed(bucket("ceph", locked=True), tmp_path)
    with opened(access) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        with pytest.raises(StoreDenied, match="names no mode"):
            store.extend_lock(KEY, soon(days=1))
        assert store.locked_until(KEY) == ObjectLock()
    with opened(access, LOCKED) as store:
        assert store.extend_lock(KEY, soon(days=-1)) == ObjectLock(), "a date that has passed asks for nothing"
        until_at = soon(days=1)
        assert store.extend_lock(KEY, until_at) == ObjectLock(until_at, "GOVERNANCE")


def test_the_lock_of_a_hidden_object_is_that_of_an_absent_one(tmp_path: Path) -> None:
    access = prefixed(bucket("ceph", locked=True), tmp_path)
    with opened(access, LOCKED) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        admin(access.endpoint_url).delete_object(**where(store))
        with pytest.raises(ObjectNotFound):
            store.locked_until(KEY)


def test_a_lock_is_in_force_until_its_date_and_while_a_hold_lasts() -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    assert not ObjectLock().in_force(at)
    assert ObjectLock(at + timedelta(seconds=1), "GOVERNANCE").in_force(at)
    assert not ObjectLock(at, "GOVERNANCE").in_force(at)
    assert ObjectLock(at, "GOVERNANCE", legal_hold=True).in_force(at)
    assert whole_seconds(at) == at
    assert whole_seconds(at + timedelta(microseconds=1)) == at + timedelta(seconds=1)
