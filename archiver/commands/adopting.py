"""`archiver rebuild --adopt DIR`: recordings that another tool saved come into the archive without a download."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec

from archiver.assembly import (
    RunRequest,
    access,
    chosen_accounts,
    hands_for,
    limits_for,
    make_bench,
    partitions,
    utc_now,
)
from archiver.commands.restoring import Memory, memory_for_run
from archiver.destination import accept_compliance, open_destination
from archiver.engine.base import Watcher
from archiver.engine.here import Here
from archiver.errors import SettingsError
from archiver.evidence import Evidence
from archiver.ledger.values import Run
from archiver.pbx.session import PbxSession
from archiver.pipeline.producer import Order
from archiver.pipeline.run import Ended, Failure, run
from archiver.pipeline.threads import Threads, seen_through
from archiver.pipeline.tools import Bench
from archiver.proof.evidence import audit_drafts
from archiver.proof.restoration.adopt import Adoption
from archiver.proof.restoration.found_files import find_files
from archiver.reports.adopt_report import AdoptReport, adopt_report
from archiver.settings import Settings
from archiver.stores.disk import spoken
from archiver.stores.lock import ArchiveLock
from archiver.window import Window, parse_time


async def run_adopt(
    settings: Settings,
    request: RunRequest,
    folder: Path,
    *,
    stop: asyncio.Event,
    watcher: Watcher,
    now: Callable[[], datetime] = utc_now,
) -> AdoptReport:
    """List the period, look for each recording among the files, and archive those that fit; the rest stays pending.

    Raises:
        ArchiverError: when it could not begin; once it has, fatal errors are in the report.
    """
    async with AsyncExitStack() as stack:
        started_at = now().replace(microsecond=0)
        account_ids = chosen_accounts(settings, request.account_ids)
        period = _period(settings, request, started_at)
        leave_out = await seen_through(lambda: _checked(settings, folder))
        reach = access(settings)
        run_id = f"{started_at:%Y%m%dT%H%M%SZ}-adopt-{secrets.token_hex(4)}"
        destination = open_destination(settings, durable=settings.archive.durable)
        stack.callback(destination.close)
        stack.callback(ArchiveLock(destination.folder, run_id=run_id, started_at=started_at).close)
        accept_compliance(settings, accepted=False)
        await seen_through(destination.prepare)
        memory = await memory_for_run(settings, destination, stack, stop=stop, now=now)
        for account_id in account_ids:
            await memory.ledger.ask_for(account_id, [period])
        the_run = await memory.ledger.begin_run(run_id, started_at=started_at, holding=account_ids)
        await memory.begun(the_run)
        begun_s = asyncio.get_running_loop().time()
        hands = await hands_for(settings, destination, stack)
        pbx = await stack.enter_async_context(PbxSession(reach))
        wanted = {account_id: [period] for account_id in account_ids}
        seat = Here(partitions(settings, wanted, started_at), stop, watcher)
        bench = make_bench(settings, pbx, destination, hands, seat, run_id=run_id, now=now)
        found = await seen_through(lambda: list(find_files(folder, leave_out=leave_out)))
        adoption = Adoption(bench, found)
        seat.begin(seat.tally, pbx.traffic, lambda _: None)
        ended = await _listed(settings, the_run, account_ids, seat, bench, adoption, memory, now)
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        evidence = Evidence(settings, destination, memory.ledger, threads, run_id=run_id, now=now)
        ended = await _witnessed(evidence, ended, adoption, period, account_ids)
        if not ended.stopped and ended.error is None:
            await adoption.look_at_rest(memory.ledger, account_ids)
        report = adopt_report(
            adoption,
            seat.tally,
            ended,
            run_id=run_id,
            period=period,
            accounts=list(account_ids),
            took_s=asyncio.get_running_loop().time() - begun_s,
            notes=memory.notes,
        )
        encoded = msgspec.json.encode(report)
        await memory.ledger.end_run(the_run, outcome=report.outcome, ended_at=now(), report=encoded)
        await memory.ended(the_run)
        return report


async def _witnessed(
    evidence: Evidence, ended: Ended, adoption: Adoption, period: Window, account_ids: Sequence[str]
) -> Ended:
    """Name what was adopted in manifests and in the audit trail; what stood in the way is the end's error."""
    ended = await evidence.seal_after(ended)
    adopted = audit_drafts.adopted(period, account_ids, recordings=adoption.adopted, size_bytes=adoption.bytes_adopted)
    error = await evidence.witness([adopted])
    return ended if error is None else replace(ended, error=ended.error or Failure.of(error))


async def _listed(
    settings: Settings,
    the_run: Run,
    account_ids: Sequence[str],
    seat: Here,
    bench: Bench,
    adoption: Adoption,
    memory: Memory,
    now: Callable[[], datetime],
) -> Ended:
    """The listing, with each recording looked for among the files."""
    order = Order(
        run=the_run,
        take=seat.take,
        account_ids=tuple(account_ids),
        page_size=settings.pbx.page_size,
        side_by_side=settings.listing.concurrency,
        retry_missing=True,
    )
    return await run(
        order,
        bench,
        ledger=memory.ledger,
        limits=limits_for(settings),
        tally=seat.tally,
        stop=seat.stop,
        on_settled=lambda task, settlement: seat.settled(
            task.recording.account_id, task.recording.recording_id, settlement.status, settlement.detail
        ),
        now=now,
        archive=adoption.archive,
    )


def _period(settings: Settings, request: RunRequest, now: datetime) -> Window:
    begin = request.since
    if begin is None and settings.listing.begin:
        begin = parse_time(settings.listing.begin, now=now, timezone=settings.archive.zone)
    if begin is None:
        raise SettingsError("--adopt needs to know which calls to list: --since, or listing.begin in the settings")
    return Window(begin, request.until or now)


def _checked(settings: Settings, folder: Path) -> tuple[int, int] | None:
    """The archive's own folder, which is passed over should it lie inside.

    Raises:
        SettingsError: the folder is none, or the archive's own.
    """
    with spoken(str(folder)):
        if not folder.is_dir():
            raise SettingsError(f"--adopt {folder}: there is no such folder")
        root = settings.store.local.root
        if not root.exists():
            return None
        about = root.stat()
        if folder.samefile(root) or folder.samefile(root / ".archiver"):
            raise SettingsError(f"--adopt {folder} is the archive itself: `archiver rebuild` takes in what lies there")
        return about.st_dev, about.st_ino
