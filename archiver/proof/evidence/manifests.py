"""Manifests: for each account and day the SHA-256 of every archived object, in the format of `sha256sum`.

A day's manifest comes in parts, each an immutable object: what is archived later comes in a later part. The day is the one
that the object is filed under. Keys hold none of the characters that `sha256sum` would escape (`archiver.keys`).
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo

from archiver.errors import ObjectDiffers
from archiver.keys import MANIFESTS_PREFIX, safe_id, sidecar_key
from archiver.ledger.base import Ledger
from archiver.ledger.values_sealing import Sealable, Sealed, Unsealed
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import Details, Draft, What
from archiver.proof.evidence.in_memory import InMemory
from archiver.proof.evidence.recorder import Recorder
from archiver.recording import filed_at
from archiver.stores.base import NewObject, Origin, Store

_BATCH = 20_000
"""Objects that are taken in hand at once, some 20 MB."""
_MOST_TAKEN = 1000
_LINE = re.compile(rb"([0-9a-f]{64})  (\S+)\n\Z")
_PART = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.([1-9]\d{0,8}))?\.sha256\Z")


def manifest_key(account_id: str, day: str, part: int) -> str:
    """The key of a part, 1-based."""
    return f"{MANIFESTS_PREFIX}{safe_id(account_id)}/{day}{f'.{part}' if part > 1 else ''}.sha256"


def day_of(recording_id: str, called_at: datetime | None, timezone: tzinfo) -> str:
    """The day that a recording is filed under, as YYYY-MM-DD."""
    return f"{filed_at(recording_id, called_at).astimezone(timezone):%Y-%m-%d}"


def lines_of(objects: Sequence[Unsealed]) -> bytes:
    """A manifest of these objects and their sidecars, in the order of the keys."""
    found = [(each.key, each.sha256) for each in objects]
    found += [(sidecar_key(each.key), each.sidecar_sha256) for each in objects if each.sidecar_sha256 is not None]
    return b"".join(f"{sha256.hex()}  {key}\n".encode("ascii") for key, sha256 in sorted(found))


@dataclass(slots=True)
class _Day:
    """What became of a day's objects: which part names each, and what the audit trail shall say of the parts."""

    sealed: list[Sealed] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sealer:
    """Writes manifests of what no manifest names yet; the archive's lock must be held.

    Part, record in the audit trail, ledger: in this order. Killed in between, the next sealing finds the part in the store
    and takes it for what it is, so that every object is named once. The same heals a ledger that knows of no manifests.
    """

    ledger: Ledger
    store: Store
    threads: Threads
    recorder: Recorder
    timezone: tzinfo
    run_id: str
    batch: int = _BATCH

    async def seal(self) -> int:
        """Seal everything; how many objects it was.

        Raises:
            StoreError, LedgerError: the next sealing does what is left.
        """
        count = 0
        while objects := await self.ledger.unsealed(self.batch):
            days: dict[tuple[str, str], list[Unsealed]] = {}
            for each in objects:
                days.setdefault((each.account_id, self._day(each)), []).append(each)
            done = _Day()
            for (account_id, day), group in sorted(days.items()):
                await self.threads.run(self._seal_day, account_id, day, group, done)
            await self.recorder.add(done.drafts)
            await self.ledger.seal(done.sealed)
            count += len(objects)
        return count

    def _day(self, each: Unsealed) -> str:
        return each.day or day_of(each.recording_id, each.called_at, self.timezone)

    def _seal_day(self, account_id: str, day: str, objects: Sequence[Unsealed], done: _Day) -> None:
        left = {each.key: each for each in objects}
        last = 0
        for part in parts_of(self.store, account_id, day):
            last = max(last, part)
            named = self._named(manifest_key(account_id, day, part), left, done)
            done.sealed += [Sealed(left.pop(key), part) for key in named]
        if left:
            part = self._put(account_id, day, last + 1, list(left.values()), done)
            done.sealed += [Sealed(each, part) for each in left.values()]

    def _named(self, key: str, left: dict[str, Unsealed], done: _Day) -> list[str]:
        """Which of the objects an earlier part names: a dead process put it and came no further."""
        named: list[str] = []
        digest, size_bytes, count = hashlib.sha256(), 0, 0
        for line in _lines(self.store.open(key)):
            digest.update(line)
            size_bytes += len(line)
            count += 1
            match = _LINE.match(line)
            found = left.get(match[2].decode("ascii", "replace")) if match is not None else None
            if match is not None and found is not None and found.sha256.hex().encode() == match[1]:
                named.append(found.key)
        if named:
            done.drafts.append(_draft(key, digest.hexdigest(), size_bytes, count, "found_again"))
        return named

    def _put(self, account_id: str, day: str, part: int, objects: Sequence[Unsealed], done: _Day) -> int:
        media = InMemory(lines_of(objects))
        origin = Origin(account_id, "", self.run_id, self._dated_at(objects))
        for taken in range(part, part + _MOST_TAKEN):
            key = manifest_key(account_id, day, taken)
            try:
                self.store.put([NewObject(key, media, "text/plain", origin)])
            except ObjectDiffers:
                # Somebody else's, or one that the store did not list.
                continue
            count = len(objects) + sum(each.sidecar_sha256 is not None for each in objects)
            digest, size_bytes = media.fixity.sha256.hex(), media.fixity.size_bytes
            done.drafts.append(_draft(key, digest, size_bytes, count, "written"))
            return taken
        raise ObjectDiffers(f"{manifest_key(account_id, day, part)} and {_MOST_TAKEN} names after it are taken")

    def _dated_at(self, objects: Sequence[Unsealed]) -> datetime | None:
        """The latest of their calls, so that a part is locked for as long as what it names; None counts from now."""
        latest: datetime | None = None
        for each in objects:
            called_at = each.called_at
            if each.where is Sealable.CDRS:
                end = datetime.fromisoformat(each.day).date() + timedelta(days=1)
                called_at = datetime.combine(end, time(), self.timezone)
            if called_at is None:
                return None
            latest = called_at if latest is None else max(latest, called_at)
        return latest


def parts_of(store: Store, account_id: str, day: str) -> list[int]:
    """The parts of a day's manifest that the store shows.

    Raises:
        StoreUnavailable, StoreDenied.
    """
    heads = store.list(f"{MANIFESTS_PREFIX}{safe_id(account_id)}/{day}.")
    found = [_PART.match(head.key.rpartition("/")[2]) for head in heads]
    return sorted(int(match[2] or 1) for match in found if match is not None)


def _draft(key: str, digest: str, size_bytes: int, count: int, result: str) -> Draft:
    return Draft(What.MANIFEST, key, result, Details(sha256=digest, size_bytes=size_bytes, lines=count))


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines with their newlines; the last may lack one."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest
