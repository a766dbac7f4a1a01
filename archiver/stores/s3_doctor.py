"""Examines a bucket for `doctor`: what works, what the store can't do, and what to do about it; raises nothing."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from archiver.check import Check, failed
from archiver.errors import StoreError, StoreMismatch
from archiver.stores.s3_access import Attributes
from archiver.stores.s3_connection import Refused, S3Connection
from archiver.stores.s3_errors import TAKEN
from archiver.stores.s3_gate import KeyLocks
from archiver.stores.s3_heads import Abilities, look
from archiver.stores.s3_lock import described
from archiver.stores.s3_names import KnownNames
from archiver.stores.s3_probing import Probe, check_bucket, check_lock_setup, find_abilities, probe_of
from archiver.stores.s3_writing import Writer

_ODD_SKEW_S = 60
_WRONG_MD5 = base64.b64encode(bytes(16)).decode("ascii")


def examine(connection: S3Connection, attributes: Attributes, *, now: Callable[[], datetime]) -> tuple[Check, ...]:
    """Write, read back, write again under a condition, lock, read the lock back, compare clocks.

    Leaves at most two small objects under `.archiver/`. Stops at the first thing without which the others say nothing.
    """
    writer = Writer(
        connection, attributes, Abilities(), memory_bytes=1 << 20, now=now, keys=KeyLocks(), names=KnownNames()
    )
    probe = probe_of(attributes, now())
    place = f"s3://{connection.access.bucket} at {connection.access.endpoint_url or 'AWS'}"
    checks: list[Check] = []
    try:
        check_bucket(connection)
        checks += [Check("bucket", "ok", f"{place} answers"), _clock(connection)]
        if attributes.lock.wanted:
            check_lock_setup(connection)
            checks.append(Check("lock_setup", "ok", "the bucket has Object Lock"))
        writer = replace(writer, abilities=find_abilities(writer))
        checks.append(Check("write", "ok", f"wrote {connection.access.path(probe.new.key)}"))
    except StoreError as error:
        names = ("bucket", "lock_setup" if attributes.lock.wanted else "write", "write")
        done = {check.name for check in checks}
        return (*checks, failed(next(name for name in names if name not in done), error))
    rest = (_read_back, _conditional, _digests, _lock, _versions)
    return (*checks, *(_guarded(check, writer, probe) for check in rest))


def _guarded(check: Callable[[Writer, Probe], Check], writer: Writer, probe: Probe) -> Check:
    try:
        return check(writer, probe)
    except StoreError as error:
        return failed(check.__name__.removeprefix("_"), error)


def _clock(connection: S3Connection) -> Check:
    skew_s = connection.skew_s
    if skew_s is None:
        return Check("clock", "weak", "the store does not tell its time")
    if abs(skew_s) > _ODD_SKEW_S:
        return Check("clock", "weak", f"this machine's clock is {skew_s:+.0f} s off the store's", "set it (NTP)")
    return Check("clock", "ok", f"within {_ODD_SKEW_S} s of the store's")


def _read_back(writer: Writer, probe: Probe) -> Check:
    connection, key = writer.connection, probe.new.key
    digest = hashlib.sha256()
    for chunk in connection.body(connection.call("get_object", key), key):
        digest.update(chunk)
    if digest.digest() != probe.body.sha256:
        return Check("read_back", "failed", "what was read back is not what was written", "look at the store")
    return Check("read_back", "ok", f"{probe.body.size_bytes} bytes came back as they were written")


def _conditional(writer: Writer, _: Probe) -> Check:
    if writer.abilities.conditional_writes:
        return Check("conditional", "ok", "a second write to the same key was refused")
    advice = "let only one machine write to this bucket; versions in the bucket keep what would be overwritten"
    return Check("conditional", "weak", "If-None-Match is not obeyed: the store would overwrite", advice)


def _digests(writer: Writer, probe: Probe) -> Check:
    """Send bytes under a wrong MD5; who takes them would take bytes that changed on the way."""
    params = writer.attributes.params() | probe.lock.params()
    if writer.abilities.conditional_writes:
        params["IfNoneMatch"] = "*"
    try:
        key = f"{probe.new.key}-md5"
        writer.connection.call("put_object", key, seen=TAKEN, Body=probe.body.data, ContentMD5=_WRONG_MD5, **params)
    except Refused:
        pass  # they were taken the last time
    except StoreMismatch:
        return Check("digests", "ok", "bytes that do not fit their MD5 were refused")
    advice = "sizes and ETags are compared after each write; run `archiver verify` often"
    return Check("digests", "weak", "the store takes bytes that do not fit their MD5", advice)


def _lock(writer: Writer, probe: Probe) -> Check:
    if not writer.attributes.lock.wanted:
        return Check("lock", "ok", "no lock is asked for")
    return Check("lock", "ok", f"read back: {described(look(writer.connection, probe.new.key) or {})}")


def _versions(writer: Writer, _: Probe) -> Check:
    advice = "turn versioning on: it keeps what somebody overwrites or deletes"
    try:
        status = writer.connection.call("get_bucket_versioning").get("Status", "off")
    except StoreError as error:
        return Check("versions", "weak", f"can't tell: {error}", "allow s3:GetBucketVersioning, or pass over this")
    return Check(
        "versions", "ok" if status == "Enabled" else "weak", str(status), "" if status == "Enabled" else advice
    )
