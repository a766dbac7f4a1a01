"""The store on S3 and what speaks like it: one bucket, whole objects, never overwritten, locked with the write."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from archiver.errors import ArchiverError, ObjectNotFound, StoreDenied
from archiver.keys import check_key, check_object_key
from archiver.recording import Fixity
from archiver.stores.base import NO_LOCK, NewObject, ObjectHead, ObjectLock, Room, StoredObject
from archiver.stores.s3_access import Attributes
from archiver.stores.s3_connection import Refused, S3Connection
from archiver.stores.s3_errors import ABSENT
from archiver.stores.s3_gate import KeyLocks
from archiver.stores.s3_heads import Abilities, listed, look, object_head
from archiver.stores.s3_names import KnownNames
from archiver.stores.s3_probing import check_bucket, check_lock_setup, find_abilities, stands
from archiver.stores.s3_writing import Writer

MEMORY_BYTES = 16 << 20
"""Media up to this size go to the store from memory, in one piece."""


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class S3Store:
    """Keeps objects in a bucket under a prefix. Keeps the promise of `base.Store`, with three differences.

    A failed write leaves the key absent or whole, but an object that the store itself spoiled stays to be seen, as a
    writer may not delete. Where the store has no conditional writes (`abilities`), a key is asked for before it is
    written: that holds for one process, which the archive's lock sees to. And `delete` needs a permission that the
    archiver's own role should not have; in a bucket with versions it leaves them.
    """

    def __init__(
        self,
        connection: S3Connection,
        attributes: Attributes | None = None,
        *,
        memory_bytes: int = MEMORY_BYTES,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.connection = connection
        self._finding_out = threading.Lock()
        self._found_out = False
        self._writer = Writer(
            self.connection,
            attributes or Attributes(),
            Abilities(),
            memory_bytes=memory_bytes,
            now=now,
            keys=KeyLocks(),
            names=KnownNames(),
        )

    @property
    def abilities(self) -> Abilities:
        """What the store was seen to do; nothing before `find_out`."""
        return self._writer.abilities

    @property
    def writer(self) -> Writer:
        """What writes single objects, for the doctor."""
        return self._writer

    def prepare(self) -> None:
        """See `Store.prepare`: the bucket is there, takes objects written our way, and has the lock asked for."""
        check_bucket(self.connection)
        if self._writer.attributes.lock.wanted:
            check_lock_setup(self.connection)
        # A run that has nothing to put writes nothing either, once the probe of an earlier one is there.
        if not stands(self._writer):
            self.find_out()

    def find_out(self) -> Abilities:
        """What the store can do, tried out once: in the first `prepare` of these settings, else before the first put.

        Raises:
            StoreDenied, StoreUnavailable, StoreMismatch, StoreFull.
        """
        with self._finding_out:
            if not self._found_out:
                self._writer = replace(self._writer, abilities=find_abilities(self._writer))
                self._found_out = True
        return self.abilities

    def put(self, objects: Sequence[NewObject]) -> Sequence[StoredObject]:
        """See `Store.put`; each object goes on its own, in order, and the first is always read back with a head."""
        for new in objects:
            check_object_key(new.key)
        if objects and not self._found_out:
            self.find_out()
        return [self._writer.put(new, beside=place > 0) for place, new in enumerate(objects)]

    def put_many(self, groups: Sequence[Sequence[NewObject]]) -> Sequence[Sequence[StoredObject] | ArchiverError]:
        """See `Store.put_many`; one after the other, as nothing can be shared."""
        outcomes: list[Sequence[StoredObject] | ArchiverError] = []
        for objects in groups:
            try:
                outcomes.append(self.put(objects))
            except ArchiverError as error:
                outcomes.append(error)
        return outcomes

    def head(self, key: str) -> ObjectHead | None:
        """See `Store.head`; a 404 counts only while the bucket itself answers."""
        found = look(self.connection, check_object_key(key))
        if found is not None:
            return object_head(key, found)
        try:
            self.connection.call("head_bucket", seen=ABSENT)
        except Refused:
            raise StoreDenied(f"the bucket {self.connection.access.bucket} is gone") from None
        return None

    def open(self, key: str) -> Iterator[bytes]:
        """See `Store.open`; the object is asked for at once, its bytes come as they are read."""
        try:
            answer = self.connection.call("get_object", check_object_key(key), seen=ABSENT, ChecksumMode="ENABLED")
        except Refused:
            raise ObjectNotFound(f"no object {key}") from None
        return self.connection.body(answer, key)

    def fixity(self, key: str) -> Fixity:
        """See `Store.fixity`."""
        digest, size_bytes = hashlib.sha256(), 0
        for chunk in self.open(key):
            digest.update(chunk)
            size_bytes += len(chunk)
        return Fixity(size_bytes, digest.digest())

    def list(self, prefix: str = "") -> Iterator[ObjectHead]:
        """See `Store.list`; a thousand heads to a request."""
        return listed(self.connection, prefix)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self.connection.call("delete_object", check_key(key))

    def locked_until(self, key: str) -> ObjectLock:
        """See `Store.locked_until`."""
        check_key(key)
        return NO_LOCK

    def extend_lock(self, key: str, until_at: datetime) -> None:
        """See `Store.extend_lock`."""
        raise StoreDenied(f"{key} can't be locked until {until_at:%Y-%m-%d}")

    def room(self) -> Room:
        """See `Store.room`; a bucket has no limit that could be asked for."""
        return Room(None, None)

    def close(self) -> None:
        """See `Store.close`."""
        self.connection.close()
