"""What is asked of an archive without archiving: what a run would do, what there is, whether it is whole."""

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

import msgspec

from archiver.assembly import (
    RunRequest,
    access,
    chosen_accounts,
    known_ledger,
    partitions,
    periods,
    utc_now,
)
from archiver.commands.holding import all_holds
from archiver.commands.policy import policy_of
from archiver.commands.working import open_elsewhere
from archiver.destination import Destination, open_destination
from archiver.errors import SettingsError, StoreError
from archiver.evidence import Evidence
from archiver.keys import sidecar_key, tombstone_key
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Version
from archiver.pipeline.threads import Threads, seen_through
from archiver.proof.evidence.audit_drafts import looked_up
from archiver.proof.retention.surveying import Survey
from archiver.proof.verification.inventory import Expected
from archiver.proof.verification.readers import Reader, read_partition
from archiver.proof.verification.reading import Looked
from archiver.proof.verification.sampling import SampleTurn
from archiver.proof.verification.verify import Level, Scope, Verified, VerifyReport, verify
from archiver.reports.explain import ExplainReport, explained
from archiver.reports.explained_proof import proof_of
from archiver.reports.plan import Planner, PlanReport, Rates
from archiver.reports.status import StatusReport, status_report
from archiver.settings import Settings
from archiver.settings.sections import LedgerSettings, MonitoringSettings, PbxSettings
from archiver.stores.base import Store
from archiver.stores.lock import held_by
from archiver.window import Window


async def run_plan(
    settings: Settings, request: RunRequest, *, compare: bool, now: Callable[[], datetime] = utc_now
) -> PlanReport:
    """`archiver plan`, and with `compare` `run --dry-run`: walks the listing, writes nothing.

    Raises:
        ArchiverError.
    """
    # With all of aiohttp behind it, which no other command here needs.
    from archiver.pbx.session import PbxSession

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


async def run_status(
    settings: Settings, *, max_age: timedelta | None = None, now: Callable[[], datetime] = utc_now
) -> StatusReport:
    """`archiver status`, from the ledger alone; an archive that nobody ran yet has an empty one.

    With `max_age` it says what is older than that, of the accounts in the settings; an archive without a ledger is.

    Raises:
        SettingsError, LedgerError.
    """
    async with AsyncExitStack() as stack:
        ledger = await known_ledger(settings, stack)
        return await status_report(ledger, settings.pbx.account_ids, now=now(), max_age=max_age)


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What `archiver verify` was asked for; `sample_percent` takes the next share of everything."""

    level: Level = Level.FULL
    period: Window | None = None
    sample_percent: float | None = None


async def run_verify(
    settings: Settings,
    request: VerifyRequest,
    *,
    stop: asyncio.Event,
    reader: Reader | None = None,
    now: Callable[[], datetime] = utc_now,
) -> VerifyReport:
    """`archiver verify`: compare ledger, sidecars and stored objects, both ways. Runs beside a run, and changes nothing.

    What *full* reads is read by `reader`, without one in this process. The audit trail and the manifests are looked at as
    well, and the trail says what was found.

    Raises:
        ArchiverError: the comparison itself is not possible.
    """
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        busy = await asyncio.to_thread(held_by, destination.folder) is not None
        busy_at = now() if busy else None
        found = await examined(
            settings, request, destination, ledger, stop=stop, busy_at=busy_at, now=now, reader=reader
        )
        return found.report


@dataclass(frozen=True, slots=True)
class ReadShare:
    """What everybody who reads for a verification must know; it can go to another machine, and holds no password."""

    settings: Settings

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Reading needs the destination alone: neither the PBX, nor the ledger, nor whom to notify."""
        bare = {"pbx": PbxSettings(), "ledger": LedgerSettings(), "monitoring": MonitoringSettings()}
        return cls(settings.model_copy(update=bare))


async def read_elsewhere(share: ReadShare, portion: Sequence[Expected], *, stop: asyncio.Event) -> list[Looked]:
    """Read a partition of a verification (`Reader.read`) that another process leads; changes nothing.

    After `stop` is set it ends with the object under way.

    Raises:
        ArchiverError: the destination can't be opened here.
    """
    settings = share.settings
    async with AsyncExitStack() as stack:
        destination = await seen_through(lambda: open_elsewhere(settings))
        stack.callback(destination.close)
        threads = await stack.enter_async_context(Threads(reading_threads(settings, destination), "verify"))
        return await read_partition(destination.store, threads, portion, stop.is_set)


async def examined(
    settings: Settings,
    request: VerifyRequest,
    destination: Destination,
    ledger: Ledger,
    *,
    stop: asyncio.Event,
    busy_at: datetime | None,
    now: Callable[[], datetime],
    reader: Reader | None = None,
) -> Verified:
    """A verification of an open archive; `busy_at` is the time now while a run is active, else None.

    Raises:
        ArchiverError: the comparison itself is not possible.
    """
    folder = destination.folder
    turn = SampleTurn(Path(folder.path) / ".archiver", request.sample_percent)
    scope = Scope(
        request.level,
        request.period,
        share_from=turn.share_from,
        share=turn.share,
        sidecars=settings.archive.sidecar,
    )
    async with Threads(reading_threads(settings, destination), "verify") as threads:
        evidence = Evidence(settings, destination, ledger, threads, now=now)
        # Before this verification's own records.
        of_evidence = await evidence.findings(scope, stopped=stop.is_set)
        stale = [] if busy_at or request.period else await asyncio.to_thread(folder.temporaries.leftovers)
        found = await verify(
            ledger, destination.store, threads, scope, stop=stop, stale=stale, busy_at=busy_at, reader=reader
        )
        report = msgspec.structs.replace(found.report, findings=[*of_evidence, *found.report.findings])
        if report.complete:
            await asyncio.to_thread(turn.done)
        return replace(found, report=await evidence.note(report, scope))


async def run_explain(settings: Settings, recording_id: str) -> ExplainReport:
    """`archiver explain`: everything known of one recording, and what the store shows of it now.

    The audit trail says that somebody looked; where it can't, the report tells why.

    Raises:
        SettingsError: nobody has ever heard of it.
        ArchiverError.
    """
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        threads = await stack.enter_async_context(Threads(1, "explain"))
        evidence = Evidence(settings, destination, ledger, threads)
        policy = policy_of(settings, await all_holds(destination, ledger))
        survey = Survey(destination.store, threads, has_locks=destination.remote)
        found = []
        for known in await ledger.histories(recording_id):
            shown = [await threads.run(_shown, destination.store, version) for version in known.versions]
            keys = {key for each in known.versions for key in (each.key, sidecar_key(each.key))}
            keys |= {tombstone_key(each.key) for each in known.versions}
            if known.tombstone is not None:
                keys.add(known.tombstone.key)
            proven = proof_of(known, await evidence.records_of(keys), settings.archive.zone)
            row = await ledger.retention_row(known.account_id, recording_id) if known.versions else None
            decided = await survey.decided([row] if row is not None else [], policy, utc_now())
            found.append(explained(known, shown, proven, decided[0].decision if decided else None))
        if not found:
            raise SettingsError(f"no recording {recording_id[:128]!a} was ever listed in this archive's accounts")
        error = await evidence.witness([looked_up(recording_id, [each.account_id for each in found])])
        return ExplainReport(recording_id=recording_id, found=found, not_recorded=None if error is None else str(error))


def _shown(store: Store, version: Version) -> str:
    try:
        head = store.head(version.key)
    except StoreError as error:
        return f"can't tell: {error}"
    if head is None:
        return "gone"
    same = head.size_bytes == version.fixity.size_bytes and head.sha256 in {None, version.fixity.sha256}
    return "present" if same else f"differs: {head.size_bytes} bytes"


def reading_threads(settings: Settings, destination: Destination) -> int:
    """Digests need no interpreter: as many as there are cores; a remote store waits for the network instead."""
    return settings.transfer.concurrency if destination.remote else max(2, os.cpu_count() or 2)


def _free_bytes(settings: Settings) -> int | None:
    """Free space where the archive is or will be; None where nobody can tell."""
    if settings.archive.store != "local":
        return None
    folder = settings.store.local.root
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free
    except OSError:
        return None
