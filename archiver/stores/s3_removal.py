"""Removes an object for good: every version by its id, and no delete marker stays.

A plain removal in a bucket with versions would only hide the object under a marker. Nothing here asks a store to get
around a lock.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from archiver.errors import ObjectLocked, ObjectNotFound, StoreDenied, StoreError, StoreUnavailable
from archiver.stores.base import ObjectLock
from archiver.stores.s3_connection import Refused, S3Connection
from archiver.stores.s3_errors import DENIED, GONE, UNKNOWN
from archiver.stores.s3_heads import look
from archiver.stores.s3_retention import seen_lock

_KEPT = DENIED | {"InvalidRequest", "ObjectLocked"}
"""What servers say when they keep a version, each in its own words; a policy that forbids it sounds the same."""
_GRAIN = timedelta(seconds=2)
"""The store's clock is known to the second."""
_PERMISSIONS = "let the role that applies retention have s3:ListBucketVersions and s3:DeleteObjectVersion (docs/s3.md)"


def remove(connection: S3Connection, key: str, *, now: Callable[[], datetime]) -> None:
    """See `Store.delete`.

    Raises:
        ObjectLocked, StoreDenied, StoreUnavailable.
    """
    found = _versions(connection, key)
    if not found:
        _remove_without_versions(connection, key)
        return
    for version_id in found:
        _remove_version(connection, key, version_id, now=now)
    if _versions(connection, key):
        raise StoreUnavailable(f"{key}: the store took the removal of every version and still lists one")


def _versions(connection: S3Connection, key: str) -> Sequence[str] | None:
    """Ids of the versions of just this key, then of its delete markers; None where the store knows no such listing.

    The oldest first and the markers last, so that a removal that stops on the way brings nothing back to light.
    """
    path = connection.access.path(key)
    versions: list[str] = []
    markers: list[str] = []
    start: dict[str, str] = {}
    while True:
        try:
            page = connection.call("list_object_versions", seen=DENIED | UNKNOWN, Prefix=path, **start)
        except Refused as refused:
            if refused.code in UNKNOWN:
                return None
            words = f"the store does not list its versions ({refused.code}), so that a removal would only hide it"
            raise StoreDenied(f"{key}: {words}: {_PERMISSIONS}") from None
        versions += [found["VersionId"] for found in page.get("Versions", ()) if found["Key"] == path]
        markers += [found["VersionId"] for found in page.get("DeleteMarkers", ()) if found["Key"] == path]
        # Other keys with this prefix come after all versions of the key itself.
        if not page.get("IsTruncated") or page.get("NextKeyMarker") != path:
            return [*reversed(versions), *markers]
        start = {"KeyMarker": path, "VersionIdMarker": page.get("NextVersionIdMarker", "")}


def _remove_version(connection: S3Connection, key: str, version_id: str, *, now: Callable[[], datetime]) -> None:
    try:
        connection.call("delete_object", key, seen=_KEPT | GONE, VersionId=version_id)
    except Refused as refused:
        if refused.code not in GONE:
            why = _why_kept(connection, key, version_id, code=refused.code, now=now)
            if why is not None:
                raise why from None


def _why_kept(
    connection: S3Connection, key: str, version_id: str, *, code: str, now: Callable[[], datetime]
) -> StoreError | None:
    """What a refused removal means; None when the version is gone after all."""
    try:
        lock = seen_lock(connection, key, version_id).lock
    except ObjectNotFound:
        return None
    except StoreDenied as error:
        return StoreDenied(f"{key}: the store does not remove a version ({code}) nor show its lock ({error})")
    if lock.in_force(now() - timedelta(seconds=connection.skew_s or 0.0) - _GRAIN):
        return ObjectLocked(f"{key}: {_words(lock)}", until_at=lock.until_at, legal_hold=lock.legal_hold)
    return StoreDenied(
        f"{key}: the store does not remove a version ({code}), though no lock keeps it: {_PERMISSIONS}, "
        "and look for MFA Delete"
    )


def _words(lock: ObjectLock) -> str:
    until = f"{lock.until_at:%Y-%m-%dT%H:%M:%SZ} ({lock.mode})" if lock.until_at is not None else ""
    if lock.legal_hold:
        return "a legal hold keeps it" + (f", and its lock until {until}" if until else "")
    return f"its lock keeps it until {until}"


def _remove_without_versions(connection: S3Connection, key: str) -> None:
    """Where no version is listed: there is nothing, or a store that has none.

    Raises:
        StoreDenied, StoreUnavailable.
    """
    if look(connection, key) is None:
        return
    try:
        status = connection.call("get_bucket_versioning", seen=UNKNOWN).get("Status")
    except Refused:
        status = None
    if status:
        raise StoreDenied(f"{key}: the bucket keeps versions ({status}) and does not list them: remove it by hand")
    connection.call("delete_object", key)
    if look(connection, key) is not None:
        raise StoreUnavailable(f"{key}: the store took the removal and still shows the object")
