"""Finds out what a bucket can do before the first upload, with one small object that stays (a writer may not delete).

The object lies under `.archiver/` and its name holds a fingerprint of the settings: it is written the way recordings
will be, once for each way, and costs a later run one head and one refused write.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from archiver.errors import StoreDenied, StoreRefused
from archiver.stores.base import NewObject
from archiver.stores.s3_access import Attributes
from archiver.stores.s3_body import Body, body_of
from archiver.stores.s3_connection import Refused, S3Connection
from archiver.stores.s3_errors import ABSENT
from archiver.stores.s3_heads import OWN_PREFIX, Abilities, look, md5_of, sha256_of
from archiver.stores.s3_lock import Lock
from archiver.stores.s3_retention import has_object_lock
from archiver.stores.s3_writing import Writer
from archiver.stores.spool import SpooledMedia

_WORDS = b"The recording archiver wrote this to see what the bucket can do.\n"
_LOCKED_FOR = timedelta(hours=1)
_MOST_SKEW_S = 15 * 60
_SETUP = "docs/s3.md shows how to set a bucket up"


@dataclass(frozen=True, slots=True)
class Probe:
    """The probe object of one set of attributes: its key, its body, and the lock it is written with."""

    new: NewObject
    body: Body
    lock: Lock


def probe_of(attributes: Attributes, now: datetime) -> Probe:
    """The probe for these attributes, locked for an hour where objects are locked at all."""
    media = SpooledMedia.of(_WORDS)
    policy = attributes.lock
    lock = Lock(policy.mode, now.replace(microsecond=0) + _LOCKED_FOR if policy.mode else None, policy.legal_hold)
    new = NewObject(f"{OWN_PREFIX}probe-{attributes.fingerprint}", media, "text/plain")
    return Probe(new, body_of(media, memory_bytes=len(_WORDS)), lock)


def check_bucket(connection: S3Connection) -> None:
    """The bucket is there, is ours to list, and its clock is near ours.

    Raises:
        StoreDenied: with what to do.
        StoreUnavailable: nobody answers there.
    """
    bucket, place = connection.access.bucket, connection.access.endpoint_url or "AWS"
    try:
        connection.call("head_bucket", seen=ABSENT | {"403"})
    except Refused as refused:
        if refused.code != "403":
            raise StoreDenied(f"no bucket {bucket} at {place}: make it ({_SETUP}), or mend store.s3.bucket") from None
        # A head has no body: a listing is refused with the reason (the key, the clock, the policy).
        connection.call("list_objects_v2", MaxKeys=1, Prefix=connection.access.path(OWN_PREFIX))
    if connection.skew_s is not None and abs(connection.skew_s) > _MOST_SKEW_S:
        raise StoreDenied(f"this machine's clock is {connection.skew_s:+.0f} s off the store's: set it (NTP)")


def check_lock_setup(connection: S3Connection) -> None:
    """The bucket has Object Lock by its own word.

    Raises:
        StoreDenied: it has none, or does not tell.
        StoreUnavailable.
    """
    if not has_object_lock(connection):
        raise StoreDenied(
            f"the bucket {connection.access.bucket} has no Object Lock, or its store knows none: "
            f"make one with it ({_SETUP}), or leave store.s3.object_lock_mode empty and store.s3.legal_hold false"
        )


def stands(writer: Writer) -> bool:
    """Whether the probe of an earlier run stands as it should: then objects can be written this way.

    Raises:
        StoreDenied, StoreUnavailable.
    """
    probe = probe_of(writer.attributes, writer.now())
    found = look(writer.connection, probe.new.key)
    return found is not None and not _shows_no_lock(found, probe.lock)


def find_abilities(writer: Writer) -> Abilities:
    """What the store does with an object written our way; its lock is read back.

    Raises:
        StoreDenied, StoreUnavailable, StoreMismatch, StoreFull: objects can't be written this way.
    """
    probe = probe_of(writer.attributes, writer.now())
    careful = replace(writer, abilities=Abilities())
    # A probe of an earlier run shows its lock, over or not; one without the lock it should have is written anew.
    found = look(writer.connection, probe.new.key)
    if found is None or _shows_no_lock(found, probe.lock):
        # A bucket's policy may refuse writes without the condition, and a store the condition itself.
        if found is not None or not _taken_under_condition(careful, probe):
            careful.send(probe.new, probe.body, probe.lock)
        found = careful.confirm(probe.new.key, probe.body, probe.lock)
    return Abilities(
        conditional_writes=_refuses_second(careful, probe),
        etag_is_md5=md5_of(found) == probe.body.md5,
        keeps_sha256=sha256_of(found) == probe.body.sha256,
    )


def _taken_under_condition(writer: Writer, probe: Probe) -> bool:
    try:
        return writer.send(probe.new, probe.body, probe.lock, condition=True) is not None
    except (StoreDenied, StoreRefused):
        return False


def _refuses_second(writer: Writer, probe: Probe) -> bool:
    """Whether `If-None-Match: *` is obeyed; some stores pass over it, some refuse to know it."""
    try:
        return writer.send(probe.new, probe.body, probe.lock, condition=True) is None
    except (StoreDenied, StoreRefused):
        # The same write was taken before, so it is the condition that the store doesn't know.
        return False


def _shows_no_lock(found: Mapping[str, Any], lock: Lock) -> bool:
    mode_differs = lock.until_at is not None and found.get("ObjectLockMode") not in {lock.mode, "COMPLIANCE"}
    return mode_differs or lock.lacks_hold(found)
