"""The error tree: every failure the archiver speaks of, whether a retry helps, and the exit code it stands for.

    ArchiverError
    ├── SettingsError            2  fatal      a key, a file or an argument is wrong
    ├── PbxError                 8
    │   ├── SignInRefused        4  fatal      the credentials, or every fresh token, were refused
    │   ├── BadSignInReply       4  fatal      the login answered something that is no login
    │   ├── CertificateRefused   8  fatal      the server's certificate can't be trusted
    │   ├── WrongAccount         8  fatal      the PBX answered with another account's data
    │   ├── PbxKeptFailing       8  fatal      whole retry policies in a row ended without one success
    │   ├── TokenExpired         8  retryable  401 on a request: sign in again, repeat it
    │   ├── PbxUnreachable       8  retryable  no connection, a reset, a timeout
    │   ├── PbxFailing           8  retryable  5xx or 429, perhaps with Retry-After
    │   ├── BadAnswer            8  retryable  an answer that is not what it should be
    │   ├── BodyCut              8  retryable  a body that ended early by its own framing
    │   ├── TooSlow              8  retryable  throughput under the floor
    │   ├── MediaNotThere        8  permanent  404 or 410: not there yet, or never; the ladder decides
    │   ├── ListingIncomplete    3  permanent  a window that can't be listed whole
    │   └── RequestRefused       8  permanent  another 4xx, or a redirect
    ├── Contradiction            3  retryable  bytes came but contradict the metadata
    ├── StoreError               5
    │   ├── ObjectNotFound       5  permanent
    │   ├── ObjectDiffers        5  permanent  the key is taken by other bytes
    │   ├── ObjectLocked         5  permanent  the store keeps it until a date, or while a legal hold lasts
    │   ├── InvalidKey           5  permanent
    │   ├── StoreRefused         5  permanent  the store will not take, or not give, this one object
    │   ├── StoreMismatch        5  retryable  what arrived in the store is not what was sent
    │   ├── StoreUnavailable     5  retryable
    │   │   └── StoreBusy        5  retryable  the store asks for fewer requests
    │   ├── StoreKeptFailing     5  fatal      recordings in a row could not be stored
    │   ├── StoreDenied          5  fatal      permission, read-only
    │   └── StoreFull            5  fatal
    ├── LedgerError              5  fatal      the ledger can't answer; unknown is not absent
    │   ├── LedgerTooNew         5  fatal      written by a newer program
    │   ├── LedgerDamaged        5  fatal      the file is no sound ledger: rebuild it
    │   └── ClaimLost            6  fatal      the partition is somebody else's by now
    │       └── AccountTaken     6  fatal      another run has the account by now
    ├── ArchiveInUse             6  fatal      another run holds the archive
    └── ClusterError             8
        ├── ClusterUnreachable   8  fatal      the scheduler can't be reached, was lost, or has no worker
        ├── WorkersDiffer        2  fatal      a worker runs another version of something, or has no archiver
        └── NotShared            5  fatal      a worker doesn't see the archive that the run works on

A retryable failure is tried again within the run; a permanent one ends work on that one recording; a fatal one stops
the run.
"""

from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, ClassVar


class ExitCode(IntEnum):
    """What the program tells the shell; `docs/exit-codes.md` explains each."""

    DONE = 0
    BUG = 1
    USAGE = 2
    LEFT = 3
    SIGN_IN_REFUSED = 4
    DESTINATION = 5
    IN_USE = 6
    DAMAGE = 7
    PBX = 8
    SIGINT = 130
    SIGTERM = 143


class Severity(Enum):
    """What a failure means for the work: try again, give up on this one, or stop the run."""

    RETRYABLE = "retryable"
    PERMANENT = "permanent"
    FATAL = "fatal"


class ArchiverError(Exception):
    """Base of every failure the archiver raises on purpose; the message is a sentence for a person, without secrets.

    `code` is a stable short word for reports; `retry_after_s` is what the server asked to wait, in seconds, or None.
    """

    code: ClassVar[str] = "error"
    severity: ClassVar[Severity] = Severity.FATAL
    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    retry_after_s: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """It can go to another process with all its fields, whatever its constructor asks for."""
        return _again, (type(self), self.args, self.__dict__)


class SettingsError(ArchiverError):
    """A setting, a named file or an argument is wrong; the message names the key, the file and what is allowed."""

    code = "settings"
    exit_code = ExitCode.USAGE


class PbxError(ArchiverError):
    """Something between us and the PBX."""

    code = "pbx"
    exit_code = ExitCode.PBX


class SignInRefused(PbxError):
    """The PBX refused the credentials, or refused every fresh token."""

    code = "sign_in_refused"
    exit_code = ExitCode.SIGN_IN_REFUSED


class BadSignInReply(PbxError):
    """The login answered 200 with something that holds no usable token."""

    code = "bad_sign_in_reply"
    exit_code = ExitCode.SIGN_IN_REFUSED


class CertificateRefused(PbxError):
    """The server's certificate is expired, self-signed, or for another host; never retried."""

    code = "certificate_refused"


class WrongAccount(PbxError):
    """The PBX answered with data of an account that was not asked for."""

    code = "wrong_account"


class PbxKeptFailing(PbxError):
    """Whole retry policies in a row ended without a single success in between."""

    code = "pbx_kept_failing"


class TokenExpired(PbxError):
    """401 on a request that carried a token; one new sign-in, then the same request again."""

    code = "token_expired"
    severity = Severity.RETRYABLE


class PbxUnreachable(PbxError):
    """No connection, a reset, or silence longer than the timeout."""

    code = "unreachable"
    severity = Severity.RETRYABLE


class PbxFailing(PbxError):
    """429 or 5xx."""

    code = "server_error"
    severity = Severity.RETRYABLE

    def __init__(self, message: str, *, http_status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.retry_after_s = retry_after_s


class BadAnswer(PbxError):
    """An answer that is not what it should be: HTML, cut JSON, a missing key, an unasked encoding."""

    code = "bad_answer"
    severity = Severity.RETRYABLE


class BodyCut(PbxError):
    """A body that ended before its own framing said so."""

    code = "body_cut"
    severity = Severity.RETRYABLE


class TooSlow(PbxError):
    """A body that trickled in under the throughput floor."""

    code = "too_slow"
    severity = Severity.RETRYABLE


class MediaNotThere(PbxError):
    """404 or 410 for a recording's media: not there yet, or never."""

    code = "not_there"
    severity = Severity.PERMANENT


class ListingIncomplete(PbxError):
    """A window's listing ended without proof that it was whole."""

    code = "listing_incomplete"
    severity = Severity.PERMANENT
    exit_code = ExitCode.LEFT


class RequestRefused(PbxError):
    """A 4xx that a repetition would not change, or a redirect, which is never followed."""

    code = "refused"
    severity = Severity.PERMANENT

    def __init__(self, message: str, *, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class Contradiction(ArchiverError):
    """A whole body came, but it contradicts the metadata; `kind` is a stable short word for the reason."""

    code = "contradiction"
    severity = Severity.RETRYABLE
    exit_code = ExitCode.LEFT

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class StoreError(ArchiverError):
    """Something between us and the destination."""

    code = "store"
    exit_code = ExitCode.DESTINATION


class ObjectNotFound(StoreError):
    """No object under this key."""

    code = "object_not_found"
    severity = Severity.PERMANENT


class ObjectDiffers(StoreError):
    """The key is already taken by other bytes, which stay untouched."""

    code = "object_differs"
    severity = Severity.PERMANENT


class ObjectLocked(StoreError):
    """The store itself keeps the object: nothing of it was removed, and its lock is as it was.

    `until_at` is when its retention ends (aware UTC), None without one; `legal_hold` is a hold that has no end.
    """

    code = "object_locked"
    severity = Severity.PERMANENT

    def __init__(self, message: str, *, until_at: datetime | None = None, legal_hold: bool = False) -> None:
        super().__init__(message)
        self.until_at = until_at
        self.legal_hold = legal_hold


class InvalidKey(StoreError):
    """A key that could leave the archive or that some file system would change."""

    code = "invalid_key"
    severity = Severity.PERMANENT


class StoreRefused(StoreError):
    """The store refuses just this object: too large, or in cold storage; a repetition would not change that."""

    code = "store_refused"
    severity = Severity.PERMANENT


class StoreMismatch(StoreError):
    """What arrived in the store is not what was sent; nothing visible remains."""

    code = "store_mismatch"
    severity = Severity.RETRYABLE


class StoreUnavailable(StoreError):
    """The store could not answer just now."""

    code = "store_unavailable"
    severity = Severity.RETRYABLE


class StoreBusy(StoreUnavailable):
    """The store asks for fewer requests."""

    code = "store_busy"


class StoreKeptFailing(StoreError):
    """The store was retried again and again and stores nothing any more."""

    code = "store_kept_failing"


class StoreDenied(StoreError):
    """The store refuses us: permissions, a read-only file system, a destination that is not what it was."""

    code = "store_denied"


class StoreFull(StoreError):
    """No room left: disk, quota or inodes."""

    code = "store_full"


class LedgerError(ArchiverError):
    """The ledger can't answer or can't be written; unknown is not absent, so the run stops."""

    code = "ledger"
    exit_code = ExitCode.DESTINATION


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer program."""

    code = "ledger_too_new"


class LedgerDamaged(LedgerError):
    """What lies there is no sound ledger any more; `archiver rebuild` makes a new one."""

    code = "ledger_damaged"


class ClaimLost(LedgerError):
    """A worker was away for too long: its partition was given to somebody else, or another run has the account."""

    code = "claim_lost"
    exit_code = ExitCode.IN_USE


class AccountTaken(ClaimLost):
    """Another run has the account: whoever worked on it for the former run has nothing to write any more."""

    code = "account_taken"


class ArchiveInUse(ArchiverError):
    """Another run holds the archive's lock."""

    code = "archive_in_use"
    exit_code = ExitCode.IN_USE


class ClusterError(ArchiverError):
    """Work on many machines isn't possible, or not any more; what was archived is in the ledger."""

    code = "cluster"
    exit_code = ExitCode.PBX


class ClusterUnreachable(ClusterError):
    """The scheduler can't be reached, was lost, or has no workers."""

    code = "cluster_unreachable"


class WorkersDiffer(ClusterError):
    """Client, scheduler and workers don't run the same versions."""

    code = "workers_differ"
    exit_code = ExitCode.USAGE


class NotShared(ClusterError):
    """A worker doesn't see the archive that the run works on, or can't write there."""

    code = "not_shared"
    exit_code = ExitCode.DESTINATION


def _again(kind: type[ArchiverError], args: tuple[Any, ...], fields: dict[str, Any]) -> ArchiverError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


def first_of(errors: BaseExceptionGroup[ArchiverError]) -> ArchiverError:
    """One of a task group's errors, however deep the groups are nested."""
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    if not isinstance(found, ArchiverError):
        raise TypeError("only the archiver's errors end up here") from found
    return found
