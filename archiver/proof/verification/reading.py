"""Reads objects and says what is wrong with them; an absence is told apart from what a store does not give."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from archiver import sidecar
from archiver.errors import ObjectNotFound, StoreError
from archiver.keys import sidecar_key
from archiver.proof.verification.findings import Difference, Stray
from archiver.proof.verification.inventory import Expected
from archiver.recording import Fixity
from archiver.stores.base import Store

GONE_AFTER = 20
"""So many objects in a row that the store does not give are no findings any more."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of reading one object: what is wrong with it, or the error when the store does not give it."""

    expected: Expected
    wrong: Difference | Expected | None
    error: StoreError | None = None


def read_all_of(store: Store, portion: Sequence[Expected], stopped: Callable[[], bool]) -> list[Looked]:
    """Read objects to their ends until `stopped`, or until so many in a row failed that the store must be gone."""
    looked: list[Looked] = []
    failed = 0
    for expected in portion:
        if stopped() or failed >= GONE_AFTER:
            break
        try:
            looked.append(Looked(expected, read_object(store, expected)))
            failed = 0
        except StoreError as error:
            looked.append(Looked(expected, Difference(expected, str(error)), error))
            failed += 1
    return looked


def read_object(store: Store, expected: Expected) -> Difference | Expected | None:
    """What is wrong with an object: a difference, itself when it is gone, or None.

    Raises:
        StoreError: the store does not give it.
    """
    return _read_media(store, expected) if expected.is_media else _read_sidecar(store, expected)


def _read_media(store: Store, expected: Expected) -> Difference | Expected | None:
    try:
        found = store.fixity(expected.key)
    except ObjectNotFound:
        return expected
    if found == expected.fixity:
        return None
    return Difference(expected, found, ledger_alone=_sidecar_says(store, expected, found))


def _sidecar_says(store: Store, expected: Expected, found: Fixity) -> bool:
    """Whether the sidecar, unchanged as far as anybody can tell, says just what was found."""
    try:
        data = b"".join(store.open(sidecar_key(expected.key)))
    except ObjectNotFound:
        return False
    noted, said = expected.row.sidecar_sha256, sidecar.decode(data)
    unchanged = noted is None or hashlib.sha256(data).digest() == noted
    return unchanged and said is not None and (said.key, said.fixity) == (expected.key, found)


def _read_sidecar(store: Store, expected: Expected) -> Difference | Expected | None:
    """Where the ledger never noted its digest, what it says of its recording must do."""
    noted = expected.row.sidecar_sha256
    try:
        if noted is not None:
            found = store.fixity(expected.key)
            return None if found.sha256 == noted else Difference(expected, found)
        data = b"".join(store.open(expected.key))
    except ObjectNotFound:
        return expected
    entry, said = expected.entry, sidecar.decode(data)
    ours = (entry.key, entry.account_id, entry.recording_id, entry.fixity)
    agrees = said is not None and (said.key, said.account_id, said.recording_id, said.fixity) == ours
    return None if agrees else Difference(expected, Fixity(len(data), hashlib.sha256(data).digest()))


def read_stray(store: Store, stray: Stray) -> Stray:
    """The stray with its fixity, unless it went meanwhile."""
    try:
        return replace(stray, fixity=store.fixity(stray.head.key))
    except ObjectNotFound:
        return stray
