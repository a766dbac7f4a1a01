"""What heads and listings of a bucket say, and whether a head proves that an object holds certain bytes."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from archiver.errors import InvalidKey, StoreDenied
from archiver.keys import EVIDENCE_PREFIXES, check_object_key
from archiver.stores.base import ObjectHead
from archiver.stores.s3_body import Body
from archiver.stores.s3_connection import Refused, S3Connection
from archiver.stores.s3_errors import ABSENT

OWN_PREFIX = ".archiver/"
_COULD_BE_A_KEY = re.compile(r"(?:[A-Za-z0-9_=][A-Za-z0-9._=/-]*)?\Z")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?\Z')


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a store was seen to do; before it was tried, nothing is assumed.

    `conditional_writes`: `If-None-Match: *` really refuses the second write. `etag_is_md5`: the ETag of an object
    written our way is its MD5. `keeps_sha256`: a head returns the SHA-256 that the object was written with.
    """

    conditional_writes: bool = False
    etag_is_md5: bool = False
    keeps_sha256: bool = False


def look(connection: S3Connection, key: str, *, version_id: str = "") -> Mapping[str, Any] | None:
    """The head of a key as boto3 gives it, None when the store says 404 (which a bucket that is gone does too).

    Of the visible version, unless one is named.

    Raises:
        StoreUnavailable, StoreDenied.
    """
    version = {"VersionId": version_id} if version_id else {}
    try:
        found: Mapping[str, Any] = connection.call("head_object", key, seen=ABSENT, ChecksumMode="ENABLED", **version)
    except Refused:
        return None
    return found


def object_head(key: str, found: Mapping[str, Any]) -> ObjectHead:
    """A head in our words; the digest only where the store keeps one of the whole object."""
    return ObjectHead(key, int(found["ContentLength"]), _at(found), sha256_of(found))


def sha256_of(found: Mapping[str, Any]) -> bytes | None:
    """The SHA-256 of the whole object that a head tells; None for the composite ones of multipart uploads."""
    text = found.get("ChecksumSHA256") or ""
    if found.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT" or "-" in text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return digest if len(digest) == 32 else None  # noqa: PLR2004 - SHA-256


def md5_of(found: Mapping[str, Any]) -> bytes | None:
    """The ETag as an MD5, None where it can't be one (multipart, KMS)."""
    match = _MD5.match(str(found.get("ETag", "")))
    if match is None or str(found.get("ServerSideEncryption", "")).startswith("aws:kms"):
        return None
    return bytes.fromhex(match[1])


def holds(found: Mapping[str, Any], body: Body) -> bool | None:
    """Whether a head proves that its object holds this body; None when only reading it can tell.

    The SHA-256 alone is no proof: some servers return whatever came with the write. The ETag alone is one only if it
    agrees: it may be no MD5 at all.
    """
    if found["ContentLength"] != body.size_bytes:
        return False
    sha256, md5 = sha256_of(found), md5_of(found)
    agrees = [each for each in ((sha256, body.sha256), (md5, body.md5)) if each[0] is not None]
    if agrees and all(said == ours for said, ours in agrees):
        return True
    return False if sha256 is not None and sha256 != body.sha256 and md5 != body.md5 else None


def listed(connection: S3Connection, prefix: str) -> Iterator[ObjectHead]:
    """Heads of the bucket's keys that begin with `prefix`, page by page; of our own ones evidence alone.

    Raises:
        StoreUnavailable, StoreDenied: a page could not be had, or the store lists in no order.
    """
    of_evidence = prefix.startswith(EVIDENCE_PREFIXES)
    if not _COULD_BE_A_KEY.match(prefix, 1 if of_evidence else 0):
        return
    params: dict[str, Any] = {"Prefix": connection.access.path(prefix)}
    above = len(connection.access.path(""))
    last = ""
    while True:
        page = connection.call("list_objects_v2", **params)
        for found in page.get("Contents", ()):
            key = found["Key"][above:]
            if key <= last:
                raise StoreDenied(
                    f"s3://{connection.access.bucket} lists its keys in no order: use another kind of bucket"
                )
            last = key
            if key.startswith(OWN_PREFIX) == of_evidence and _is_key(key):
                yield ObjectHead(key, int(found["Size"]), _at(found))
        if not page.get("IsTruncated"):
            return
        params["ContinuationToken"] = page["NextContinuationToken"]


def _at(found: Mapping[str, Any]) -> float:
    at: datetime = found["LastModified"]
    return at.timestamp()


def _is_key(key: str) -> bool:
    try:
        check_object_key(key)
    except InvalidKey:
        return False
    return True
