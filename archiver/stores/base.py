"""The promise every store keeps; `tests/contracts/` holds each store to it.

Calls block: the pipeline makes them in threads of its own pool, so a store must be safe to call from several threads.
Keys are relative (`archiver.keys.check_object_key`) and are checked on the way in and on the way out. Evidence, under
`.archiver/audit/` and `.archiver/manifests/`, is put, read and listed like anything else, and can't be deleted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from archiver.errors import ArchiverError
from archiver.recording import Fixity


class Media(Protocol):
    """A body that was received whole and rests in memory or in a spool file; its fixity is what was received."""

    @property
    def fixity(self) -> Fixity:
        """Size and SHA-256 of the bytes that `chunks` yields."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start; each call begins anew."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object came from, for stores that keep metadata or locks beside it.

    `dated_at` is the call's date, from which retention counts (aware, or None where nobody knows it).
    """

    account_id: str
    recording_id: str
    run_id: str
    dated_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewObject:
    """One object to put: its key, its media, and the MIME type and the origin for stores that keep them."""

    key: str
    media: Media
    content_type: str
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object after its put: `adopted` when the same bytes already lay there, so that nothing was written."""

    key: str
    size_bytes: int
    adopted: bool


class ObjectHead(NamedTuple):
    """What a store says of an object without reading it; `sha256` is None where the store keeps no digest.

    `modified_s` is when it was last changed, in seconds since 1970. Cheap to make, since listings make millions.
    """

    key: str
    size_bytes: int
    modified_s: float
    sha256: bytes | None = None

    @property
    def modified_at(self) -> datetime:
        """When it was last changed."""
        return datetime.fromtimestamp(self.modified_s, UTC)


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """What keeps an object from being removed: until when (aware UTC, None without retention), and a legal hold.

    `mode` is `GOVERNANCE` or `COMPLIANCE`, empty without retention.
    """

    until_at: datetime | None = None
    mode: str = ""
    legal_hold: bool = False


NO_LOCK = ObjectLock()


@dataclass(frozen=True, slots=True)
class Room:
    """Free space of a destination in bytes and inodes; None where the store has no such limit."""

    free_bytes: int | None
    free_inodes: int | None


class Store(Protocol):
    """All or nothing, never over an existing object, and honest about what it can't tell."""

    def prepare(self) -> None:
        """Make sure the destination can be used and clear what dead runs left; once, with the archive's lock held.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: with a message that says what to do.
        """
        ...

    def put(self, objects: Sequence[NewObject]) -> Sequence[StoredObject]:
        """Put objects in their order; each is all or nothing and durable (where asked for) on return.

        Counts the bytes it receives and compares them, and the size read back from the store, with the fixity.
        A key that holds the same bytes is adopted; one that holds others is left alone. After a failure each
        object of this call is whole or absent, and the same call may be made again.

        Raises:
            InvalidKey, ObjectDiffers, StoreMismatch, StoreUnavailable, StoreDenied, StoreFull.
        """
        ...

    def put_many(self, groups: Sequence[Sequence[NewObject]]) -> Sequence[Sequence[StoredObject] | ArchiverError]:
        """A put for each group, as `put` makes it, and its error as a value: one that fails leaves the others alone.

        What can be shared, such as waiting for the disk, is shared.
        """
        ...

    def head(self, key: str) -> ObjectHead | None:
        """The object's head, or None when it is certainly absent.

        Raises:
            StoreUnavailable, StoreDenied: when the store can't tell.
        """
        ...

    def open(self, key: str) -> Iterator[bytes]:
        """The object's bytes in chunks of up to 1 MiB.

        Raises:
            ObjectNotFound, StoreUnavailable, StoreDenied.
        """
        ...

    def fixity(self, key: str) -> Fixity:
        """Size and SHA-256 of the object, read to its end.

        Raises:
            ObjectNotFound, StoreUnavailable, StoreDenied.
        """
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectHead]:
        """Heads of all objects whose key begins with `prefix`, in key order; never temporaries.

        Of what lies under `.archiver`, evidence is shown to those who ask for it by one of its prefixes, and nothing else.

        Raises:
            StoreUnavailable, StoreDenied: when the listing can't be completed.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error.

        Raises:
            InvalidKey: for evidence, too.
            ObjectLocked: the store's own lock does not allow it yet; what it did allow is removed.
            StoreUnavailable, StoreDenied.
        """
        ...

    def locked_until(self, key: str) -> ObjectLock:
        """The lock of an object; an empty one where there is none, no object, or a store that knows no locks.

        Raises:
            StoreUnavailable, StoreDenied: the store can't tell.
        """
        ...

    def extend_lock(self, key: str, until_at: datetime) -> None:
        """Keep an object locked until then; a lock that lasts longer stays as it is, none is ever shortened.

        Raises:
            StoreDenied: the store knows no locks, or refuses.
            ObjectNotFound, StoreUnavailable.
        """
        ...

    def room(self) -> Room:
        """What is free at the destination."""
        ...

    def close(self) -> None:
        """Give back file descriptors and connections; further calls are an error."""
        ...
