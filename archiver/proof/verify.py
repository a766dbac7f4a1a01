"""Verification at three depths, both ways between ledger, sidecars and store.

*presence*: every archived recording has its object and its sidecar, and nothing else lies there. *size*: the sizes agree
too, by the store's listing. *full*: every byte is read and digested.
"""

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from archiver import sidecar
from archiver.errors import ObjectNotFound, StoreRefused
from archiver.keys import sidecar_key
from archiver.ledger.base import Ledger
from archiver.pipeline.threads import Threads
from archiver.proof.findings import Difference, Facts, Finding, Stray, findings_of
from archiver.proof.inventory import Expected, Line, Part, expected_objects, lines
from archiver.recording import Fixity
from archiver.stores.base import ObjectHead, Store
from archiver.window import Window

_SIDE_BY_SIDE = 16
_BUSY_FOR = timedelta(minutes=15)
"""While a run is active, an object younger than this may be on its way into the ledger."""
SHARES = 10_000


class Level(StrEnum):
    """How deep to look."""

    PRESENCE = "presence"
    SIZE = "size"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Scope:
    """What to look at.

    `period` of the calls' dates, None for all; `sidecars` whether each recording should have one. Of all recordings a
    share: `share` of 10,000 from `share_from` on, which goes round the corner at the end.
    """

    level: Level
    period: Window | None = None
    share_from: int = 0
    share: int = SHARES
    sidecars: bool = True

    def sampled(self, key: str) -> bool:
        """Whether a key is in the share; a recording and its sidecar are always together."""
        place = zlib.crc32(key.rpartition(".")[0].encode("ascii", "replace")) % SHARES
        return (place - self.share_from) % SHARES < self.share


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """How many recordings were looked at and their bytes (all of them read in *full*), and what does not agree."""

    level: Level
    sample_percent: float
    objects: int
    bytes: int
    findings: list[Finding]


async def verify(
    ledger: Ledger, store: Store, threads: Threads, scope: Scope, *, stale: Sequence[str], busy_at: datetime | None
) -> VerifyReport:
    """Compare ledger and store. `stale` are temporary files of no run; `busy_at` is now when a run is active, else None.

    Raises:
        LedgerError, StoreError: the comparison itself is not possible.
    """
    facts = Facts(stale=list(stale))
    objects = size_bytes = 0
    room = asyncio.Semaphore(_SIDE_BY_SIDE)
    async with asyncio.TaskGroup() as group:
        async for line in _in_scope(ledger, store, threads, scope):
            if line.expected is None:
                if line.head is not None and not (busy_at and line.head.modified_at > busy_at - _BUSY_FOR):
                    facts.strays.append(Stray(line.head))
                continue
            if line.expected.part is Part.MEDIA:
                objects += 1
                size_bytes += line.expected.entry.fixity.size_bytes
            if line.head is None:
                facts.missing.append(line.expected)
            elif scope.level is Level.SIZE:
                facts.different += _other_size(line.expected, line.head)
            elif scope.level is Level.FULL:
                await room.acquire()
                group.create_task(_read(facts, store, threads, line.expected, room))
    if scope.level is Level.FULL and any(item.part is Part.MEDIA for item in facts.missing):
        # Only now do they matter: one of them may be what is missing, under another name.
        facts.strays = [await threads.run(_stray, store, stray) for stray in facts.strays]
    return VerifyReport(
        level=scope.level,
        sample_percent=scope.share * 100 / SHARES,
        objects=objects,
        bytes=size_bytes,
        findings=findings_of(facts),
    )


async def _in_scope(ledger: Ledger, store: Store, threads: Threads, scope: Scope) -> AsyncIterator[Line]:
    """The lines that are asked for; what no entry names belongs to no period."""
    async for line in lines(expected_objects(ledger, sidecars=scope.sidecars), store, threads):
        key = line.expected.key if line.expected else line.head.key if line.head else ""
        if scope.share < SHARES and not scope.sampled(key):
            continue
        if scope.period is not None and (line.expected is None or line.expected.entry.dated_at not in scope.period):
            continue
        yield line


def _other_size(expected: Expected, head: ObjectHead) -> list[Difference]:
    if expected.part is Part.SIDECAR or head.size_bytes == expected.entry.fixity.size_bytes:
        return []
    return [Difference(expected, Fixity(head.size_bytes, b""))]


async def _read(facts: Facts, store: Store, threads: Threads, expected: Expected, room: asyncio.Semaphore) -> None:
    try:
        found = await threads.run(_media if expected.part is Part.MEDIA else _sidecar, store, expected)
    finally:
        room.release()
    if isinstance(found, Difference):
        facts.different.append(found)
    elif found is not None:
        facts.missing.append(found)


def _media(store: Store, expected: Expected) -> Difference | Expected | None:
    """What is wrong with a recording: a difference, itself when it is gone, or None."""
    try:
        found = fixity_of(store, expected.key)
    except ObjectNotFound:
        return expected
    except StoreRefused as error:
        return Difference(expected, str(error))
    if found == expected.entry.fixity:
        return None
    return Difference(expected, found, ledger_alone=_sidecar_says(store, expected, found))


def _sidecar_says(store: Store, expected: Expected, found: Fixity) -> bool:
    """Whether the sidecar, unchanged as far as anybody can tell, says just what was found."""
    try:
        data = b"".join(store.open(sidecar_key(expected.key)))
    except (ObjectNotFound, StoreRefused):
        return False
    noted, said = expected.entry.sidecar_sha256, sidecar.decode(data)
    unchanged = noted is None or hashlib.sha256(data).digest() == noted
    return unchanged and said is not None and (said.key, said.fixity) == (expected.key, found)


def _sidecar(store: Store, expected: Expected) -> Difference | Expected | None:
    """What is wrong with a sidecar; where the ledger never noted its digest, what it says of its recording must do."""
    entry = expected.entry
    try:
        data = b"".join(store.open(expected.key))
    except ObjectNotFound:
        return expected
    except StoreRefused as error:
        return Difference(expected, str(error))
    found = Fixity(len(data), hashlib.sha256(data).digest())
    if entry.sidecar_sha256 is not None:
        return None if found.sha256 == entry.sidecar_sha256 else Difference(expected, found)
    said = sidecar.decode(data)
    ours = (entry.key, entry.account_id, entry.recording_id, entry.fixity)
    agrees = said is not None and (said.key, said.account_id, said.recording_id, said.fixity) == ours
    return None if agrees else Difference(expected, found)


def _stray(store: Store, stray: Stray) -> Stray:
    try:
        return replace(stray, fixity=fixity_of(store, stray.head.key))
    except (ObjectNotFound, StoreRefused):
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
