"""Reads single objects and says what is wrong with them; whatever a store raises but their absence goes to the caller."""

import hashlib
from dataclasses import replace

from archiver import sidecar
from archiver.errors import ObjectNotFound
from archiver.keys import sidecar_key
from archiver.proof.findings import Difference, Stray
from archiver.proof.inventory import Expected
from archiver.recording import Fixity
from archiver.stores.base import Store


def read_media(store: Store, expected: Expected) -> Difference | Expected | None:
    """What is wrong with a recording: a difference, itself when it is gone, or None."""
    try:
        found = fixity_of(store, expected.key)
    except ObjectNotFound:
        return expected
    if found == expected.entry.fixity:
        return None
    return Difference(expected, found, ledger_alone=_sidecar_says(store, expected, found))


def _sidecar_says(store: Store, expected: Expected, found: Fixity) -> bool:
    """Whether the sidecar, unchanged as far as anybody can tell, says just what was found."""
    try:
        data = b"".join(store.open(sidecar_key(expected.key)))
    except ObjectNotFound:
        return False
    noted, said = expected.entry.sidecar_sha256, sidecar.decode(data)
    unchanged = noted is None or hashlib.sha256(data).digest() == noted
    return unchanged and said is not None and (said.key, said.fixity) == (expected.key, found)


def read_sidecar(store: Store, expected: Expected) -> Difference | Expected | None:
    """What is wrong with a sidecar; where the ledger never noted its digest, what it says of its recording must do."""
    entry = expected.entry
    try:
        data = b"".join(store.open(expected.key))
    except ObjectNotFound:
        return expected
    found = Fixity(len(data), hashlib.sha256(data).digest())
    if entry.sidecar_sha256 is not None:
        return None if found.sha256 == entry.sidecar_sha256 else Difference(expected, found)
    said = sidecar.decode(data)
    ours = (entry.key, entry.account_id, entry.recording_id, entry.fixity)
    agrees = said is not None and (said.key, said.account_id, said.recording_id, said.fixity) == ours
    return None if agrees else Difference(expected, found)


def read_stray(store: Store, stray: Stray) -> Stray:
    """The stray with its fixity, unless it went meanwhile."""
    try:
        return replace(stray, fixity=fixity_of(store, stray.head.key))
    except ObjectNotFound:
        return stray


def fixity_of(store: Store, key: str) -> Fixity:
    """Read an object to its end.

    Raises:
        ObjectNotFound, StoreError.
    """
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in store.open(key):
        digest.update(chunk)
        size_bytes += len(chunk)
    return Fixity(size_bytes, digest.digest())
