"""The locks of objects that lie in a bucket already: read for certain, and extended.

A head shows a lock only to those who may read it, so that its silence proves nothing: then the lock itself is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from archiver.errors import ObjectLocked, ObjectNotFound, StoreDenied, StoreUnavailable
from archiver.stores.base import ObjectLock
from archiver.stores.s3_connection import Operation, Refused, S3Connection
from archiver.stores.s3_errors import GONE, NO_LOCK_SETUP, UNKNOWN
from archiver.stores.s3_heads import look
from archiver.stores.s3_lock import ROUNDING, whole_seconds

_ODD = frozenset({"404", "InvalidRequest", "InvalidArgument"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One version's lock; `version_id` is '' in a bucket without versions."""

    lock: ObjectLock
    version_id: str

    def but(self) -> Mapping[str, str]:
        """The argument that names just this version."""
        return {"VersionId": self.version_id} if self.version_id else {}


def has_object_lock(connection: S3Connection) -> bool:
    """Whether the bucket has Object Lock by its own word; heads prove little, as some servers echo what they got.

    Raises:
        StoreDenied, StoreUnavailable: the bucket does not tell.
    """
    try:
        found = connection.call("get_object_lock_configuration", seen=NO_LOCK_SETUP | UNKNOWN | _ODD)
    except Refused:
        return False
    return bool(found.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")


def seen_lock(connection: S3Connection, key: str, version_id: str = "") -> Seen:
    """The lock of an object in a bucket with Object Lock; of the visible version, where none is named.

    Raises:
        ObjectNotFound.
        StoreDenied, StoreUnavailable: the store can't tell, or won't.
    """
    head = look(connection, key, version_id=version_id)
    if head is None:
        raise ObjectNotFound(f"no object {key}")
    version_id = version_id or str(head.get("VersionId") or "")
    mode, until_at = head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate")
    if not mode:
        retention = _asked(connection, "get_object_retention", key, version_id).get("Retention") or {}
        mode, until_at = retention.get("Mode"), retention.get("RetainUntilDate")
    if mode and not isinstance(until_at, datetime):
        raise StoreUnavailable(f"{key}: the store tells of {mode} retention and not until when")
    status = head.get("ObjectLockLegalHoldStatus")
    if not status:
        status = (_asked(connection, "get_object_legal_hold", key, version_id).get("LegalHold") or {}).get("Status")
    ends_at = until_at.astimezone(UTC) if mode and isinstance(until_at, datetime) else None
    return Seen(ObjectLock(ends_at, str(mode or ""), status == "ON"), version_id)


def _asked(connection: S3Connection, operation: Operation, key: str, version_id: str) -> Mapping[str, Any]:
    version = {"VersionId": version_id} if version_id else {}
    try:
        found: Mapping[str, Any] = connection.call(operation, key, seen=NO_LOCK_SETUP | GONE, **version)
    except Refused as refused:
        if refused.code in GONE:
            raise ObjectNotFound(f"no object {key}") from None
        return {}
    return found


class Locks:
    """Reads and extends locks. Asks the bucket once whether it has any; safe for threads."""

    def __init__(self, connection: S3Connection, *, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._there: bool | None = None

    def read(self, key: str) -> ObjectLock:
        """See `Store.locked_until`; of the version that is visible now."""
        return self._read(key).lock

    def extend(self, key: str, until_at: datetime, *, new_mode: str) -> ObjectLock:
        """See `Store.extend_lock`; `new_mode` is for an object without retention, '' when none is wanted."""
        seen, wanted_at = self._read(key), whole_seconds(until_at)
        if not self._there:
            raise StoreDenied(
                f"{key} can't be locked: the bucket {self._connection.access.bucket} has no Object Lock "
                "(docs/s3.md shows how to make one with it)"
            )
        lock = seen.lock
        if lock.until_at is not None and wanted_at < lock.until_at - ROUNDING:
            raise ObjectLocked(
                f"{key} is locked until {lock.until_at:%Y-%m-%dT%H:%M:%SZ}: a lock is never shortened "
                f"(to {wanted_at:%Y-%m-%dT%H:%M:%SZ})",
                until_at=lock.until_at,
                legal_hold=lock.legal_hold,
            )
        if wanted_at <= max(lock.until_at or self._now(), self._now()):
            return lock
        mode = lock.mode or new_mode
        if not mode:
            raise StoreDenied(f"{key} has no lock that could be extended, and store.s3.object_lock_mode names no mode")
        self._send(key, {"Mode": mode, "RetainUntilDate": wanted_at}, seen)
        after = seen_lock(self._connection, key, seen.version_id).lock
        if after.mode != mode or after.until_at is None or after.until_at < wanted_at - ROUNDING:
            raise StoreDenied(f"{key}: the store took a lock until {wanted_at:%Y-%m-%dT%H:%M:%SZ} and does not show it")
        return after

    def _read(self, key: str) -> Seen:
        if self._there is None:
            self._there = has_object_lock(self._connection)
        if self._there:
            return seen_lock(self._connection, key)
        if look(self._connection, key) is None:
            raise ObjectNotFound(f"no object {key}")
        return Seen(ObjectLock(), "")

    def _send(self, key: str, retention: Mapping[str, Any], seen: Seen) -> None:
        try:
            self._connection.call("put_object_retention", key, seen=GONE, Retention=retention, **seen.but())
        except Refused:
            raise ObjectNotFound(f"no object {key}") from None
