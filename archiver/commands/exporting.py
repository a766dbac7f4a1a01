"""`archiver export`: from conditions to a bag that is handed out only when the audit trail says so."""

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from archiver import __version__
from archiver.assembly import utc_now
from archiver.commands.inspection import reading_threads
from archiver.destination import Destination, open_destination
from archiver.errors import SettingsError, StoreError
from archiver.evidence import Evidence, who
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values_exporting import Sought
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import Draft
from archiver.proof.export.audit_drafts import NOT_HANDED_OUT, exported, nothing_exported
from archiver.proof.export.bagging import Bag, build_bag
from archiver.proof.export.gathering import Gathered, gather
from archiver.proof.export.letter import Asked
from archiver.proof.export.report import MOST_NAMED, ExportOutcome, ExportReport, NotArchived
from archiver.proof.export.selection import Conditions
from archiver.settings import Settings
from archiver.stores.bag_folder import BagFolder
from archiver.stores.trail_file import TrailFile
from archiver.window import Window

_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_LONGEST_TEXT = 200
_LONGEST_ID = 1024


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What `archiver export` was asked for; `by` is who is signed in unless somebody else is named."""

    case: str
    to: Path
    period: Window | None = None
    account_ids: tuple[str, ...] = ()
    parties: tuple[str, ...] = ()
    call_ids: tuple[str, ...] = ()
    recording_ids: tuple[str, ...] = ()
    ids_file: Path | None = None
    reference: str = ""
    by: str = ""


async def run_export(
    settings: Settings, request: ExportRequest, *, stop: asyncio.Event, now: Callable[[], datetime] = utc_now
) -> ExportReport:
    """Export what fits into a bag under `request.to`; runs beside a run, and changes nothing but the audit trail.

    The bag has its name only when everything in it is written, read back, durable and in the audit trail. After an error,
    or `stop`, none of it is left; a process that is killed leaves a folder whose name ends in `.part`.

    Raises:
        SettingsError: the request makes no sense, or its folder can't be used.
        ArchiverError: there is no bag.
    """
    conditions = await asyncio.to_thread(_conditions, request)
    at = now().replace(microsecond=0)
    asked = Asked(
        request.case, request.reference, request.by or who(), who(), at, conditions, timezone=settings.archive.zone
    )
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=settings.archive.durable, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        await _know_accounts(ledger, request.account_ids)
        folder = await asyncio.to_thread(
            BagFolder,
            request.to,
            f"{request.case}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}",
            root=settings.store.local.root,
            durable=settings.archive.durable,
        )
        # On the way out the threads, which come after it, are waited for first.
        stack.push_async_callback(asyncio.to_thread, folder.discard)
        threads = await stack.enter_async_context(Threads(reading_threads(settings, destination), "export"))
        evidence = Evidence(settings, destination, ledger, threads, now=now)
        work = _Work(ledger, destination, threads, evidence, folder, asked, stop)
        return await work.done()


@dataclass(frozen=True, slots=True)
class _Work:
    """One export on its way."""

    ledger: Ledger
    destination: Destination
    threads: Threads
    evidence: Evidence
    folder: BagFolder
    asked: Asked
    stop: asyncio.Event

    async def done(self) -> ExportReport:
        """Everything from the first look to the bag's name."""
        conditions = self.asked.conditions
        gathered = await gather(self.ledger, self.destination.store, self.threads, conditions, stop=self.stop)
        wanted = conditions.sought.recording_ids | conditions.call_ids
        not_found = sorted(wanted - gathered.ids_seen)
        report = self._begun(gathered, not_found)
        if self.stop.is_set():
            return msgspec.structs.replace(report, outcome=ExportOutcome.INTERRUPTED)
        if not gathered.chosen:
            await self._record([nothing_exported(self.asked)])
            return report
        bag = await build_bag(
            self.ledger,
            self.destination.store,
            TrailFile(self.destination.folder),
            self.threads,
            self.folder,
            self.asked,
            gathered,
            not_found=not_found,
            software=f"recording-archiver {__version__}",
            stop=self.stop,
        )
        if bag is None:
            return msgspec.structs.replace(report, outcome=ExportOutcome.INTERRUPTED)
        return self._ended(report, bag, await self._hand_out(bag, len(gathered.chosen)))

    async def _hand_out(self, bag: Bag, recordings: int) -> Path:
        """Audit trail first: a bag of which it says nothing must not be there."""
        name = self.folder.name
        await self._record(list(exported(self.asked, bag, name, recordings=recordings)))
        try:
            return await self.threads.run(self.folder.publish)
        except StoreError:
            drafts = exported(self.asked, bag, name, recordings=recordings, result=NOT_HANDED_OUT)
            await self.evidence.witness(list(drafts))
            raise

    async def _record(self, drafts: Sequence[Draft]) -> None:
        await self.evidence.recorder.add(drafts)
        await self.evidence.copy()

    def _begun(self, gathered: Gathered, not_found: Sequence[str]) -> ExportReport:
        leftovers = self.folder.leftovers
        return ExportReport(
            case=self.asked.case,
            reference=self.asked.reference,
            by=self.asked.by,
            outcome=ExportOutcome.NOTHING,
            recordings=len(gathered.chosen),
            not_found=list(not_found[:MOST_NAMED]),
            not_found_total=len(not_found),
            undecided=gathered.undecided,
            findings=gathered.findings[:MOST_NAMED],
            findings_total=len(gathered.findings),
            notes=[
                f"{name} lies in the folder: an export is at work there, or was killed; then it can be removed."
                for name in leftovers[:MOST_NAMED]
            ],
        )

    def _ended(self, report: ExportReport, bag: Bag, path: Path) -> ExportReport:
        findings = [*report.findings, *bag.findings]
        findings_total = report.findings_total + len(bag.findings)
        waiting = [each.known for each in bag.handed if each.version is None]
        left = bool(findings_total or waiting or report.not_found_total or report.undecided)
        return msgspec.structs.replace(
            report,
            outcome=ExportOutcome.INCOMPLETE if left else ExportOutcome.COMPLETE,
            bag=str(path),
            manifest_sha256=bag.manifest_sha256,
            exported=len(bag.media),
            bytes=sum(each.version.fixity.size_bytes for each in bag.media if each.version is not None),
            cdrs=bag.cdrs.rows,
            audit_records=bag.audit_records,
            not_archived=[
                NotArchived(
                    account_id=known.account_id,
                    recording_id=known.recording_id,
                    status=known.status.value,
                    reason=known.reason,
                )
                for known in waiting[:MOST_NAMED]
            ],
            not_archived_total=len(waiting),
            findings=findings[:MOST_NAMED],
            findings_total=findings_total,
        )


def _conditions(request: ExportRequest) -> Conditions:
    """The request, checked.

    Raises:
        SettingsError: with what is allowed.
    """
    if not _CASE.match(request.case) or request.case.endswith("."):
        raise SettingsError(
            f"--case {request.case[:80]!a} must be up to 64 letters, digits, . _ - and begin with a letter or digit: it "
            "becomes the name of a folder"
        )
    texts = {"--reference": (request.reference,), "--by": (request.by,), "--party": request.parties}
    for option, given in texts.items():
        for text in given:
            if len(text) > _LONGEST_TEXT or not text.isprintable():
                raise SettingsError(f"{option} {text[:80]!a} must be one line of up to {_LONGEST_TEXT} letters")
    named = {"--account": request.account_ids, "--party": request.parties, "--call-id": request.call_ids}
    for option, given in (named | {"--id": request.recording_ids}).items():
        if not all(text.strip() for text in given):
            raise SettingsError(f"{option} must not be empty")
    ids = frozenset(request.recording_ids) | (_ids_of(request.ids_file) if request.ids_file else frozenset())
    conditions = Conditions(
        Sought(request.account_ids, request.period, ids), request.parties, frozenset(request.call_ids)
    )
    if conditions.is_empty:
        raise SettingsError(
            "export needs to know what: give at least one of --since, --account, --party, --call-id, --id, --ids-file"
        )
    return conditions


def _ids_of(path: Path) -> frozenset[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise SettingsError(f"--ids-file {str(path)!a}: {error.strerror or error}") from None
    except ValueError:
        raise SettingsError(f"--ids-file {str(path)!a} must be text in UTF-8, one id a line") from None
    ids = frozenset(line.strip() for line in lines if line.strip())
    if not ids:
        raise SettingsError(f"--ids-file {str(path)!a} names no id: it must have one a line")
    if any(len(each) > _LONGEST_ID for each in ids):
        raise SettingsError(f"--ids-file {str(path)!a} must have one id a line; one of its lines is too long for that")
    return ids


async def _know_accounts(ledger: Ledger, account_ids: Sequence[str]) -> None:
    """See that the ledger has heard of them; they need not be in the settings any more.

    Raises:
        SettingsError: one is unknown.
    """
    if account_ids:
        known = {summary.account_id for summary in await ledger.summaries(account_ids)}
        for account_id in account_ids:
            if account_id not in known:
                raise SettingsError(f"--account {account_id[:64]!a} has nothing in this archive")
