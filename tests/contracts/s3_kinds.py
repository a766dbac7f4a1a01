"""S3 stores on real servers, for the contract suite and for what is special about S3."""

import copy
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from botocore import loaders
from botocore.config import Config
from botocore.exceptions import ClientError
from s3_servers import KEY, SECRET, SERVERS, one_at_a_time

from archiver.stores.base import Store
from archiver.stores.s3 import S3Store
from archiver.stores.s3_access import Attributes, S3Access
from archiver.stores.s3_connection import S3Connection
from archiver.stores.s3_lock import LockPolicy

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
LOCKED = Attributes(lock=LockPolicy("GOVERNANCE", retention_days=1))


# Botocore reads its descriptions of S3 anew for each client, which takes longer than most tests.
_read = cache(loaders.JSONFileLoader().load_file)
loaders.JSONFileLoader.load_file = lambda _, path: _read(path)


@contextmanager
def credentials(**others: str) -> Iterator[None]:
    """Only these credentials are to be found."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with patch.dict(os.environ, kept | CREDENTIALS | others, clear=True):
        yield


@cache
def admin(endpoint_url: str) -> Any:
    """A client that may do everything, beside the store."""
    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    with credentials():
        session = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1")
        return session.client("s3", endpoint_url=endpoint_url, config=config)


def bucket(server: str, *, locked: bool = False) -> S3Access:
    """A bucket on a server, for all tests of the session; each takes a prefix of its own."""
    return _bucket(server, locked)


@cache
def _bucket(server: str, locked: bool) -> S3Access:
    name, url = "locked" if locked else "plain", SERVERS[server]().endpoint_url
    with one_at_a_time(f"{server}-{name}"):
        if name not in [each["Name"] for each in admin(url).list_buckets()["Buckets"]]:
            admin(url).create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    return S3Access(name, region="us-east-1", endpoint_url=url)


def prefixed(access: S3Access, root: Path, **changes: Any) -> S3Access:
    """The same bucket with a prefix for this folder."""
    prefix = hashlib.sha256(str(root).encode()).hexdigest()[:16]
    values = {name: getattr(access, name) for name in S3Access.__dataclass_fields__}
    return S3Access(**{**values, "prefix": prefix, **changes})


@contextmanager
def opened(access: S3Access, attributes: Attributes | None = None, **options: Any) -> Iterator[S3Store]:
    """A store with the test's credentials for as long as it is open."""
    with credentials():
        store = S3Store(S3Connection(access), attributes, **options)
        try:
            yield store
        finally:
            store.close()


@cache
def _connection(server: str, *, locked: bool) -> S3Connection:
    """Half the time of a short test would go into making a client."""
    with credentials():
        return S3Connection(prefixed(bucket(server, locked=locked), Path(), threads=16))


@contextmanager
def _kind(server: str, root: Path, *, locked: bool = False) -> Iterator[Store]:
    twin = copy.copy(_connection(server, locked=locked))
    twin.access = prefixed(twin.access, root)
    yield S3Store(twin, LOCKED if locked else None)


def lock_by_hand(store: S3Store, key: str, *, until_at: datetime | None = None, legal_hold: bool = False) -> None:
    """Do what an administrator does beside the store."""
    access = store.connection.access
    client, where = admin(access.endpoint_url), {"Bucket": access.bucket, "Key": access.path(key)}
    if until_at is not None:
        client.put_object_retention(**where, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until_at})
    if legal_hold:
        client.put_object_legal_hold(**where, LegalHold={"Status": "ON"})


def lift_hold(store: S3Store, key: str) -> None:
    """Take a legal hold away, as its owner does."""
    access = store.connection.access
    admin(access.endpoint_url).put_object_legal_hold(
        Bucket=access.bucket, Key=access.path(key), LegalHold={"Status": "OFF"}
    )


def kept_of(access: S3Access, key: str) -> list[str]:
    """What the bucket keeps of just this key, markers included, as a person with every permission sees it."""
    client, path = admin(access.endpoint_url), access.path(key)
    try:
        found = client.list_object_versions(Bucket=access.bucket, Prefix=path)
    except ClientError:  # a server without versions
        found = {"Versions": client.list_objects_v2(Bucket=access.bucket, Prefix=path).get("Contents", ())}
    every = [*found.get("Versions", ()), *found.get("DeleteMarkers", ())]
    return [str(each.get("VersionId", "")) for each in every if each["Key"] == path]


LOCKING = frozenset({"s3-ceph-locked", "s3-moto-locked"})
"""The kinds of `KINDS` that put each object under a lock."""
KINDS: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {
    **{f"s3-{server}": partial(_kind, server) for server in SERVERS},
    "s3-ceph-locked": partial(_kind, "ceph", locked=True),
    "s3-moto-locked": partial(_kind, "moto", locked=True),
}
