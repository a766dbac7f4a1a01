"""What is special about S3, on real servers: abilities, locks, attributes, large media, prefixes, the doctor."""

import base64
import copy
import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from s3_kinds import LOCKED, admin, bucket, opened, prefixed
from s3_proxy import Fault, proxied, refuse
from s3_servers import SERVERS
from stores import Bytes, fixity, new

from archiver.check import Check
from archiver.errors import ObjectDiffers, Severity, StoreDenied, StoreMismatch, StoreRefused
from archiver.recording import Fixity
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.base import NewObject, Origin
from archiver.stores.s3 import S3Store
from archiver.stores.s3_access import Attributes, S3Access
from archiver.stores.s3_body import MediaFile
from archiver.stores.s3_doctor import examine
from archiver.stores.s3_heads import Abilities
from archiver.stores.s3_lock import LockPolicy
from archiver.stores.s3_names import KnownNames
from archiver.stores.spool import Spool

KEY = "acc/2022/05/06/202205-04f5.mp3"
BODY = bytes(range(256)) * 40
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
every_server = pytest.mark.parametrize("server", sorted(SERVERS))
locking = pytest.mark.parametrize("server", ["ceph", "moto"])


def dated(data: bytes, dated_at: datetime | None) -> NewObject:
    return NewObject(KEY, Bytes(data), "audio/mpeg", Origin("acc", "202205-04f5", "run-1", dated_at))


def raw_head(access: S3Access, key: str = KEY) -> dict[str, Any]:
    found: dict[str, Any] = admin(access.endpoint_url).head_object(Bucket=access.bucket, Key=access.path(key))
    return found


def utc_now() -> datetime:
    return datetime.now(UTC)


ABILITIES = {
    ("ceph", False): Abilities(conditional_writes=True, etag_is_md5=True, keeps_sha256=False),
    # This Ceph lets conditional writes pass in a bucket with versions; one with locks always has versions.
    ("ceph", True): Abilities(conditional_writes=False, etag_is_md5=True, keeps_sha256=False),
    ("moto", False): Abilities(conditional_writes=True, etag_is_md5=True, keeps_sha256=True),
    ("moto", True): Abilities(conditional_writes=True, etag_is_md5=True, keeps_sha256=True),
    ("rclone", False): Abilities(conditional_writes=False, etag_is_md5=True, keeps_sha256=True),
}


@pytest.mark.parametrize(("server", "locked"), sorted(ABILITIES))
def test_what_a_store_can_do_is_found_out_before_the_first_upload(server: str, locked: bool, tmp_path: Path) -> None:
    with opened(prefixed(bucket(server, locked=locked), tmp_path), LOCKED if locked else None) as store:
        assert store.abilities == Abilities()
        store.prepare()
        assert store.abilities == ABILITIES[server, locked]
    with opened(prefixed(bucket(server, locked=locked), tmp_path), LOCKED if locked else None) as store:
        store.prepare()
        assert store.find_out() == ABILITIES[server, locked]


@every_server
def test_the_next_run_finds_the_same_and_the_bucket_keeps_one_probe_for_each_way_of_writing(
    server: str, tmp_path: Path
) -> None:
    access = prefixed(bucket(server), tmp_path)
    for attributes in (Attributes(), Attributes(), Attributes(checksum="md5")):
        with opened(access, attributes) as store:
            store.prepare()
            assert store.find_out().conditional_writes == ABILITIES[server, False].conditional_writes
            assert list(store.list()) == []
    listed = admin(access.endpoint_url).list_objects_v2(Bucket=access.bucket, Prefix=access.path(""))
    assert [found["Key"].split("/")[1] for found in listed["Contents"]] == [".archiver"] * 2


def test_a_run_without_anything_to_put_writes_nothing_once_the_probe_is_there(tmp_path: Path) -> None:
    access = prefixed(bucket("moto"), tmp_path)
    with proxied(behind=access.endpoint_url) as proxy:
        for puts in (2, 0):
            proxy.requests.clear()
            with opened(prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url)) as store:
                store.prepare()
                assert list(store.list()) == []
            assert proxy.count("PUT") == puts


def test_a_policy_that_wants_every_write_under_a_condition_is_content(tmp_path: Path) -> None:
    access = prefixed(bucket("moto"), tmp_path)
    with (
        proxied(behind=access.endpoint_url) as proxy,
        opened(prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url)) as store,
    ):
        store.prepare()
        store.put([new(KEY, BODY)])
        examine(store.connection, Attributes(), now=utc_now)
        writes = [request for request in proxy.requests if request.method == "PUT"]
        assert writes
        assert all(request.headers.get("If-None-Match") == "*" for request in writes)


def test_a_store_that_refuses_to_know_the_condition_is_written_to_without_it(tmp_path: Path) -> None:
    access = prefixed(bucket("rclone"), tmp_path)

    def unknown(request: Any, forward: Any) -> Any:
        conditional = "If-None-Match" in request.headers
        return refuse(501, "NotImplemented")(request, forward) if conditional else forward(request)

    with (
        proxied(Fault(unknown, times=999), behind=access.endpoint_url) as proxy,
        opened(prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url)) as store,
    ):
        store.prepare()
        assert not store.abilities.conditional_writes
        store.put([new(KEY, BODY)])
        assert b"".join(store.open(KEY)) == BODY


@every_server
def test_a_bucket_that_is_not_there_ends_the_run_before_the_first_upload(server: str, tmp_path: Path) -> None:
    url = bucket(server).endpoint_url
    with opened(S3Access("not-there", region="us-east-1", endpoint_url=url)) as store:
        with pytest.raises(StoreDenied, match=r"no bucket not-there"):
            store.prepare()
        with pytest.raises(StoreDenied, match="is gone"):
            store.head(KEY)


@every_server
def test_a_bucket_without_lock_ends_the_run_before_the_first_upload(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server), tmp_path)
    with opened(access, LOCKED) as store:
        with pytest.raises(StoreDenied, match="no Object Lock") as caught:
            store.prepare()
        assert caught.value.severity is Severity.FATAL
    assert "Contents" not in admin(access.endpoint_url).list_objects_v2(Bucket=access.bucket, Prefix=access.path(""))


def test_a_wrong_key_is_told_as_such(tmp_path: Path) -> None:
    from s3_kinds import credentials

    from archiver.stores.s3_connection import S3Connection

    with credentials(AWS_ACCESS_KEY_ID="AKIAWRONGWRONGWRONG"):
        store = S3Store(S3Connection(bucket("ceph")))
        with pytest.raises(StoreDenied, match=r"InvalidAccessKeyId.*renew the credentials"):
            store.prepare()
        store.close()


def test_no_credentials_at_all_are_told_as_such(tmp_path: Path) -> None:
    from s3_kinds import credentials

    from archiver.stores.s3_connection import S3Connection

    with credentials(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY=""):
        store = S3Store(S3Connection(bucket("moto")))
        with pytest.raises(StoreDenied, match="renew the credentials"):
            store.prepare()
        store.close()


def test_a_profile_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    from s3_kinds import credentials

    from archiver.stores.s3_connection import S3Connection

    with credentials(AWS_PROFILE="nobody"), pytest.raises(StoreDenied, match="nobody"):
        S3Connection(bucket("moto"))


@locking
def test_an_object_is_locked_from_the_calls_date_with_its_write(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=True), tmp_path)
    called_at = utc_now() - timedelta(days=3)
    with opened(access, Attributes(lock=LockPolicy("GOVERNANCE", retention_days=10, legal_hold=True))) as store:
        store.prepare()
        store.put([dated(BODY, called_at)])
    found = raw_head(access)
    assert found["ObjectLockMode"] == "GOVERNANCE"
    assert found["ObjectLockLegalHoldStatus"] == "ON"
    assert abs(found["ObjectLockRetainUntilDate"] - called_at - timedelta(days=10)) <= timedelta(seconds=2)


@locking
def test_what_is_locked_can_not_be_removed(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=True), tmp_path)
    with opened(access, LOCKED) as store:
        store.prepare()
        store.put([dated(BODY, None)])
        client, where = admin(access.endpoint_url), {"Bucket": access.bucket, "Key": access.path(KEY)}
        with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
            client.delete_object(**where, VersionId=raw_head(access)["VersionId"])
        assert b"".join(store.open(KEY)) == BODY


@locking
def test_a_call_whose_retention_is_over_is_archived_without_it(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=True), tmp_path)
    with opened(access, LOCKED) as store:
        store.prepare()
        store.put([dated(BODY, utc_now() - timedelta(days=900))])
    assert "ObjectLockMode" not in raw_head(access)


@locking
def test_an_adopted_object_gets_the_lock_it_lacks_and_never_a_shorter_one(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=True), tmp_path)
    until: list[Any] = []
    for days in (0, 5, 30, 2):
        policy = LockPolicy("GOVERNANCE" if days else "", retention_days=days, legal_hold=days == 30)
        with opened(access, Attributes(lock=policy)) as store:
            store.prepare()
            (done,) = store.put([dated(BODY, None)])
            assert done.adopted == bool(until)
        until.append(raw_head(access).get("ObjectLockRetainUntilDate"))
    assert until[0] is None
    assert until[1] is not None
    assert until[1] < until[2] == until[3]
    assert raw_head(access)["ObjectLockLegalHoldStatus"] == "ON"


def test_the_lock_counts_from_the_calls_date_and_whole_days(tmp_path: Path) -> None:
    policy = LockPolicy("COMPLIANCE", retention_days=365)
    lock = policy.lock(NOW - timedelta(days=100, microseconds=7), now=NOW)
    assert lock.until_at is not None
    assert timedelta(0) <= lock.until_at - (NOW + timedelta(days=265)) <= timedelta(seconds=1)
    assert policy.lock(None, now=NOW).until_at == NOW + timedelta(days=365, seconds=1)
    assert policy.lock(NOW - timedelta(days=365), now=NOW).params() == {}
    assert not LockPolicy().wanted


def test_a_lock_is_read_back_with_its_mode_and_date() -> None:
    lock = LockPolicy("GOVERNANCE", retention_days=1).lock(NOW, now=NOW)
    assert lock.until_at is not None
    shown = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": lock.until_at}
    assert not lock.lacks_retention(shown)
    assert not lock.lacks_retention(shown | {"ObjectLockMode": "COMPLIANCE"})
    assert lock.lacks_retention(shown | {"ObjectLockRetainUntilDate": lock.until_at - timedelta(days=1)})
    assert lock.lacks_retention({})
    strict = LockPolicy("COMPLIANCE", retention_days=1).lock(NOW, now=NOW)
    assert strict.lacks_retention(shown)


@every_server
def test_an_object_tells_where_it_came_from_and_nothing_personal(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server), tmp_path)
    with opened(access) as store:
        store.prepare()
        store.put([NewObject(KEY, Bytes(BODY), "audio/mpeg", Origin("acc\r\nX: é", "202205-04f5", "run-1", NOW))])
    found = raw_head(access)
    assert found["ContentType"] == "audio/mpeg"
    assert {name.lower(): value for name, value in found["Metadata"].items()} == {
        "sha256": hashlib.sha256(BODY).hexdigest(),
        "recording-id": "202205-04f5",
        "account-id": "acc%0D%0AX:%20%C3%A9",
        "run-id": "run-1",
    }


def test_encryption_tags_and_storage_class_go_with_the_write(tmp_path: Path) -> None:
    access = prefixed(bucket("moto"), tmp_path)
    attributes = Attributes(storage_class="STANDARD_IA", kms_key_id="alias/calls", tags={"team": "voice + more"})
    with opened(access, attributes) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        assert not store.abilities.etag_is_md5
        # With KMS the ETag proves nothing, the SHA-256 does.
        assert store.put([new(KEY, BODY)])[0].adopted
        with pytest.raises(ObjectDiffers):
            store.put([new(KEY, bytes(len(BODY)))])
    found = raw_head(access)
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/calls")
    assert found["StorageClass"] == "STANDARD_IA"
    tags = admin(access.endpoint_url).get_object_tagging(Bucket=access.bucket, Key=access.path(KEY))
    assert tags["TagSet"] == [{"Key": "team", "Value": "voice + more"}]


@pytest.mark.parametrize("attributes", [Attributes(storage_class="NOT_THERE"), Attributes(kms_key_id="not-there")])
def test_a_setting_that_the_store_refuses_ends_the_run_before_the_first_upload(
    attributes: Attributes, tmp_path: Path
) -> None:
    with opened(prefixed(bucket("ceph"), tmp_path), attributes) as store, pytest.raises(StoreDenied, match="refused"):
        store.prepare()


@every_server
def test_the_same_bytes_without_any_digest_are_read_and_adopted(server: str, tmp_path: Path) -> None:
    """Somebody else put them there in parts: the ETag is no MD5 then, and there may be no digest at all."""
    access = prefixed(bucket(server), tmp_path)
    client, where = admin(access.endpoint_url), {"Bucket": access.bucket, "Key": access.path(KEY)}
    upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    parts = [{"PartNumber": 1, "ETag": client.upload_part(**upload, PartNumber=1, Body=BODY)["ETag"]}]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    with opened(access) as store:
        store.prepare()
        assert store.put([new(KEY, BODY)])[0].adopted
        with pytest.raises(ObjectDiffers):
            store.put([new(KEY, bytes(len(BODY)))])
        assert b"".join(store.open(KEY)) == BODY


@every_server
def test_media_above_the_threshold_go_from_their_spool_file(server: str, tmp_path: Path) -> None:
    body = random.Random(7).randbytes(5 << 20)
    folder = ArchiveFolder(tmp_path / "archive", durable=False, reserve_bytes=0)
    folder.prepare()
    spool = Spool(folder.temporaries, memory_bytes=1 << 16)
    for start in range(0, len(body), 100_003):
        spool.write([body[start : start + 100_003]])
    media = spool.finish()
    with opened(prefixed(bucket(server), tmp_path), memory_bytes=1 << 16) as store:
        store.prepare()
        assert not store.put([NewObject(KEY, media, "audio/mpeg")])[0].adopted
        assert b"".join(store.open(KEY)) == body
        assert store.put([NewObject(KEY, media, "audio/mpeg")])[0].adopted
    media.discard()
    folder.close()


class Shrinking(Bytes):
    """Media whole when they are counted, and shorter when they are sent."""

    def chunks(self) -> Iterator[bytes]:
        seen.append(1)
        yield self.data if len(seen) == 1 else self.data[:-1]


seen: list[int] = []


def test_media_that_shrink_between_counting_and_sending_leave_nothing_behind(tmp_path: Path) -> None:
    seen.clear()
    with opened(prefixed(bucket("ceph"), tmp_path, attempts=1), memory_bytes=10) as store:
        store.prepare()
        with pytest.raises(StoreMismatch, match="were counted before"):
            store.put([NewObject(KEY, Shrinking(BODY), "audio/mpeg")])
        assert store.head(KEY) is None


def test_more_than_one_upload_can_hold_is_refused_without_being_read(tmp_path: Path) -> None:
    class Unread(Bytes):
        def chunks(self) -> Iterator[bytes]:
            raise AssertionError("read")

    media = Unread(b"", Fixity((5 << 30) + 1, bytes(32)))
    with opened(prefixed(bucket("moto"), tmp_path)) as store:
        store.prepare()
        with pytest.raises(StoreRefused, match="more than one upload") as caught:
            store.put([NewObject(KEY, media, "audio/mpeg")])
        assert caught.value.severity is Severity.PERMANENT


def test_a_file_of_media_reads_and_seeks_like_a_file() -> None:
    data = random.Random(1).randbytes(10_000)
    file = MediaFile(Bytes(data, chunk_bytes=777))
    assert (file.seek(0, 2), file.tell(), file.read(5)) == (10_000, 10_000, b"")
    assert file.seek(0) == 0
    assert file.read(1000) + file.read(1) + file.read() == data
    assert file.seek(5000) == 5000
    assert file.read(3000) == data[5000:8000]
    assert (file.seek(-10, 1), file.read(10)) == (7990, data[7990:8000])


def test_stores_with_other_prefixes_do_not_see_each_other(tmp_path: Path) -> None:
    with opened(prefixed(bucket("moto"), tmp_path)) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        other = copy.copy(store.connection)
        other.access = prefixed(other.access, tmp_path / "other")
        assert list(S3Store(other).list()) == []
        assert [head.key for head in store.list("acc/2022/05/06")] == [KEY]


def test_a_listing_goes_on_after_a_page(tmp_path: Path) -> None:
    access = prefixed(bucket("moto"), tmp_path)
    client = admin(access.endpoint_url)
    every = [f"acc/{number:04}.mp3" for number in range(1003)]
    for key in every:
        client.put_object(Bucket=access.bucket, Key=access.path(key), Body=b"x")
    client.put_object(Bucket=access.bucket, Key=access.path("acc/a name that is no key"), Body=b"x")
    with opened(access) as store:
        assert [head.key for head in store.list()] == every
        # So full a folder is asked key by key before a write.
        assert not KnownNames().take(store.connection, "acc/new.mp3")


def test_a_head_tells_the_digest_where_the_store_keeps_it(tmp_path: Path) -> None:
    with opened(prefixed(bucket("moto"), tmp_path)) as store:
        store.prepare()
        store.put([new(KEY, BODY)])
        head = store.head(KEY)
        assert head is not None
        assert head.sha256 == fixity(BODY).sha256


@every_server
def test_what_goes_over_the_wire_has_both_digests_and_no_trailer(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server), tmp_path)
    with (
        proxied(behind=access.endpoint_url) as proxy,
        opened(prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url)) as store,
    ):
        store.prepare()
        proxy.requests.clear()
        store.put([new(KEY, BODY)])
        methods = [request.method for request in proxy.requests]
        assert methods == (["PUT", "HEAD"] if store.abilities.conditional_writes else ["GET", "PUT", "HEAD"])
        sent = {name.lower(): value for name, value in proxy.requests[-2].headers.items()}
    assert sent["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert sent["content-md5"] == base64.b64encode(hashlib.md5(BODY).digest()).decode()
    assert sent["content-length"] == str(len(BODY))
    assert sent.get("if-none-match") == ("*" if store.abilities.conditional_writes else None)
    assert not {"x-amz-trailer", "transfer-encoding", "content-encoding"} & set(sent)


@pytest.mark.parametrize("server", ["rclone", "moto"])
def test_a_recording_with_its_sidecar_costs_three_requests(server: str, tmp_path: Path) -> None:
    """The sidecar's MD5 comes back with the reply; a folder is listed once where the store would overwrite."""
    access = prefixed(bucket(server), tmp_path)
    with (
        proxied(behind=access.endpoint_url) as proxy,
        opened(prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url)) as store,
    ):
        store.prepare()
        store.put([new("acc/2022/05/06/first.mp3", BODY)])
        proxy.requests.clear()
        for name in ("second", "third"):
            store.put([new(f"acc/2022/05/06/{name}.mp3", BODY), new(f"acc/2022/05/06/{name}.json", b"{}")])
        assert [request.method for request in proxy.requests] == ["PUT", "HEAD", "PUT"] * 2
        assert b"".join(store.open("acc/2022/05/06/third.json")) == b"{}"


@locking
def test_a_locked_sidecar_is_read_back_with_its_lock(server: str, tmp_path: Path) -> None:
    access = prefixed(bucket(server, locked=True), tmp_path)
    with (
        proxied(behind=access.endpoint_url) as proxy,
        opened(prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url), LOCKED) as store,
    ):
        store.prepare()
        proxy.requests.clear()
        store.put([new("acc/2022/05/06/x.mp3", BODY), new("acc/2022/05/06/x.json", b"{}")])
        assert [request.method for request in proxy.requests].count("HEAD") == 2


def test_a_folder_counts_as_listed_for_five_minutes_only(tmp_path: Path) -> None:
    """Somebody else's object, there since the listing, is seen once the listing is old: it is not overwritten then."""
    access, clock = prefixed(bucket("rclone"), tmp_path), [0.0]
    other = KEY.replace("04f5", "beef")
    names = KnownNames(clock=lambda: clock[0])
    with opened(access) as store:
        assert names.take(store.connection, KEY)
        assert not names.take(store.connection, KEY), "it may be written by now"
        admin(access.endpoint_url).put_object(Bucket=access.bucket, Key=access.path(other), Body=b"theirs")
        clock[0] = 299.0
        assert names.take(store.connection, KEY.replace("04f5", "cafe"))
        clock[0] = 301.0
        assert not names.take(store.connection, other)


DOCTOR = {
    ("ceph", False): {"versions": "weak"},
    ("ceph", True): {"conditional": "weak"},
    ("moto", False): {"digests": "weak", "versions": "weak"},
    ("moto", True): {"digests": "weak"},
    ("rclone", False): {"conditional": "weak", "versions": "weak"},
}


@pytest.mark.parametrize(("server", "locked"), sorted(DOCTOR))
def test_the_doctor_names_what_a_store_can_not_do(server: str, locked: bool, tmp_path: Path) -> None:
    attributes = LOCKED if locked else Attributes()
    with opened(prefixed(bucket(server, locked=locked), tmp_path), attributes) as store:
        checks = examine(store.connection, attributes, now=utc_now)
    assert {check.name: check.state for check in checks if check.state != "ok"} == DOCTOR[server, locked]
    assert all(check.advice for check in checks if check.state != "ok")
    names = {"bucket", "clock", "write", "read_back", "conditional", "digests", "lock", "versions"}
    assert {check.name for check in checks} == names | ({"lock_setup"} if locked else set())


@every_server
def test_the_doctor_says_that_a_lock_is_not_to_be_had(server: str, tmp_path: Path) -> None:
    with opened(prefixed(bucket(server), tmp_path), LOCKED) as store:
        *_, last = examine(store.connection, LOCKED, now=utc_now)
    assert (last.name, last.state) == ("lock_setup", "failed")
    assert "docs/s3.md" in last.found


def test_the_doctor_says_that_nobody_answers() -> None:
    access = S3Access("plain", region="us-east-1", endpoint_url="http://127.0.0.1:9", attempts=1)
    with opened(access) as store:
        (only,) = examine(store.connection, Attributes(), now=utc_now)
    assert isinstance(only, Check)
    assert (only.name, only.state) == ("bucket", "failed")
