"""Reads what lies in the store for a rebuild: each recording's objects and sidecars, and what does not fit together."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import groupby, islice

import msgspec

from archiver.errors import ObjectNotFound, StoreRefused
from archiver.keys import TOMBSTONE_ENDING, safe_id, sidecar_key
from archiver.ledger.values_rebuilding import StoredRecording
from archiver.ledger.values_retention import StoredTombstone
from archiver.pbx.payloads import recording_of
from archiver.proof.retention.tombstones import said_by, stored_tombstone
from archiver.recording import Fixity, Recording
from archiver.stores.base import ObjectHead, Store

_NAME = re.compile(r"([^.]+)(?:\.v([1-9][0-9]{0,8}))?\.([a-z0-9]+)\Z")
_BESIDE = ".json"
_SHA256_BYTES = 32
_MOST_BYTES = 64 << 20
"""More than a whole page of metadata may have."""
_BEFORE_METADATA = b', "recording": '


class Misfit(StrEnum):
    """Why something in the store was not entered, or was entered and needs a look."""

    OBJECT_WITHOUT_SIDECAR = "object_without_sidecar"
    SIDECAR_WITHOUT_OBJECT = "sidecar_without_object"
    NO_SIDECAR = "no_sidecar"
    CONTRADICTS = "contradicts"
    SIZE = "size"
    DIGEST = "digest"
    LEDGER_DIFFERS = "ledger_differs"
    EXPIRED = "expired"
    NO_TOMBSTONE = "no_tombstone"
    UNREADABLE = "unreadable"


class RebuildProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One key that does not fit, and why."""

    kind: Misfit
    key: str
    reason: str


class _Said(msgspec.Struct):
    """A sidecar's fields that a rebuild needs."""

    schema: int
    account_id: str
    recording_id: str
    key: str
    size_bytes: int
    sha256: str
    archived_at: datetime
    run_id: str
    recording: msgspec.Raw


_decode = msgspec.json.Decoder(_Said).decode


@dataclass(slots=True)
class Read:
    """What a share of the store came to: recordings to enter, problems, and the keys of objects without a sidecar."""

    stored: list[StoredRecording] = field(default_factory=list)
    tombstones: list[StoredTombstone] = field(default_factory=list)
    problems: list[RebuildProblem] = field(default_factory=list)
    bare: list[str] = field(default_factory=list)
    objects: int = 0
    sidecars: int = 0
    size_bytes: int = 0

    def problem(self, kind: Misfit, key: str, reason: str) -> None:
        """Note what does not fit."""
        self.problems.append(RebuildProblem(kind=kind, key=key, reason=reason))


Group = Sequence[ObjectHead]


class Groups:
    """A store's objects, all of one recording's name together; blocking, for one thread at a time."""

    def __init__(self, heads: Iterable[ObjectHead]) -> None:
        # A name without its versions and extensions holds no dot, so that its objects follow one another.
        self._groups = groupby(heads, lambda head: _stem(head.key))

    def some(self, count: int) -> list[Group]:
        """The next ones, none at the end.

        Raises:
            StoreUnavailable, StoreDenied: the listing can't be completed.
        """
        return [list(group) for _, group in islice(self._groups, count)]


def read_groups(store: Store, groups: Sequence[Group], *, full: bool) -> Read:
    """Read the sidecars of these; with `full` the recordings too, to the last byte.

    Raises:
        StoreUnavailable, StoreDenied: the store does not answer.
    """
    read = Read()
    for whole in groups:
        group = _without_the_gone(store, whole, read)
        media = {head.key: head for head in group if not head.key.endswith(_BESIDE)}
        claimed: set[str] = set()
        for head in group:
            if head.key.endswith(_BESIDE):
                read.sidecars += 1
                claimed.update(_read_sidecar(store, head, media, read, full=full))
        read.objects += len(media)
        read.size_bytes += sum(head.size_bytes for head in media.values())
        read.bare += [key for key in media if key not in claimed]
    return read


def _without_the_gone(store: Store, group: Group, read: Read) -> Group:
    """The objects of a recording, but for its tombstone and what that says is to be removed."""
    dead = next((head for head in group if head.key.endswith(TOMBSTONE_ENDING)), None)
    if dead is None:
        return group
    rest = [head for head in group if head is not dead]
    try:
        body = b"".join(store.open(dead.key)) if dead.size_bytes <= _MOST_BYTES else b""
    except (ObjectNotFound, StoreRefused) as error:
        read.problem(Misfit.UNREADABLE, dead.key, str(error))
        return rest
    said = said_by(body)
    keys = set() if said is None else {*said.keys, *map(sidecar_key, said.keys)}
    lying = {head.key for head in rest}
    elsewhere = [key for key in keys - lying if not key.startswith(f"{_stem(dead.key)}.")]
    found = stored_tombstone(dead.key, body, is_alone=not keys & lying and not any(map(store.head, elsewhere)))
    if isinstance(found, str):
        read.problem(Misfit.NO_TOMBSTONE, dead.key, found)
        return rest
    read.tombstones.append(found)
    return [head for head in rest if head.key not in keys]


def _read_sidecar(
    store: Store, head: ObjectHead, media: dict[str, ObjectHead], read: Read, *, full: bool
) -> Iterator[str]:
    """Yields the keys of the objects that this sidecar stands beside, whether it fits or not."""
    key = head.key
    stem = key.removesuffix(_BESIDE)
    beside = [name for name in media if name.rpartition(".")[0] == stem]
    try:
        data = b"".join(store.open(key)) if head.size_bytes <= _MOST_BYTES else b""
    except (ObjectNotFound, StoreRefused) as error:
        read.problem(Misfit.UNREADABLE, key, str(error))
        yield from beside
        return
    said = _said(data)
    if said is None:
        read.problem(Misfit.NO_SIDECAR, key, "it can't be understood as a sidecar")
        yield from beside
        return
    if said.key.rpartition(".")[0] == stem and said.key not in media:
        read.problem(Misfit.SIDECAR_WITHOUT_OBJECT, key, f"{said.key} is not there")
        return
    found = _stored(said, key, hashlib.sha256(data).digest())
    if isinstance(found, str):
        read.problem(Misfit.CONTRADICTS, key, found)
        yield from beside
        return
    yield found.key
    # Entered all the same: only then does a verification tell the damage, and a repair mend it.
    _compare(store, found, media[found.key], read, full=full)
    read.stored.append(found)


def _compare(store: Store, said: StoredRecording, head: ObjectHead, read: Read, *, full: bool) -> None:
    if head.size_bytes != said.fixity.size_bytes:
        reason = f"{head.size_bytes} bytes lie there, the sidecar says {said.fixity.size_bytes}"
        read.problem(Misfit.SIZE, said.key, reason)
    elif full:
        try:
            found = store.fixity(said.key)
        except (ObjectNotFound, StoreRefused) as error:
            read.problem(Misfit.UNREADABLE, said.key, str(error))
            return
        if found != said.fixity:
            read.problem(Misfit.DIGEST, said.key, f"its SHA-256 is {found.sha256.hex()}, not the sidecar's")


def _said(data: bytes) -> _Said | None:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    except RecursionError:
        return None
    # A lone surrogate in an id stops msgspec, and is no fault of the sidecar.
    head, marked, metadata = data.partition(_BEFORE_METADATA)
    if not marked or b"\\u" not in head or not metadata.endswith(b"}\n"):
        return None
    try:
        found = json.loads(head + b"}")
        at = datetime.fromisoformat(found["archived_at"])
        return _Said(
            schema=int(found["schema"]),
            account_id=str(found["account_id"]),
            recording_id=str(found["recording_id"]),
            key=str(found["key"]),
            size_bytes=int(found["size_bytes"]),
            sha256=str(found["sha256"]),
            archived_at=at,
            run_id=str(found["run_id"]),
            recording=msgspec.Raw(metadata[:-2]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _stored(said: _Said, sidecar: str, sha256: bytes) -> StoredRecording | str:
    """What a sidecar describes, or in what it contradicts its place or itself."""
    folder, _, name = said.key.rpartition("/")
    match = _NAME.match(name)
    if said.schema != 1:
        return f"schema {said.schema} is of a newer program"
    if match is None or said.key.rpartition(".")[0] + _BESIDE != sidecar:
        return f"it speaks of {said.key[:300]!a}, which does not lie beside it"
    if match[1] != safe_id(said.recording_id) or safe_id(said.account_id) not in folder.split("/"):
        return "its account and recording don't belong under this name"
    digest = _digest(said.sha256)
    if digest is None or not 0 <= said.size_bytes < 1 << 63 or said.archived_at.tzinfo is None:
        return "its size, digest or time make no sense"
    recording = _recording(said, extension=match[3])
    if recording is None:
        return "its metadata are those of another recording"
    fixity = Fixity(said.size_bytes, digest)
    return StoredRecording(recording, int(match[2] or 1), said.key, fixity, sha256, said.archived_at, said.run_id)


def _recording(said: _Said, *, extension: str) -> Recording | None:
    metadata = bytes(said.recording)
    if metadata != b"null":
        return recording_of(metadata, account_id=said.account_id, recording_id=said.recording_id)
    ids = said.account_id, said.recording_id
    return Recording(*ids, None, None, None, None, None, extension, b"")


def _digest(text: str) -> bytes | None:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        return None
    return digest if len(digest) == _SHA256_BYTES else None


def _stem(key: str) -> str:
    """A key up to the first dot of its name."""
    at = key.find(".", key.rfind("/") + 1)
    return key if at < 0 else key[:at]
