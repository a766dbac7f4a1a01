"""`archiver verify --repair`: verifies with the archive's lock held, then repairs in a run of its own."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime

import msgspec

from archiver.assembly import access, hands_for, limits_for, make_bench, utc_now
from archiver.commands.inspection import VerifyRequest, examined, reading_threads
from archiver.destination import Destination, accept_compliance, open_destination
from archiver.engine.base import Watcher
from archiver.engine.here import Here
from archiver.errors import LedgerError
from archiver.evidence import Evidence
from archiver.ledger.base_repair import RepairLedger
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Outcome, Run
from archiver.pbx.session import PbxSession
from archiver.pipeline.run import Ended
from archiver.pipeline.threads import Threads, seen_through
from archiver.proof.evidence import audit_drafts
from archiver.proof.mending.repair import Bounds, Mending, deepened, left_alone, mend_all, told
from archiver.proof.mending.repairs import Action, repairs_of
from archiver.proof.verification.findings import findings_of
from archiver.proof.verification.readers import Reader
from archiver.proof.verification.verify import Level, Verified, VerifyReport, entries_of
from archiver.settings import Settings
from archiver.stores.lock import ArchiveLock

_KEPT_FINDINGS = 200
"""So many stand in the ledger's copy of the report."""


async def run_repair(
    settings: Settings,
    request: VerifyRequest,
    *,
    stop: asyncio.Event,
    watcher: Watcher,
    reader: Reader | None = None,
    now: Callable[[], datetime] = utc_now,
) -> VerifyReport:
    """Verify, then repair each finding that can be repaired; the PBX is asked for nothing when there is none.

    What *full* reads is read by `reader`, without one in this process; repairs are made here.

    Raises:
        ArchiverError: the verification is not possible, or another run holds the archive; once repairs have begun,
            fatal errors are in the report.
    """
    reach = access(settings)
    async with AsyncExitStack() as stack:
        started_at = now().replace(microsecond=0)
        destination = open_destination(settings, durable=settings.archive.durable, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(_close, ledger)
        run_id = f"{started_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        lock = ArchiveLock(destination.folder, run_id=run_id, started_at=started_at)
        stack.callback(lock.close)
        found = await _found(settings, request, destination, ledger, stop=stop, now=now, reader=reader)
        repairs = repairs_of(found.report.findings, found.entries)
        if stop.is_set() or all(repair.action is Action.LEAVE for repair in repairs):
            return _report(found, left_alone(repairs, "not done: interrupted" if stop.is_set() else ""))
        accept_compliance(settings, accepted=False)
        await seen_through(destination.make_writable)
        everything = {each.account_id for each in await ledger.summaries()}
        the_run = await ledger.begin_run(run_id, started_at=started_at, holding=everything)
        pbx = await stack.enter_async_context(PbxSession(reach))
        hands = await hands_for(settings, destination, stack)
        bench = make_bench(settings, pbx, destination, hands, Here((), stop, watcher), run_id=run_id, now=now)
        bounds = Bounds(limits_for(settings).fetching, settings.pbx.page_size, settings.transfer.grace_s)
        mending = await mend_all(repairs, bench, ledger, the_run, bounds, stop=stop, give_up=destination.give_up)
        report = _report(found, mending, run_id)
        evidence = Evidence(
            settings,
            destination,
            ledger,
            await stack.enter_async_context(Threads(1, "evidence")),
            run_id=run_id,
            now=now,
        )
        sealed = await evidence.seal_after(Ended(mending.error, stop.is_set()))
        error = await evidence.witness(list(audit_drafts.repairs(report)))
        report = msgspec.structs.replace(
            report,
            error=report.error or (str(sealed.error) if sealed.error else None),
            not_recorded=str(error) if error else report.not_recorded,
        )
        try:
            await _end(ledger, the_run, report, stopped=stop.is_set(), at=now())
        except LedgerError as error:
            # What was repaired is durable; only that the run ended could not be written down.
            report = msgspec.structs.replace(report, error=report.error or str(error))
        return report


async def _found(
    settings: Settings,
    request: VerifyRequest,
    destination: Destination,
    ledger: RepairLedger,
    *,
    stop: asyncio.Event,
    now: Callable[[], datetime],
    reader: Reader | None,
) -> Verified:
    """What a verification finds; where it read nothing, each recording that something is wrong with is read whole."""
    found = await examined(settings, request, destination, ledger, stop=stop, busy_at=None, now=now, reader=reader)
    if request.level is Level.FULL or not found.entries or stop.is_set():
        return found
    async with Threads(reading_threads(settings, destination), "look") as threads:
        facts = await deepened(found.facts, destination.store, threads, sidecars=settings.archive.sidecar, stop=stop)
    report = msgspec.structs.replace(found.report, findings=findings_of(facts))
    return Verified(report, facts, entries_of(facts))


def _report(found: Verified, mending: Mending, run_id: str | None = None) -> VerifyReport:
    findings = told(found.report.findings, mending)
    return msgspec.structs.replace(
        found.report,
        findings=findings,
        repaired=sum(finding.repaired for finding in findings),
        repair_run_id=run_id,
        error=str(mending.error) if mending.error else None,
    )


async def _close(ledger: RepairLedger) -> None:
    """Close it; that it was broken is in the report already."""
    with suppress(LedgerError):
        await ledger.close()


async def _end(ledger: RepairLedger, run: Run, report: VerifyReport, *, stopped: bool, at: datetime) -> None:
    """Note how the run ended, with as much of its report as a ledger has room for."""
    outcome = Outcome.COMPLETE if report.repaired == len(report.findings) else Outcome.INCOMPLETE
    if stopped:
        outcome = Outcome.INTERRUPTED
    if report.error:
        outcome = Outcome.FAILED
    kept = msgspec.structs.replace(report, findings=report.findings[:_KEPT_FINDINGS])
    await ledger.end_run(run, outcome=outcome, ended_at=at, report=msgspec.json.encode(kept))
