"""Where a bucket is and what each object in it gets: values only, no connection."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlencode

from archiver.stores.base import Origin
from archiver.stores.s3_lock import LockPolicy

_LONGEST_ID = 256
"""User metadata may have 2 KiB in all."""


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach a bucket; credentials are never here, boto3 finds them by its own chain.

    `prefix` is a key without slashes at its ends, or ''. `endpoint_url` is '' for AWS. `addressing` 'auto' is
    virtual-hosted on AWS and path style elsewhere. `threads` is how many calls may be under way at once; `attempts`
    counts the first try too.
    """

    bucket: str
    prefix: str = ""
    region: str = ""
    endpoint_url: str = ""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    threads: int = 8
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    attempts: int = 5

    def path(self, key: str) -> str:
        """A key of ours as the bucket knows it."""
        return f"{self.prefix}/{key}" if self.prefix else key


@dataclass(frozen=True, slots=True)
class Attributes:
    """What each object written gets; '' leaves a thing to the bucket's own settings.

    `encryption` '' with a `kms_key_id` is SSE-KMS with that key. `checksum` 'md5' leaves out the SHA-256, for servers
    that refuse its header. `tags` need `s3:PutObjectTagging`.
    """

    storage_class: str = ""
    encryption: Literal["", "AES256", "aws:kms"] = ""
    kms_key_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    checksum: Literal["sha256", "md5"] = "sha256"
    lock: LockPolicy = field(default_factory=LockPolicy)

    def params(self) -> dict[str, Any]:
        """The arguments of `put_object` that are the same for all objects."""
        given = {
            "StorageClass": self.storage_class,
            "ServerSideEncryption": self.encryption or ("aws:kms" if self.kms_key_id else ""),
            "SSEKMSKeyId": self.kms_key_id,
            "Tagging": urlencode(self.tags, quote_via=quote),
        }
        return {name: value for name, value in given.items() if value}

    @property
    def fingerprint(self) -> str:
        """A short name of just these attributes: other settings are tried out anew."""
        everything = (sorted(self.params().items()), self.checksum, self.lock.mode, self.lock.legal_hold)
        return hashlib.sha256(repr(everything).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def metadata(sha256: bytes, origin: Origin | None) -> dict[str, str]:
    """User metadata of an object: its digest and where it came from; no names, no phone numbers, ASCII only."""
    found = {"sha256": sha256.hex()}
    if origin is not None:
        ids = (("recording-id", origin.recording_id), ("account-id", origin.account_id), ("run-id", origin.run_id))
        found |= {name: _plain(an_id) for name, an_id in ids if an_id}
    return found


def _plain(an_id: str) -> str:
    """An id as header text: percent-encoded where it is not plain, cut where it is absurdly long."""
    return quote(an_id, safe=":@+,", errors="surrogatepass")[:_LONGEST_ID]
