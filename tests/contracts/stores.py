"""The stores that `test_store_contract.py` holds to the promise, and media that keep or break theirs."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import s3_kinds

from archiver.recording import Fixity
from archiver.stores.base import NewObject, Origin, Store
from archiver.stores.local import LocalStore


@dataclass(frozen=True, slots=True)
class Bytes:
    """Media in memory; `says` is the fixity they claim, by default the true one."""

    data: bytes
    says: Fixity | None = None
    chunk_bytes: int = 1 << 16

    @property
    def fixity(self) -> Fixity:
        return self.says or fixity(self.data)

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self.data), self.chunk_bytes):
            yield self.data[start : start + self.chunk_bytes]


@dataclass(frozen=True, slots=True)
class Breaking:
    """Media whose source fails after `data`."""

    data: bytes
    fixity: Fixity

    def chunks(self) -> Iterator[bytes]:
        yield self.data
        raise OSError(5, "the source broke")


@dataclass(frozen=True, slots=True)
class Endless:
    """Media that never end."""

    fixity: Fixity

    def chunks(self) -> Iterator[bytes]:
        while True:
            yield bytes(1 << 16)


def fixity(data: bytes) -> Fixity:
    return Fixity(len(data), hashlib.sha256(data).digest())


def new(key: str, data: bytes) -> NewObject:
    return NewObject(key, Bytes(data), "audio/mpeg")


def old(key: str, data: bytes) -> NewObject:
    """Of a call so long ago that its retention is over in every kind of store, so that it may be removed."""
    return NewObject(
        key, Bytes(data), "audio/mpeg", Origin("acc", "202205-04f5", "run-1", datetime(2001, 2, 3, tzinfo=UTC))
    )


@contextmanager
def _local(root: Path, *, durable: bool) -> Iterator[Store]:
    store = LocalStore(root / "archive", durable=durable, reserve_bytes=0)
    try:
        yield store
    finally:
        store.close()


def _local_durable(root: Path) -> AbstractContextManager[Store]:
    return _local(root, durable=True)


def _local_fast(root: Path) -> AbstractContextManager[Store]:
    return _local(root, durable=False)


KINDS: dict[str, Callable[[Path], AbstractContextManager[Store]]] = {
    "local-durable": _local_durable,
    "local": _local_fast,
    **s3_kinds.KINDS,
}
"""By name: a store that is open for as long as the context lasts, given an empty folder; `prepare` is the caller's."""
