"""`archiver retention plan` and `apply`: what may go, and letting it go."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from archiver.assembly import chosen_accounts, utc_now
from archiver.commands.holding import all_holds, take_in_holds
from archiver.commands.inspection import reading_threads
from archiver.commands.policy import policy_of
from archiver.commands.restoring import Memory, memory_for_run
from archiver.destination import Destination, accept_compliance, open_destination
from archiver.errors import ArchiverError, ExitCode, LedgerError
from archiver.evidence import Evidence
from archiver.keys import KeyTemplate
from archiver.ledger.base_retention import RetentionLedger
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Outcome, Run
from archiver.ledger.values_retention import Expiring, Expiry, RetentionRow, TombstoneKind, Unfinished
from archiver.pipeline.run import Ended, Failure
from archiver.pipeline.threads import Threads, seen_through
from archiver.proof.retention.applying import TOGETHER, Hands, Left
from archiver.proof.retention.cdrs import CdrHands, decide_cdrs
from archiver.proof.retention.decide import Policy, Reason, Verdict
from archiver.proof.retention.plan import MOST_SHOWN, PlannedRecording, PlanTotals, RetentionPlan, csv_row, shown, stamp
from archiver.proof.retention.surveying import Decided, Survey
from archiver.proof.retention.tombstones import Ending, expiry_of, key_of
from archiver.recording import filed_at
from archiver.reports.retention_report import ApplyReport, first_left
from archiver.settings import Settings
from archiver.stores.lock import ArchiveLock
from archiver.stores.quarantine import Quarantine

_KEPT_FIRST = 20
_FIRST_SIGNAL_CODE = 128
_REMOVING_THREADS = 16
"""They wait for the disk together."""


@dataclass(frozen=True, slots=True)
class RetentionRequest:
    """What `retention plan` or `apply` was asked for; `at` is the date to plan for, None for now."""

    account_ids: tuple[str, ...] = ()
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The report with what the exit code needs: the error that ended it, if one did."""

    report: ApplyReport
    error: Failure | None

    def exit_code(self, *, signal: int | None) -> ExitCode:
        """The code of a command that ended like this; what is held is where it belongs, and counts as done."""
        if self.error is not None:
            return self.error.exit_code
        if signal is not None:
            return ExitCode(_FIRST_SIGNAL_CODE + signal)
        if self.report.error or self.report.not_recorded:
            return ExitCode.DESTINATION
        return ExitCode.LEFT if self.report.outcome is not Outcome.COMPLETE else ExitCode.DONE


async def run_retention_plan(
    settings: Settings,
    request: RetentionRequest,
    *,
    stop: asyncio.Event,
    each: Callable[[list[str]], object] | None = None,
    now: Callable[[], datetime] = utc_now,
) -> RetentionPlan:
    """`archiver retention plan`: what would go, and when the rest may; changes nothing, and runs beside a run.

    `each` gets every recording as a row of `plan.CSV_COLUMNS`. After `stop` is set it ends with what it has come to.

    Raises:
        ArchiverError: it can't be told.
    """
    account_ids = chosen_accounts(settings, request.account_ids) if request.account_ids else ()
    at = request.at or now().replace(microsecond=0)
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        policy = policy_of(settings, await all_holds(destination, ledger))
        survey = await survey_of(settings, destination, stack)
        totals = PlanTotals(policy, at)
        async with aclosing(survey.rows(ledger, policy, at, account_ids)) as batches:
            async for batch in batches:
                if stop.is_set():
                    break
                for planned in (decided.planned for decided in batch):
                    totals.add(planned)
                    if each is not None:
                        each(csv_row(planned))
        for file in await ledger.cdr_files():
            if file.account_id in account_ids or not account_ids:
                totals.add_cdrs(decide_cdrs(file, policy, at))
        return totals.plan()


async def run_retention_apply(
    settings: Settings, request: RetentionRequest, *, stop: asyncio.Event, now: Callable[[], datetime] = utc_now
) -> ApplyResult:
    """`archiver retention apply`: remove what the plan says, each with its tombstone first; a run of its own.

    What an earlier one left unfinished is finished first. After `stop` is set no further recording is begun.

    Raises:
        ArchiverError: it could not begin, or another run holds the archive; later, fatal errors are in the report.
    """
    account_ids = chosen_accounts(settings, request.account_ids) if request.account_ids else ()
    async with AsyncExitStack() as stack:
        begun_s = asyncio.get_running_loop().time()
        room = await opened_room(settings, stack, stop=stop, now=now)
        work = _Apply(room, stop, now())
        error: ArchiverError | None = None
        try:
            work.finished, left = await room.hands.finish()
            work.left += left
            await work.go_through(account_ids)
            await work.cdrs(account_ids)
        except ArchiverError as found:
            error = found
        sealed = await room.evidence.seal_after(Ended(None if error is None else Failure.of(error), stop.is_set()))
        not_recorded = await room.evidence.witness([])
        report = work.report(
            error=str(sealed.error) if sealed.error else None,
            not_recorded=str(not_recorded) if not_recorded else None,
            duration_s=asyncio.get_running_loop().time() - begun_s,
        )
        return ApplyResult(await room.ended(report, now()), sealed.error)


@dataclass(frozen=True, slots=True)
class Room:
    """An archive that is locked and open for removing things: what every command that does so works with."""

    settings: Settings
    destination: Destination
    ledger: RetentionLedger
    memory: Memory
    run: Run
    evidence: Evidence
    survey: Survey
    hands: Hands

    async def policy(self) -> tuple[Policy, int]:
        """The rules with the holds as they are now, and the greatest number of a hold."""
        known = await self.ledger.known_holds()
        return policy_of(self.settings, known), max((each.number for each in known), default=0)

    def tombstone_of(self, row: RetentionRow) -> str:
        """Where a recording's tombstone belongs."""
        template = KeyTemplate(self.settings.archive.key_template, self.settings.archive.zone)
        dated_at = filed_at(row.recording_id, row.called_at)
        otherwise = template.key(
            account_id=row.account_id,
            recording_id=row.recording_id,
            dated_at=dated_at,
            extension=row.extension or "mp3",
        )
        return key_of(row.objects, otherwise)

    def expiry(self, decided: Decided, kind: TombstoneKind, reference: str, at: datetime) -> Expiry:
        """What is to become of a recording that goes."""
        decision = decided.decision
        ending = Ending(
            kind, decision.rule, decision.until_at, reference, at, self.run.run_id, self.settings.archive.zone
        )
        return expiry_of(decided.row, self.tombstone_of(decided.row), ending)

    async def ended(self, report: ApplyReport, at: datetime) -> ApplyReport:
        """Note that the run ended, with as much of its report as a ledger has room for."""
        kept = msgspec.structs.replace(
            report, locked_first=report.locked_first[:_KEPT_FIRST], left=report.left[:_KEPT_FIRST]
        )
        try:
            await self.ledger.end_run(self.run, outcome=report.outcome, ended_at=at, report=msgspec.json.encode(kept))
        except LedgerError as error:
            return msgspec.structs.replace(report, error=report.error or str(error))
        await self.memory.ended(self.run)
        return report


async def opened_room(
    settings: Settings, stack: AsyncExitStack, *, stop: asyncio.Event, now: Callable[[], datetime]
) -> Room:
    """Lock the archive, bring its ledger and its holds up to date, begin a run.

    Raises:
        ArchiverError.
    """
    started_at = now().replace(microsecond=0)
    destination = open_destination(settings, durable=settings.archive.durable, make=False)
    stack.callback(destination.close)
    run_id = f"{started_at:%Y%m%dT%H%M%SZ}-retention-{secrets.token_hex(4)}"
    stack.callback(ArchiveLock(destination.folder, run_id=run_id, started_at=started_at).close)
    accept_compliance(settings, accepted=False)
    await seen_through(destination.prepare)
    memory = await memory_for_run(settings, destination, stack, stop=stop, now=now)
    ledger = memory.ledger
    await take_in_holds(destination, ledger)
    everything = {each.account_id for each in await ledger.summaries()}
    run = await ledger.begin_run(run_id, started_at=started_at, holding=everything)
    await memory.begun(run)
    threads = await stack.enter_async_context(Threads(1, "evidence"))
    evidence = Evidence(settings, destination, ledger, threads, run_id=run_id, now=now)
    survey = await survey_of(settings, destination, stack)
    removing = await stack.enter_async_context(
        Threads(max(_REMOVING_THREADS, reading_threads(settings, destination)), "removing")
    )
    quarantine = Quarantine(destination.folder)
    hands = Hands(ledger, destination.store, quarantine, removing, evidence.recorder, run, now)
    return Room(settings, destination, ledger, memory, run, evidence, survey, hands)


async def survey_of(settings: Settings, destination: Destination, stack: AsyncExitStack) -> Survey:
    """What reads sidecars and locks."""
    threads = await stack.enter_async_context(Threads(reading_threads(settings, destination), "retention"))
    return Survey(destination.store, threads, has_locks=destination.remote)


def unfinished(row: RetentionRow, expiry: Expiry) -> Unfinished:
    """What the ledger has just made of an expiry."""
    ids = row.entry_id, row.account_id, row.recording_id
    return Unfinished(*ids, expiry.key, expiry.body, expiry.kind, row.called_at)


@dataclass(slots=True)
class _Apply:
    """One application of the plan, with its counts."""

    room: Room
    stop: asyncio.Event
    at: datetime
    policy: Policy | None = None
    recordings: int = 0
    expired: int = 0
    size_bytes: int = 0
    finished: int = 0
    kept: int = 0
    held: int = 0
    locked: int = 0
    changed: int = 0
    cdr_files: int = 0
    locked_first: list[PlannedRecording] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)

    async def go_through(self, account_ids: Sequence[str]) -> None:
        """Everything that is settled, in the order of the keys.

        Raises:
            LedgerError, StoreError: what was begun is finished the next time.
        """
        self.policy, _ = await self.room.policy()
        async with aclosing(self.room.survey.rows(self.room.ledger, self.policy, self.at, account_ids)) as batches:
            async for batch in batches:
                going: list[Decided] = []
                for decided in batch:
                    self.recordings += 1
                    if decided.decision.verdict is Verdict.EXPIRE:
                        going.append(decided)
                    else:
                        self._keep(decided)
                for start in range(0, len(going), TOGETHER):
                    if self.stop.is_set():
                        self.recordings -= len(going) - start
                        return
                    await self._expire(going[start : start + TOGETHER])

    async def _expire(self, going: Sequence[Decided]) -> None:
        """Let some go, as long as no hold that was placed meanwhile covers them."""
        while going:
            policy, holds_through = await self.room.policy()
            if policy != self.policy:
                self.policy = policy
                anew = await self.room.survey.decided([each.row for each in going], policy, self.at)
                going = [each for each in anew if each.decision.verdict is Verdict.EXPIRE]
                for each in anew:
                    if each.decision.verdict is Verdict.KEEP:
                        self._keep(each)
            expiries = [self.room.expiry(each, TombstoneKind.EXPIRED, "", self.at) for each in going]
            became = await self.room.hands.expire(expiries, holds_through=holds_through)
            done: list[Unfinished] = []
            for each, expiry, what in zip(going, expiries, became, strict=True):
                self.changed += what is Expiring.CHANGED
                if what is Expiring.EXPIRED:
                    self.expired += 1
                    self.size_bytes += each.row.size_bytes
                    done.append(unfinished(each.row, expiry))
            going = [each for each, what in zip(going, became, strict=True) if what is Expiring.HELD]
            self.left += await self.room.hands.finish_these(done)

    async def cdrs(self, account_ids: Sequence[str]) -> None:
        """The archived CDRs, and what an earlier command left of them.

        Raises:
            LedgerError, StoreError: what was begun is finished the next time.
        """
        room = self.room
        hands = CdrHands(room.ledger, room.destination.store, room.survey.threads, room.evidence.recorder)
        self.cdr_files += await hands.finish(stopped=self.stop.is_set)
        noted = self.stop.is_set()
        while not noted:
            policy, holds_through = await room.policy()
            noted = await hands.expire(
                policy,
                self.at,
                holds_through=holds_through,
                account_ids=account_ids,
                has_locks=room.destination.remote,
            )
        self.cdr_files += await hands.finish(stopped=self.stop.is_set)

    def _keep(self, decided: Decided) -> None:
        match decided.decision.reason:
            case Reason.HELD:
                self.held += 1
            case Reason.LOCKED:
                self.locked += 1
                if len(self.locked_first) < MOST_SHOWN:
                    self.locked_first.append(shown(decided.planned))
            case _:
                self.kept += 1

    def report(self, *, error: str | None, not_recorded: str | None, duration_s: float) -> ApplyReport:
        """What was done."""
        outcome = Outcome.INCOMPLETE if self.locked or self.left or self.changed else Outcome.COMPLETE
        if self.stop.is_set():
            outcome = Outcome.INTERRUPTED
        if error:
            outcome = Outcome.FAILED
        return ApplyReport(
            run_id=self.room.run.run_id,
            outcome=outcome,
            at=stamp(self.at),
            recordings=self.recordings,
            expired=self.expired,
            bytes=self.size_bytes,
            finished=self.finished,
            kept=self.kept,
            held=self.held,
            locked=self.locked,
            changed=self.changed,
            cdr_files=self.cdr_files,
            locked_first=self.locked_first,
            left=first_left(self.left),
            left_total=len(self.left),
            duration_s=duration_s,
            notes=list(self.room.memory.notes),
            error=error,
            not_recorded=not_recorded,
        )
