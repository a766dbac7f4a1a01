"""Whether a worker on another machine sees the very archive that a command works on; before, it gets nothing to do."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from archiver.destination import Destination, open_destination
from archiver.errors import ArchiverError, StoreError
from archiver.ledger.ledger import open_ledger
from archiver.pipeline.threads import seen_through
from archiver.proof.evidence.audit_copies import copies_in
from archiver.settings import Settings
from archiver.stores.notes import Notes

_NOTES = "cluster"
_REMEMBERED_S = 5.0
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Mark:
    """What is to be seen: a note in the archive's folder, or the objects of a bucket's audit trail, by their keys.

    `run_id` is of a run that the ledger must know, empty when any ledger will do; only who `writes` must be able to.
    """

    note: str
    trail: frozenset[str] | None
    run_id: str
    writes: bool


@asynccontextmanager
async def marked(destination: Destination, *, run_id: str, writes: bool) -> AsyncIterator[Mark]:
    """Put a mark into the archive while the block lasts. In a bucket nothing is put: no two have the same trail.

    Raises:
        StoreError.
    """
    if destination.remote:
        heads = await seen_through(lambda: copies_in(destination.store))
        yield Mark("", frozenset(head.key for head in heads), run_id, writes)
        return
    note, notes = secrets.token_hex(8), Notes(destination.folder, _NOTES)
    await seen_through(lambda: notes.write(note, b"{}"))
    try:
        yield Mark(note, None, run_id, writes)
    finally:
        with suppress(StoreError):
            await seen_through(lambda: notes.remove(note))


def wrong_with_worker(settings: Settings, mark: Mark) -> str:
    """What keeps this worker from working on the archive, in words; empty when nothing does."""
    try:
        return wrong_with_place(settings, mark) or asyncio.run(_ledger(settings, mark))
    except ArchiverError as error:
        return str(error)


def wrong_with_place(settings: Settings, mark: Mark) -> str:
    """Likewise, without a look at the ledger."""
    try:
        return _archive(settings, mark)
    except ArchiverError as error:
        return str(error)


def _archive(settings: Settings, mark: Mark) -> str:
    remote = mark.trail is not None
    destination = open_destination(settings, durable=settings.archive.durable, make=remote)
    try:
        if mark.trail is None:
            if not _is_seen(mark.note, Notes(destination.folder, _NOTES)):
                return f"{destination.folder.path} is not the archive of this run there: mount the same file system"
        elif not mark.trail <= {head.key for head in copies_in(destination.store)}:
            return "its bucket is not the one of this run: look at store.s3.endpoint_url and at its credentials"
        if mark.writes:
            destination.join()
    finally:
        destination.close()
    return ""


def _is_seen(note: str, notes: Notes) -> bool:
    """A host that looked into the folder before may remember it a while as it was (NFS)."""
    until_s = time.monotonic() + _REMEMBERED_S
    while note not in notes.read():
        if time.monotonic() >= until_s:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


async def _ledger(settings: Settings, mark: Mark) -> str:
    ledger = await open_ledger(settings.ledger_url(), create=False)
    try:
        known = not mark.run_id or await ledger.find_run(mark.run_id) is not None
    finally:
        await ledger.close()
    return "" if known else "the ledger that it reaches is not the one of this run"
