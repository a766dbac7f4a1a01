"""What is asked of an archive without archiving: what a run would do, what there is, whether it is whole."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime

from archiver.assembly import (
    DISK_THREADS,
    RunRequest,
    access,
    chosen_accounts,
    known_ledger,
    partitions,
    periods,
    refuse_what_is_not_built,
    utc_now,
)
from archiver.destination import open_destination
from archiver.ledger.ledger import open_ledger
from archiver.pbx.session import PbxSession
from archiver.pipeline.threads import Threads
from archiver.proof.verify import VerifyReport, verify_full
from archiver.reports.plan import Planner, PlanReport, Rates
from archiver.reports.status import StatusReport, empty_account, status_report
from archiver.settings import Settings


async def run_plan(
    settings: Settings, request: RunRequest, *, compare: bool, now: Callable[[], datetime] = utc_now
) -> PlanReport:
    """`archiver plan`, and with `compare` `run --dry-run`: walks the listing, writes nothing.

    Raises:
        ArchiverError.
    """
    refuse_what_is_not_built(settings)
    at = now().replace(microsecond=0)
    account_ids = chosen_accounts(settings, request.account_ids)
    reach = access(settings)
    async with AsyncExitStack() as stack:
        ledger = await known_ledger(settings, stack) if compare or request.since is None else None
        wanted = {account_id: await periods(settings, ledger, request, account_id, at) for account_id in account_ids}
        pbx = await stack.enter_async_context(PbxSession(reach))
        rates = Rates(
            settings.transfer.requests_per_s,
            settings.transfer.bandwidth.at(at.astimezone(settings.archive.zone).time()),
        )
        planner = Planner(pbx, ledger, page_size=settings.pbx.page_size)
        return await planner.plan(
            partitions(settings, wanted, at), accounts=list(account_ids), rates=rates, free_bytes=_free_bytes(settings)
        )


async def run_status(settings: Settings) -> StatusReport:
    """`archiver status`, from the ledger alone; an archive that nobody ran yet has an empty one.

    Raises:
        SettingsError, LedgerError.
    """
    refuse_what_is_not_built(settings)
    async with AsyncExitStack() as stack:
        ledger = await known_ledger(settings, stack)
        if ledger is None:
            return StatusReport(
                accounts=[empty_account(account_id) for account_id in settings.pbx.account_ids], last_run=None
            )
        return await status_report(ledger, settings.pbx.account_ids)


async def run_verify(settings: Settings, account_ids: Sequence[str]) -> VerifyReport:
    """Read every archived object back and compare it with the ledger and its sidecar.

    Raises:
        ArchiverError.
    """
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        threads = await stack.enter_async_context(Threads(DISK_THREADS, "disk"))
        return await verify_full(ledger, destination.store, threads, account_ids)


def _free_bytes(settings: Settings) -> int | None:
    """Free space where the archive is or will be; None where nobody can tell."""
    if settings.archive.store != "local":
        return None
    folder = settings.store.local.root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
