"""`archiver ledger copy`: the ledger in another database, row for row, while nobody works on the archive."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from archiver.assembly import utc_now
from archiver.errors import SettingsError
from archiver.ledger.copying import CopiedTable, copy_ledger
from archiver.ledger.ledger import SQLITE_PREFIX
from archiver.ledger.places import words_for
from archiver.ledger.postgresql_address import is_postgresql
from archiver.pipeline.threads import seen_through
from archiver.reports.copy_report import CopiedTableRow, CopyReport
from archiver.settings import Settings
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.lock import ArchiveLock


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What `ledger copy` was asked for: two addresses; an empty `source` is the ledger that the settings name."""

    target: str
    source: str = ""


async def run_copy(
    settings: Settings, request: CopyRequest, *, stop: asyncio.Event, now: Callable[[], datetime] = utc_now
) -> CopyReport:
    """`archiver ledger copy`: whole and compared, or not at all; the source stays as it is.

    The archive's lock is held meanwhile, and what keeps others from writing to either ledger.

    Raises:
        SettingsError: an address that is none, nothing to copy, or something where it should go.
        ArchiveInUse: a run works on the archive.
        ArchiverError.
    """
    source, target = request.source or settings.ledger_url(), request.target
    for option, url in (("--from", source), ("--to", target)):
        if not (is_postgresql(url) or url.startswith(SQLITE_PREFIX)):
            # Not shown, since it may hold a password.
            raise SettingsError(f"{option} is no ledger's address: use postgresql://… or sqlite:/// and a full path")
    at = now().replace(microsecond=0)
    begun_s = asyncio.get_running_loop().time()
    with ExitStack() as stack:
        folder = ArchiveFolder(settings.store.local.root, durable=settings.archive.durable, make=False)
        stack.callback(folder.close)
        name = f"{at:%Y%m%dT%H%M%SZ}-copy-{secrets.token_hex(4)}"
        stack.callback(ArchiveLock(folder, run_id=name, started_at=at).close)
        copied = await seen_through(lambda: copy_ledger(source, target, at=at, stopped=stop.is_set))
    took_s = asyncio.get_running_loop().time() - begun_s
    return _report(settings, source, target, copied, took_s)


def _report(
    settings: Settings, source: str, target: str, copied: Sequence[CopiedTable] | None, took_s: float
) -> CopyReport:
    tables = [
        CopiedTableRow(table=each.name, rows=each.digest.rows, sha256=each.digest.sha256.hex()) for each in copied or ()
    ]
    done = copied is not None
    return CopyReport(
        outcome="complete" if done else "interrupted",
        source=words_for(source),
        target=words_for(target),
        checked=done,
        rows=sum(table.rows for table in tables),
        tables=tables,
        duration_s=round(took_s, 3),
        next=_next(settings, target) if done else "The same command begins anew.",
    )


def _next(settings: Settings, target: str) -> str:
    if settings.ledger_url() == target:
        return "The settings name the copy already: use the other ledger no more."
    return (
        f"Set ledger.url in {settings.source_file} to the address of the copy, here and wherever else the archiver "
        "works on this archive. The other ledger stays where it is, and must not be used any more."
    )
