"""The border to boto3: each error it can raise as one of ours, with what a person should do about it.

What is not known by its code goes by its HTTP status; a server's own words are quoted, cut and made printable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as boto

from archiver.errors import (
    StoreBusy,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreRefused,
    StoreUnavailable,
)

EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired"}
)
"""What a server says of credentials that may have been replaced meanwhile."""
ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
GONE = ABSENT | {"NoSuchVersion"}
TAKEN = frozenset({"412", "PreconditionFailed"})
CONFLICT = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
DENIED = frozenset({"AccessDenied", "403", "AccessDeniedException", "Forbidden", "UnauthorizedAccess"})
UNKNOWN = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405", "UnsupportedOperation"})
"""What servers say that don't know an operation."""
NO_LOCK_SETUP = frozenset({"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"})
"""What servers say of a bucket, or of an object, that has no lock."""
BUSY = frozenset(
    {
        "SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "503", "429", "TooManyRequests", "Throttling",
        "ThrottlingException", "RequestThrottled", "RequestLimitExceeded", "BandwidthLimitExceeded",
        "KMS.ThrottlingException", "ReducedRequestRate",
    }
)  # fmt: skip

_CREDENTIALS = "renew the credentials that boto3 finds (environment, profile, role or web identity)"
_ALLOW = "let the policy allow it (docs/s3.md has one to paste)"
_LOCK = "make a bucket with Object Lock (docs/s3.md), or leave store.s3.object_lock_mode empty"
_KMS = "mend store.s3.kms_key_id, the key's state, or its policy (kms:GenerateDataKey and kms:Decrypt)"
_NET = "tried again; if it lasts, look at store.s3.endpoint_url and the network"

_TABLE: tuple[tuple[type[StoreError], str, frozenset[str]], ...] = (
    (StoreBusy, "asks for fewer requests", BUSY),
    (StoreUnavailable, _NET, frozenset({
        "InternalError", "RequestTimeout", "RequestTimeoutException", "OperationAborted", "ConditionalRequestConflict",
        "409", "500", "502", "504", "408", "KMS.KMSInternalException", "KMS.DependencyTimeoutException",
    })),
    (StoreMismatch, "the bytes changed on the way", frozenset({
        "BadDigest", "InvalidDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
    })),
    (StoreRefused, "this one object only", frozenset({
        "EntityTooLarge", "InvalidObjectState", "KeyTooLongError", "MetadataTooLarge", "RequestHeaderSectionTooLarge",
    })),
    (StoreFull, "make room, or raise the quota", frozenset({
        "QuotaExceeded", "InsufficientCapacity", "InsufficientStorage", "507", "StorageFull", "XMinioStorageFull",
        "XMinioAdminBucketQuotaExceeded", "StorageCapExceeded", "StorageQuotaExceeded",
    })),
    (StoreDenied, "the bucket isn't there: make it, or mend store.s3.bucket", frozenset({"NoSuchBucket"})),
    (StoreDenied, _CREDENTIALS, EXPIRED),
    (StoreDenied, "the secret key is wrong: " + _CREDENTIALS, frozenset({"SignatureDoesNotMatch"})),
    (StoreDenied, "set this machine's clock (NTP): S3 refuses more than 15 minutes",
     frozenset({"RequestTimeTooSkewed", "RequestExpired", "AccessDenied.RequestTimeTooSkewed"})),
    (StoreDenied, _ALLOW, frozenset({
        "AllAccessDisabled", "AccountProblem", "InvalidPayer", "NotSignedUp", "401", *DENIED,
    })),
    (StoreDenied, _LOCK, frozenset({
        "ObjectLockConfigurationNotFoundError", "InvalidRetentionPeriod", "InvalidBucketState", "InvalidRetentionDate",
    })),
    (StoreDenied, "mend store.s3.region or store.s3.endpoint_url", frozenset({
        "PermanentRedirect", "TemporaryRedirect", "301", "307", "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException", "InvalidRegion",
    })),
    (StoreDenied, "mend store.s3.storage_class", frozenset({"InvalidStorageClass"})),
    (StoreDenied, "mend store.s3.tags", frozenset({"InvalidTag"})),
    (StoreDenied, "the store can't do that: leave the setting for it empty", UNKNOWN),
)  # fmt: skip
_BY_CODE = {code: (kind, advice) for kind, advice, codes in reversed(_TABLE) for code in codes}
_NOT_FOUND = "the bucket, or the object, isn't there"


@dataclass(frozen=True, slots=True)
class Doing:
    """What was being done when something failed: an operation by boto3's name, on a bucket, perhaps on one key."""

    operation: str
    bucket: str
    key: str = ""

    def __str__(self) -> str:
        place = f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"
        return f"{place}: {self.operation}"


def code_of(error: boto.ClientError) -> str:
    """The code of a server's refusal; its HTTP status where the answer had no body."""
    return str(_part(error, "Error").get("Code") or status_of(error))


def status_of(error: boto.ClientError) -> int:
    """The HTTP status of a server's refusal, 0 if there is none."""
    found = _part(error, "ResponseMetadata").get("HTTPStatusCode")
    return found if isinstance(found, int) else 0


def store_error(error: Exception, doing: Doing, *, skew_s: float | None = None) -> StoreError:
    """One of ours for one of boto3's; `skew_s` is how far this machine's clock is ahead of the server's, if known."""
    inner = getattr(error, "kwargs", {}).get("error")
    if isinstance(inner, StoreError):  # raised by the body while botocore read it
        return inner
    if isinstance(error, boto.ClientError):
        return _refusal(error, doing, skew_s)
    return _failure(error, doing)


def _refusal(error: boto.ClientError, doing: Doing, skew_s: float | None) -> StoreError:
    code, status, said = code_of(error), status_of(error), _said(_part(error, "Error").get("Message"))
    kind, advice = _BY_CODE.get(code) or _by_status(code, status)
    if "kms" in said.lower() and issubclass(kind, StoreDenied):
        advice = _KMS
    elif "object lock" in said.lower() or "objectlock" in said.lower():
        kind, advice = StoreDenied, _LOCK
    elif "skew" in code.lower() and skew_s is not None:
        advice = f"this machine's clock is {skew_s:+.0f} s off: {advice}"
    words = f" ({said})" if said and said != code else ""
    return kind(f"{doing} refused: {code}{words}: {advice}")


def _by_status(code: str, status: int) -> tuple[type[StoreError], str]:
    if code.startswith("KMS."):
        return StoreDenied, _KMS
    known = _BY_CODE.get(str(status))
    if known is not None:
        return known
    if status >= 500:  # noqa: PLR2004 - the server's own fault
        return StoreUnavailable, _NET
    if code in ABSENT or status == 404:  # noqa: PLR2004
        return StoreDenied, _NOT_FOUND
    # An argument that is refused for one object will be refused for all: they differ only in key and bytes.
    return StoreDenied, "a setting in [store.s3] asks for something this store doesn't know"


def _failure(error: Exception, doing: Doing) -> StoreError:
    said = _said(error)
    if isinstance(error, boto.SSLError):
        advice = "if the service has a private CA, name its bundle in AWS_CA_BUNDLE"
        return StoreDenied(f"{doing} failed: the certificate can't be trusted ({said}): {advice}")
    if isinstance(error, _CREDENTIAL_ERRORS):
        return StoreDenied(f"{doing} failed: {said}: {_CREDENTIALS}")
    if isinstance(error, boto.ChecksumError | boto.FlexibleChecksumError):
        return StoreMismatch(f"{doing} failed: what came does not fit its checksum ({said})")
    if isinstance(error, _PASSING):
        return StoreUnavailable(f"{doing} failed: {type(error).__name__} ({said}): {_NET}")
    return StoreDenied(f"{doing} failed: {type(error).__name__} ({said}): look at [store.s3] and boto3's configuration")


_CREDENTIAL_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.UnknownCredentialError,
    boto.NoAuthTokenError,
    boto.ProfileNotFound,
    boto.InfiniteLoopConfigError,
    boto.RefreshWithMFAUnsupportedError,
)
# The first two are the bases of connection errors, timeouts and broken streams.
_PASSING = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.MetadataRetrievalError, OSError)


def _part(error: boto.ClientError, name: str) -> Mapping[str, Any]:
    found = error.response.get(name)
    return found if isinstance(found, Mapping) else {}


def _said(words: object) -> str:
    """Foreign words on one line, without anything a terminal would obey."""
    text = " ".join(str(words or "").split())
    return "".join(c if c.isprintable() else "?" for c in text).removesuffix(".")[:200]
