"""Writes one object: checked before it is sent, refused by the store if the key is taken, read back before it counts."""

import base64
import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from archiver.errors import ObjectDiffers, StoreDenied, StoreMismatch, StoreUnavailable
from archiver.stores.base import NewObject, StoredObject
from archiver.stores.s3_access import Attributes, metadata
from archiver.stores.s3_body import Body, body_of
from archiver.stores.s3_connection import Refused, S3Connection
from archiver.stores.s3_errors import CONFLICT, TAKEN
from archiver.stores.s3_gate import KeyLocks
from archiver.stores.s3_heads import Abilities, holds, look, md5_of, sha256_of
from archiver.stores.s3_lock import Lock, described
from archiver.stores.s3_names import KnownNames

_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""After a 409, which says that somebody else writes this key just now."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Puts single objects; safe for threads. Up to `memory_bytes` of media are held in memory, larger ones read twice."""

    connection: S3Connection
    attributes: Attributes
    abilities: Abilities
    memory_bytes: int
    now: Callable[[], datetime]
    keys: KeyLocks
    names: KnownNames

    def put(self, new: NewObject, *, beside: bool = False) -> StoredObject:
        """Write, or adopt the same bytes that lie there, with the lock they shall have.

        What lies `beside` another object is not read back where the store's reply to the write proves its bytes.

        Raises:
            ObjectDiffers: other bytes lie there; they stay.
            StoreMismatch: the media are not what they say (nothing was sent), or the store keeps something else.
            StoreRefused, StoreUnavailable, StoreDenied, StoreFull: the key is absent, or holds all of the bytes.
        """
        body = body_of(new.media, memory_bytes=self.memory_bytes)
        lock = self.attributes.lock.lock(new.origin.dated_at if new.origin else None, now=self.now())
        with self.keys.hold(new.key):
            # A store that would overwrite is asked first; this process is then the only writer (the archive's lock).
            free = self.abilities.conditional_writes or self.names.take(self.connection, new.key)
            found = None if free else look(self.connection, new.key)
            if found is None and (reply := self.send(new, body, lock)) is not None:
                if not (beside and self._proves(reply, body, lock)):
                    self.confirm(new.key, body, lock)
                return StoredObject(new.key, body.size_bytes, adopted=False)
            self._adopt(new.key, found or look(self.connection, new.key), body, lock)
            return StoredObject(new.key, body.size_bytes, adopted=True)

    def send(
        self, new: NewObject, body: Body, lock: Lock, *, condition: bool | None = None
    ) -> Mapping[str, Any] | None:
        """Send a body; the store's reply, None when it says that the key is taken. `condition` overrules what it can do.

        Raises:
            StoreMismatch, StoreRefused, StoreUnavailable, StoreDenied, StoreFull.
        """
        params = self._params(new, body) | self.attributes.params() | lock.params()
        if self.abilities.conditional_writes if condition is None else condition:
            params["IfNoneMatch"] = "*"
        for pause_s in (*_PAUSES_S, None):
            try:
                reply: Mapping[str, Any] = self.connection.call(
                    "put_object", new.key, seen=TAKEN | CONFLICT, Body=body.data, **params
                )
            except Refused as refused:
                if refused.code in TAKEN:
                    return None
            else:
                return reply
            if pause_s is not None:
                time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        raise StoreUnavailable(f"{new.key}: the store says again and again that another write to this key is under way")

    def confirm(self, key: str, body: Body, lock: Lock) -> Mapping[str, Any]:
        """Read the head back after a write; it must show what was sent.

        Raises:
            StoreMismatch: the size or a digest differs.
            StoreDenied: the lock is not there.
            StoreUnavailable: the object is not to be seen, or the store can't tell.
        """
        found = look(self.connection, key)
        if found is None:
            raise StoreUnavailable(f"{key}: the store took the object and does not show it")
        if found["ContentLength"] != body.size_bytes:
            raise StoreMismatch(f"{key}: the store keeps {found['ContentLength']} of {body.size_bytes} bytes")
        if sha256_of(found) not in {None, body.sha256}:
            raise StoreMismatch(f"{key}: the store tells another SHA-256 than was sent")
        if self.abilities.etag_is_md5 and md5_of(found) not in {None, body.md5}:
            raise StoreMismatch(f"{key}: the store tells another MD5 than was sent")
        _check_lock(key, found, lock)
        return found

    def _proves(self, reply: Mapping[str, Any], body: Body, lock: Lock) -> bool:
        """Whether a store whose ETags are MD5s tells the MD5 of what it took, and there is no lock to be read back."""
        no_lock = lock.until_at is None and not lock.legal_hold
        return no_lock and self.abilities.etag_is_md5 and md5_of(reply) == body.md5

    def _params(self, new: NewObject, body: Body) -> dict[str, Any]:
        params: dict[str, Any] = {
            "ContentLength": body.size_bytes,
            "ContentType": new.content_type,
            "ContentMD5": base64.b64encode(body.md5).decode("ascii"),
            "Metadata": metadata(body.sha256, new.origin),
        }
        if self.attributes.checksum == "sha256":
            params["ChecksumAlgorithm"] = "SHA256"
            params["ChecksumSHA256"] = base64.b64encode(body.sha256).decode("ascii")
        return params

    def _adopt(self, key: str, found: Mapping[str, Any] | None, body: Body, lock: Lock) -> None:
        if found is None:
            raise StoreUnavailable(f"{key}: the store says that the key is taken, and shows no object")
        same = holds(found, body)
        if same is None:
            same = self._digest(key) == body.sha256
        if not same:
            raise ObjectDiffers(f"{key} holds other bytes ({found['ContentLength']}, we have {body.size_bytes})")
        self._extend_lock(key, found, lock)

    def _digest(self, key: str) -> bytes:
        digest = hashlib.sha256()
        for chunk in self.connection.body(self.connection.call("get_object", key), key):
            digest.update(chunk)
        return digest.digest()

    def _extend_lock(self, key: str, found: Mapping[str, Any], lock: Lock) -> None:
        """Give an adopted object the lock that a new one would have; retention is only ever extended."""
        version = {"VersionId": found["VersionId"]} if found.get("VersionId") else {}
        short, no_hold = lock.lacks_retention(found), lock.lacks_hold(found)
        if short:
            mode = "COMPLIANCE" if found.get("ObjectLockMode") == "COMPLIANCE" else lock.mode
            retention = {"Mode": mode, "RetainUntilDate": lock.until_at}
            self.connection.call("put_object_retention", key, Retention=retention, **version)
        if no_hold:
            self.connection.call("put_object_legal_hold", key, LegalHold={"Status": "ON"}, **version)
        if short or no_hold:
            _check_lock(key, look(self.connection, key) or {}, lock)


def _check_lock(key: str, found: Mapping[str, Any], lock: Lock) -> None:
    if lock.lacks_retention(found) or lock.lacks_hold(found):
        wanted = f"{lock.mode or 'no retention'} until {lock.until_at}{', legal hold' if lock.legal_hold else ''}"
        raise StoreDenied(
            f"{key}: the store does not show the lock it was given ({described(found)} instead of {wanted}): "
            "let the policy allow s3:GetObjectRetention and s3:GetObjectLegalHold, or use a store that has Object Lock"
        )
