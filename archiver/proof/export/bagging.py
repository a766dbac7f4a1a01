"""Builds a bag in a folder without a name yet: media, sidecars, table, call records, audit lines, letter, manifests."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from archiver.errors import ArchiverError, StoreFull, first_of
from archiver.ledger.base import Ledger
from archiver.ledger.values_exporting import KnownRecording
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import TrailFile
from archiver.proof.export.call_records import Found, add_call_records
from archiver.proof.export.gathering import Gathered
from archiver.proof.export.letter import Asked, write_letter
from archiver.proof.export.payload import BagFolder, Handed, Payload, hand_all
from archiver.proof.export.table import write_table
from archiver.proof.export.tag_files import bag_info, check_bag, write_tag_files
from archiver.proof.export.trail_lines import Related, add_trail_lines
from archiver.proof.verification.findings import Finding
from archiver.proof.verification.reading import GONE_AFTER
from archiver.stores.base import Store

_SIDE_BY_SIDE = 16
_BYTES_TOGETHER = 4 << 20
_MOST_TOGETHER = 32
_BESIDE_EACH_BYTES = 16 << 10
"""A sidecar, its row, its audit records and the blocks they fill up."""
_BESIDE_ALL_BYTES = 1 << 20
_FILES_BESIDE = 64


@dataclass(frozen=True, slots=True)
class Bag:
    """A bag that is whole and durable, and has no name yet."""

    handed: Sequence[Handed]
    cdrs: Found
    audit_records: int
    manifest_sha256: str

    @property
    def findings(self) -> list[Finding]:
        """What is damaged or gone, and so is not in it."""
        return [found for each in self.handed for found in each.findings] + self.cdrs.findings

    @property
    def media(self) -> list[Handed]:
        """What has its audio in it."""
        return [each for each in self.handed if each.path]


async def build_bag(
    ledger: Ledger,
    store: Store,
    trail: TrailFile,
    threads: Threads,
    folder: BagFolder,
    asked: Asked,
    gathered: Gathered,
    *,
    not_found: Sequence[str],
    software: str,
    stop: asyncio.Event,
) -> Bag | None:
    """Build it; None when it was stopped. What remains then, or after an error, is for the caller to discard.

    Raises:
        StoreFull: there is not enough room, which is found out first where that can be told.
        LedgerError, StoreError: also when the store gives one object after another not.
    """
    check_room(folder, gathered)
    payload = Payload(folder)
    handed = await _copied(store, threads, payload, gathered.chosen, stop)
    if stop.is_set():
        return None
    zone = asked.timezone
    cdrs = await add_call_records(ledger, store, threads, payload, handed, zone, stopped=stop.is_set)
    if stop.is_set():
        return None
    records = await threads.run(add_trail_lines, trail, payload, Related(handed, zone))

    def closed() -> str:
        write_table(payload, handed, zone)
        write_letter(payload, asked, gathered, handed, cdrs, not_found)
        info = bag_info(asked.case, asked.reference, asked.by, asked.at.astimezone(zone), software)
        digest = write_tag_files(payload, info)
        if not stop.is_set():
            check_bag(payload)
            folder.settle()
        return digest

    digest = await threads.run(closed)
    return None if stop.is_set() else Bag(handed, cdrs, records, digest)


def check_room(folder: BagFolder, gathered: Gathered) -> None:
    """See that everything will fit, before anything is written.

    Raises:
        StoreFull: it won't.
    """
    room = folder.room()
    needed = gathered.size_bytes + _BESIDE_EACH_BYTES * len(gathered.chosen) + _BESIDE_ALL_BYTES
    if room.free_bytes is not None and room.free_bytes < needed:
        raise StoreFull(
            f"{folder.path.parent}: the bag needs some {_megabytes(needed)} MB and {_megabytes(room.free_bytes)} MB are "
            "free: make room, or export in parts"
        )
    files = 2 * gathered.objects + _FILES_BESIDE
    if room.free_inodes is not None and room.free_inodes < files:
        raise StoreFull(
            f"{folder.path.parent}: the bag has some {files} files, more than the file system has inodes left"
        )


async def _copied(
    store: Store, threads: Threads, payload: Payload, chosen: Sequence[KnownRecording], stop: asyncio.Event
) -> list[Handed]:
    """Everything copied that is whole, in the order of `chosen`."""
    room = asyncio.Semaphore(_SIDE_BY_SIDE)
    results: list[asyncio.Task[list[Handed]]] = []
    failed_in_a_row = 0

    async def copy(portion: Sequence[KnownRecording]) -> list[Handed]:
        nonlocal failed_in_a_row
        try:
            handed = await threads.run(hand_all, store, payload, portion, stopped=stop.is_set)
        finally:
            room.release()
        for each in handed:
            if each.version is not None:
                failed_in_a_row = failed_in_a_row + 1 if each.errors else 0
            if failed_in_a_row >= GONE_AFTER:
                raise each.errors[-1]
        return handed

    failed: ArchiverError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for portion in _portions(chosen):
                await room.acquire()
                if stop.is_set():
                    break
                results.append(group.create_task(copy(portion)))
    except* ArchiverError as errors:
        failed = first_of(errors)
    if failed is not None:
        raise failed
    return [each for task in results for each in task.result()]


def _portions(chosen: Sequence[KnownRecording]) -> list[Sequence[KnownRecording]]:
    """Small recordings together, large ones alone."""
    portions: list[Sequence[KnownRecording]] = []
    start, size_bytes = 0, 0
    for end, known in enumerate(chosen, 1):
        size_bytes += sum(version.fixity.size_bytes for version in known.objects)
        if size_bytes >= _BYTES_TOGETHER or end - start >= _MOST_TOGETHER:
            portions.append(chosen[start:end])
            start, size_bytes = end, 0
    return [*portions, chosen[start:]] if start < len(chosen) else portions


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f}"
