"""S3 rows of the fault table (42 to 50), through a proxy in front of real servers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from s3_kinds import CREDENTIALS, LOCKED, bucket, credentials, opened, prefixed
from s3_proxy import Fault, Proxy, change_headers, cut_body, flip_byte, lose_reply, proxied, refuse, reset
from s3_servers import KEY, SECRET, SERVERS
from stores import Bytes, new

from archiver.errors import (
    ObjectDiffers,
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreRefused,
    StoreUnavailable,
)
from archiver.stores.s3 import S3Store
from archiver.stores.s3_access import Attributes, S3Access

KEY_OF_IT = "acc/2022/05/06/202205-04f5.mp3"
BODY = bytes(range(256)) * 400
every_server = pytest.mark.parametrize("server", sorted(SERVERS))


@contextmanager
def behind(
    server: str, root: Path, *faults: Fault, attributes: Attributes | None = None, prepare: bool = True, **changes: Any
) -> Iterator[tuple[S3Store, Proxy]]:
    """A store that speaks to a server through a proxy; faults begin after `prepare`."""
    locked = attributes is not None and attributes.lock.wanted
    access = bucket(server, locked=locked)
    with proxied(behind=access.endpoint_url) as proxy:
        changes = {"attempts": 3} | changes
        with opened(prefixed(access, root, endpoint_url=proxy.endpoint_url, **changes), attributes) as store:
            if prepare:
                store.prepare()
            proxy.requests.clear()
            proxy.faults += faults
            yield store, proxy
        missed = [fault for fault in proxy.faults if not fault.hits]
        assert not missed, f"never hit: {missed}"


def content(store: S3Store) -> bytes:
    return b"".join(store.open(KEY_OF_IT))


PASSING = {
    "500": refuse(500, "InternalError"),
    "503": refuse(503, "SlowDown"),
    "RequestTimeout": refuse(400, "RequestTimeout"),
    "reset": reset,
}


@pytest.mark.parametrize("fault", sorted(PASSING))
@pytest.mark.parametrize("method", ["PUT", "HEAD"])
@every_server
def test_42_a_fault_that_passes_is_retried(server: str, method: str, fault: str, tmp_path: Path) -> None:
    act = PASSING[fault] if fault != "RequestTimeout" or method == "PUT" else refuse(503, "")
    with behind(server, tmp_path, Fault(act, method, KEY_OF_IT)) as (store, proxy):
        (done,) = store.put([new(KEY_OF_IT, BODY)])
        assert not done.adopted
        assert content(store) == BODY
        assert proxy.count(method, KEY_OF_IT) >= 2


@pytest.mark.parametrize("fault", sorted(PASSING))
def test_42_a_fault_that_stays_ends_in_a_bounded_number_of_tries(fault: str, tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(PASSING[fault], path=KEY_OF_IT, times=99)) as (store, proxy):
        with pytest.raises(StoreUnavailable):
            store.put([new(KEY_OF_IT, BODY)])
        assert proxy.count("PUT") == 3
        assert store.head(KEY_OF_IT) is None


def test_42_slow_down_lowers_the_concurrency_and_success_raises_it_again(tmp_path: Path) -> None:
    faults = (Fault(refuse(503, "SlowDown"), path="/busy.mp3", times=99),)
    with behind("moto", tmp_path, *faults, threads=8, attempts=2) as (store, _):
        with pytest.raises(StoreBusy, match="asks for fewer requests"):
            store.put([new("acc/busy.mp3", BODY)])
        lowered = store.connection.gate.limit
        assert lowered < 8
        for number in range(8 * lowered):
            store.put([new(f"acc/{number}.mp3", b"x")])
        assert store.connection.gate.limit > lowered


@every_server
def test_43_a_reply_that_was_lost_after_the_store_took_the_object_is_no_failure(server: str, tmp_path: Path) -> None:
    with behind(server, tmp_path, Fault(lose_reply, path=KEY_OF_IT)) as (store, proxy):
        (done,) = store.put([new(KEY_OF_IT, BODY)])
        assert done.size_bytes == len(BODY)
        assert done.adopted == store.abilities.conditional_writes
        assert content(store) == BODY
        assert proxy.count("PUT") == 2


def test_44_a_key_taken_between_look_and_write_by_other_bytes_is_left_alone(tmp_path: Path) -> None:
    with behind("moto", tmp_path) as (store, _):
        store.put([new(KEY_OF_IT, b"first")])
        with pytest.raises(ObjectDiffers, match="holds other bytes"):
            store.put([new(KEY_OF_IT, BODY)])
        assert content(store) == b"first"


def test_44_a_conflict_is_tried_again(tmp_path: Path) -> None:
    conflict = refuse(409, "ConditionalRequestConflict")
    with behind("moto", tmp_path, Fault(conflict, path=KEY_OF_IT, times=2)) as (store, proxy):
        store.put([new(KEY_OF_IT, BODY)])
        assert content(store) == BODY
        assert proxy.count("PUT") == 3


def test_44_a_conflict_that_stays_is_told(tmp_path: Path) -> None:
    fault = Fault(refuse(409, "ConditionalRequestConflict"), path=KEY_OF_IT, times=99)
    with (
        behind("moto", tmp_path, fault) as (store, _),
        pytest.raises(StoreUnavailable, match="again and again"),
    ):
        store.put([new(KEY_OF_IT, BODY)])


@pytest.mark.parametrize("checksum", ["sha256", "md5"])
@pytest.mark.parametrize("server", ["ceph", "rclone"])
def test_45_a_byte_that_turns_on_the_way_is_refused_by_the_store(server: str, checksum: Any, tmp_path: Path) -> None:
    fault = Fault(flip_byte, path=KEY_OF_IT, times=99)
    with behind(server, tmp_path, fault, attributes=Attributes(checksum=checksum)) as (store, _):
        with pytest.raises(StoreMismatch, match="changed on the way"):
            store.put([new(KEY_OF_IT, BODY)])
        assert store.head(KEY_OF_IT) is None


def test_45_a_byte_that_turns_and_passes_is_seen_when_the_head_is_read_back(tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(flip_byte, path=KEY_OF_IT)) as (store, _):
        with pytest.raises(StoreMismatch, match="another MD5"):
            store.put([new(KEY_OF_IT, BODY)])
        # The store spoiled it, and a writer may not delete: it stays for a person to see, and is never adopted.
        with pytest.raises(ObjectDiffers):
            store.put([new(KEY_OF_IT, BODY)])


def test_46_a_store_that_forgets_the_lock_of_one_object_ends_the_run(tmp_path: Path) -> None:
    forget = change_headers(x_amz_object_lock_mode="", x_amz_object_lock_retain_until_date="")
    with (
        behind("ceph", tmp_path, Fault(forget, "HEAD", KEY_OF_IT), attributes=LOCKED) as (store, _),
        pytest.raises(StoreDenied, match="does not show the lock"),
    ):
        store.put([new(KEY_OF_IT, BODY)])


@every_server
def test_47_a_size_that_is_read_back_differently_is_no_success(server: str, tmp_path: Path) -> None:
    fault = Fault(change_headers(Content_Length="17"), "HEAD", KEY_OF_IT)
    with behind(server, tmp_path, fault) as (store, _), pytest.raises(StoreMismatch, match="keeps 17 of"):
        store.put([new(KEY_OF_IT, BODY)])


def test_47_an_object_that_is_not_to_be_seen_after_its_write_is_no_success(tmp_path: Path) -> None:
    fault = Fault(refuse(404, "NoSuchKey"), "HEAD", KEY_OF_IT)
    with behind("moto", tmp_path, fault) as (store, _):
        with pytest.raises(StoreUnavailable, match="does not show it"):
            store.put([new(KEY_OF_IT, BODY)])
        assert store.put([new(KEY_OF_IT, BODY)])[0].adopted


def test_47_a_success_whose_body_is_an_error_is_decided_by_the_head(tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(refuse(200, "InternalError"), path=KEY_OF_IT, times=99)) as (store, _):
        with pytest.raises(StoreUnavailable):
            store.put([new(KEY_OF_IT, BODY)])
        assert store.head(KEY_OF_IT) is None


def test_a_body_that_is_cut_is_told_and_not_taken_for_the_end(tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(cut_body, "GET", KEY_OF_IT)) as (store, _):
        store.put([new(KEY_OF_IT, BODY)])
        with pytest.raises(StoreUnavailable):
            content(store)
        assert content(store) == BODY


# What each refusal of a write means, and a word of what the message tells to do.
REFUSALS: list[tuple[int, str, type[StoreError], str]] = [
    (404, "NoSuchBucket", StoreDenied, "store.s3.bucket"),
    (403, "AccessDenied", StoreDenied, "docs/s3.md"),
    (403, "AllAccessDisabled", StoreDenied, "policy"),
    (400, "ExpiredToken", StoreDenied, "renew the credentials"),
    (403, "InvalidAccessKeyId", StoreDenied, "renew the credentials"),
    (403, "SignatureDoesNotMatch", StoreDenied, "secret key is wrong"),
    (403, "RequestTimeTooSkewed", StoreDenied, "clock"),
    (400, "KMS.DisabledException", StoreDenied, "store.s3.kms_key_id"),
    (400, "KMS.NotFoundException", StoreDenied, "store.s3.kms_key_id"),
    (400, "KMS.KMSInvalidStateException", StoreDenied, "kms:GenerateDataKey"),
    (301, "PermanentRedirect", StoreDenied, "store.s3.region"),
    (400, "InvalidStorageClass", StoreDenied, "store.s3.storage_class"),
    (400, "InvalidArgument", StoreDenied, r"\[store.s3\]"),
    (501, "NotImplemented", StoreDenied, "can't do that"),
    (403, "QuotaExceeded", StoreFull, "quota"),
    (507, "XMinioStorageFull", StoreFull, "room"),
    (400, "EntityTooLarge", StoreRefused, "this one object"),
    (400, "BadDigest", StoreMismatch, "changed on the way"),
    (400, "XAmzContentChecksumMismatch", StoreMismatch, "changed on the way"),
    (418, "SomethingNew", StoreDenied, r"\[store.s3\]"),
    (403, "SomethingNew", StoreDenied, "policy"),
]


@pytest.mark.parametrize(("status", "code", "kind", "advice"), REFUSALS)
def test_48_a_refusal_that_lasts_is_told_once_and_never_retried(
    status: int, code: str, kind: type[StoreError], advice: str, tmp_path: Path
) -> None:
    with behind("moto", tmp_path, Fault(refuse(status, code), path=KEY_OF_IT, times=99)) as (store, proxy):
        with pytest.raises(kind, match=advice) as caught:
            store.put([new(KEY_OF_IT, BODY)])
        assert type(caught.value) is kind
        assert caught.value.__cause__ is None
        assert KEY not in str(caught.value)
        assert SECRET not in str(caught.value)
        # boto3 follows a redirect to another region, once.
        assert proxy.count("PUT") <= {301: 2, 507: 3}.get(status, 1)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (503, "ServiceUnavailable", StoreBusy),
        (429, "TooManyRequests", StoreBusy),
        (500, "InternalError", StoreUnavailable),
        (502, "BadGateway", StoreUnavailable),
        (504, "GatewayTimeout", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (599, "SomethingNew", StoreUnavailable),
    ],
)
def test_48_a_refusal_that_passes_is_retryable(status: int, code: str, kind: type[StoreError], tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(refuse(status, code), path=KEY_OF_IT, times=99), attempts=1) as (store, _):
        with pytest.raises(kind) as caught:
            store.put([new(KEY_OF_IT, BODY)])
        assert type(caught.value) is kind


def test_48_kms_behind_a_plain_denial_is_named(tmp_path: Path) -> None:
    said = "User: arn:aws:iam::1:user/x is not authorized to perform: kms:GenerateDataKey on resource"
    with (
        behind("moto", tmp_path, Fault(refuse(403, "AccessDenied", said), path=KEY_OF_IT)) as (store, _),
        pytest.raises(StoreDenied, match=r"store\.s3\.kms_key_id"),
    ):
        store.put([new(KEY_OF_IT, BODY)])


def test_48_foreign_words_are_made_harmless(tmp_path: Path) -> None:
    said = "a&#10;FORGED line &#x202e;" + "x" * 5000
    with behind("moto", tmp_path, Fault(refuse(403, "AccessDenied", said), path=KEY_OF_IT)) as (store, _):
        with pytest.raises(StoreDenied) as caught:
            store.put([new(KEY_OF_IT, BODY)])
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


def test_48_a_clock_that_is_off_ends_the_run_before_the_first_upload(tmp_path: Path) -> None:
    late = change_headers(Date="Mon, 02 Jan 2006 15:04:05 GMT")
    with behind("moto", tmp_path, Fault(late, "HEAD"), prepare=False) as (store, proxy):
        with pytest.raises(StoreDenied, match="clock is"):
            store.prepare()
        assert proxy.count("PUT") == 0


def test_48_a_skewed_clock_is_told_in_seconds(tmp_path: Path) -> None:
    with (
        behind("moto", tmp_path, Fault(refuse(403, "RequestTimeTooSkewed"), path=KEY_OF_IT)) as (store, _),
        pytest.raises(StoreDenied, match=r"clock is [+-]\d+ s off"),
    ):
        store.put([new(KEY_OF_IT, BODY)])


def test_49_credentials_that_were_replaced_are_found_in_the_middle_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = AKIAOLDOLDOLDOLDOLD0\naws_secret_access_key = {SECRET}\n")
    gone = Fault(refuse(400, "ExpiredToken"), path=KEY_OF_IT)
    access = bucket("moto")
    with proxied(gone, behind=access.endpoint_url) as proxy, credentials(AWS_SHARED_CREDENTIALS_FILE=str(file)):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del os.environ[name]
        from archiver.stores.s3_connection import S3Connection

        store = S3Store(S3Connection(prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url)))
        store.prepare()
        file.write_text(file.read_text().replace("OLD", "NEW"))
        store.put([new(KEY_OF_IT, BODY)])
        assert content(store) == BODY
        store.close()
        used = ["NEW" in request.headers["Authorization"] for request in proxy.requests if KEY_OF_IT in request.path]
        assert used == [False, True, True, True]


def test_49_credentials_that_expired_and_were_not_replaced_end_the_run(tmp_path: Path) -> None:
    with behind("moto", tmp_path, Fault(refuse(400, "ExpiredToken"), path=KEY_OF_IT, times=9)) as (store, proxy):
        with pytest.raises(StoreDenied, match="renew the credentials"):
            store.put([new(KEY_OF_IT, BODY)])
        assert proxy.count("PUT") == 1


KILLED = """
import sys
from archiver.stores.base import NewObject
from archiver.stores.s3 import S3Store
from archiver.stores.s3_access import S3Access
from archiver.stores.s3_connection import S3Connection
from archiver.stores.spool import SpooledMedia
store = S3Store(S3Connection(S3Access("plain", prefix=sys.argv[1], region="us-east-1", endpoint_url=sys.argv[2])))
store.prepare()
print("ready", flush=True)
store.put([NewObject("acc/killed.mp3", SpooledMedia.of(bytes(64 << 20)), "audio/mpeg")])
print("done", flush=True)
"""


@pytest.mark.parametrize("wait_s", [0.0, 0.05, 0.1, 0.2, 0.35])
@every_server
def test_50_a_kill_in_the_middle_of_an_upload_leaves_the_whole_object_or_none(
    server: str, wait_s: float, tmp_path: Path
) -> None:
    access = prefixed(bucket(server), tmp_path)
    environment = {**os.environ, **CREDENTIALS}
    command = [sys.executable, "-c", KILLED, access.prefix, access.endpoint_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(1.0)  # a server that has the whole body goes on without us
    with opened(access) as store:
        store.prepare()
        found = store.head("acc/killed.mp3")
        assert found is None or found.size_bytes == 64 << 20
        assert [head.size_bytes for head in store.list()] == ([] if found is None else [64 << 20])
        from archiver.stores.base import NewObject

        media = Bytes(bytes(64 << 20), chunk_bytes=1 << 20)
        assert store.put([NewObject("acc/killed.mp3", media, "audio/mpeg")])[0].adopted == (found is not None)


def test_nobody_listening_is_told_in_words(tmp_path: Path) -> None:
    access = S3Access("plain", region="us-east-1", endpoint_url="http://127.0.0.1:9", attempts=1, connect_timeout_s=1)
    with opened(access) as store, pytest.raises(StoreUnavailable, match=r"store\.s3\.endpoint_url"):
        store.prepare()


def silence() -> tuple[threading.Event, Callable[[Any, Any], Any]]:
    """A store that says nothing until the event is set."""
    hush = threading.Event()

    def wait(request: Any, forward: Any) -> Any:
        hush.wait(20)
        return forward(request)

    return hush, wait


def test_60_a_thread_that_waits_for_a_silent_store_comes_back_soon_after_the_run_gives_up(tmp_path: Path) -> None:
    hush, wait = silence()
    fault = Fault(wait, path=KEY_OF_IT, times=99)
    with behind("moto", tmp_path, fault, attempts=5, read_timeout_s=1.0) as (store, proxy):
        with ThreadPoolExecutor(1) as pool:
            putting = pool.submit(store.put, [new(KEY_OF_IT, BODY)])
            while not proxy.count("PUT"):
                time.sleep(0.01)
            store.connection.give_up()
            with pytest.raises(StoreUnavailable, match="the run ends"):
                putting.result(10)
        assert proxy.count("PUT") == 1
        hush.set()


def test_silence_ends_with_the_timeout(tmp_path: Path) -> None:
    hush, wait = silence()
    fault = Fault(wait, path=KEY_OF_IT)
    with behind("moto", tmp_path, fault, attempts=1, read_timeout_s=0.3) as (store, _):
        with pytest.raises(StoreUnavailable, match="ReadTimeout"):
            store.put([new(KEY_OF_IT, BODY)])
        hush.set()
