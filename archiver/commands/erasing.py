"""`archiver retention erase` and `extend`: one recording at somebody's request; longer locks."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime

import msgspec

from archiver.assembly import chosen_accounts, utc_now
from archiver.commands.holding import all_holds
from archiver.commands.policy import policy_of
from archiver.commands.retaining import RetentionRequest, Room, opened_room, survey_of, unfinished
from archiver.destination import open_destination
from archiver.errors import LedgerError, ObjectNotFound, SettingsError
from archiver.evidence import Evidence
from archiver.keys import sidecar_key
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Outcome
from archiver.ledger.values_retention import Expiring, RetentionRow, TombstoneKind
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.retention_drafts import erasure_refused, extended
from archiver.proof.retention.decide import Decision, Reason
from archiver.proof.retention.plan import stamp
from archiver.proof.retention.subjects import Locked
from archiver.proof.retention.surveying import Decided, lock_in_store, lock_of
from archiver.recording import Status
from archiver.reports.retention_report import EraseReport, ExtendReport
from archiver.settings import Settings
from archiver.stores.base import Store


@dataclass(frozen=True, slots=True)
class EraseRequest:
    """What `retention erase` was asked for; `account_id` where several accounts have the id."""

    recording_id: str
    by: str
    reference: str
    account_id: str = ""


async def run_retention_erase(
    settings: Settings, request: EraseRequest, *, stop: asyncio.Event, now: Callable[[], datetime] = utc_now
) -> EraseReport:
    """`archiver retention erase`: remove one recording, or say what keeps it and until when.

    Raises:
        SettingsError: nobody has ever heard of it, or several accounts have it.
        ArchiverError: it could not be removed; what was begun is finished by the next `retention apply`.
    """
    async with AsyncExitStack() as stack:
        room = await opened_room(settings, stack, stop=stop, now=now)
        outcome = Outcome.FAILED
        try:
            report = await _answered(room, request, now())
            outcome = Outcome.COMPLETE if report.result == "erased" and report.left is None else Outcome.INCOMPLETE
            await room.evidence.seal()
            error = await room.evidence.witness([])
        finally:
            await room.ledger.end_run(room.run, outcome=outcome, ended_at=now(), report=b"{}")
            await room.memory.ended(room.run)
        return msgspec.structs.replace(report, not_recorded=str(error) if error else None)


async def _answered(room: Room, request: EraseRequest, at: datetime) -> EraseReport:
    known = [
        each
        for each in await room.ledger.histories(request.recording_id)
        if request.account_id in {"", each.account_id}
    ]
    if not known:
        raise SettingsError(f"no recording {request.recording_id[:128]!a} was ever listed in this archive's accounts")
    if len(known) > 1:
        raise SettingsError(f"{len(known)} accounts have a recording of this id: say which one with --account")
    (history,) = known
    account_id = history.account_id
    if history.status is Status.EXPIRED:
        # Perhaps it is not finished; then it is now.
        _, left = await room.hands.finish()
        mine = [each.why for each in left if each.expiry.recording_id == request.recording_id]
        tombstone = history.tombstone.key if history.tombstone is not None else ""
        return _report(room, account_id, request, "already_gone", tombstone=tombstone, left=mine)
    row = await room.ledger.retention_row(account_id, request.recording_id)
    if row is None:
        raise LedgerError(f"The ledger's entry of {request.recording_id!a} changed meanwhile; ask again.")
    while True:
        policy, holds_through = await room.policy()
        (decided,) = await room.survey.decided([row], policy, at)
        lock = await room.survey.threads.run(lock_in_store, room.survey.store, row)
        result = _refusal(decided.decision, lock, at, has_rules=bool(policy.rules))
        if result:
            return await _refused(room, request, decided, result, lock)
        expiry = room.expiry(decided, TombstoneKind.ERASED, request.reference, at)
        (became,) = await room.hands.expire([expiry], holds_through=holds_through)
        if became is Expiring.CHANGED:
            raise LedgerError(f"The ledger's entry of {request.recording_id!a} changed meanwhile; ask again.")
        if became is Expiring.EXPIRED:
            left = await room.hands.finish_these([unfinished(row, expiry)], by=request.by)
            why = [each.why for each in left]
            return _report(room, account_id, request, "erased", tombstone=expiry.key, left=why)


def _refusal(decision: Decision, lock: Locked | None, at: datetime, *, has_rules: bool) -> str:
    """Why a recording can't be erased now; empty when it can. Where no rule is for it nothing keeps it."""
    if decision.reason is Reason.HELD:
        return "held_by_hold"
    if lock is not None and (lock.until_at is None or lock.until_at > at):
        return "locked"
    if decision.reason is Reason.UNDATED:
        return "unknown_date" if has_rules else ""
    over = decision.until_at is not None and decision.until_at <= at
    return "held_by_rule" if decision.rule and not over else ""


async def _refused(
    room: Room, request: EraseRequest, decided: Decided, result: str, lock: Locked | None
) -> EraseReport:
    decision = decided.decision
    told = erasure_refused(
        room.tombstone_of(decided.row),
        result=result,
        rule=decision.rule,
        until_at=decision.until_at,
        by=request.by,
        reference=request.reference,
    )
    await room.evidence.recorder.add([told])
    return EraseReport(
        account_id=decided.row.account_id,
        recording_id=request.recording_id,
        result=result,
        rule=decision.rule,
        until=None if decision.until_at is None else stamp(decision.until_at),
        holds=list(decision.holds),
        locked_until=None if lock is None or lock.until_at is None else stamp(lock.until_at),
        tombstone="",
        run_id=room.run.run_id,
    )


def _report(
    room: Room, account_id: str, request: EraseRequest, result: str, *, tombstone: str, left: Sequence[str]
) -> EraseReport:
    return EraseReport(
        account_id=account_id,
        recording_id=request.recording_id,
        result=result,
        rule="",
        until=None,
        holds=[],
        locked_until=None,
        tombstone=tombstone,
        run_id=room.run.run_id,
        left="; ".join(left) or None,
    )


async def run_retention_extend(
    settings: Settings, request: RetentionRequest, *, stop: asyncio.Event, now: Callable[[], datetime] = utc_now
) -> ExtendReport:
    """`archiver retention extend`: lock each object for as long as a rule keeps it; longer locks stay as they are.

    Raises:
        SettingsError: the store has no locks.
        ArchiverError: what was extended stays extended; the same command does the rest.
    """
    if settings.archive.store != "s3" or not settings.store.s3.object_lock_mode:
        raise SettingsError("retention extend needs a store with locks: archive.store = 's3' and object_lock_mode")
    account_ids = chosen_accounts(settings, request.account_ids) if request.account_ids else ()
    at = now().replace(microsecond=0)
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        policy = policy_of(settings, await all_holds(destination, ledger))
        survey = await survey_of(settings, destination, stack)
        recordings = objects = count = 0
        async with aclosing(survey.rows(ledger, policy, at, account_ids)) as batches:
            async for batch in batches:
                for decided in batch:
                    until_at = decided.decision.until_at
                    if stop.is_set() or until_at is None or until_at <= at:
                        continue
                    looked, longer = await survey.threads.run(extend_locks, destination.store, decided.row, until_at)
                    recordings, objects, count = recordings + 1, objects + looked, count + longer
        error = None
        if count:
            threads = await stack.enter_async_context(Threads(1, "evidence"))
            error = await Evidence(settings, destination, ledger, threads, now=now).witness([extended(count)])
        return ExtendReport(
            recordings=recordings,
            objects=objects,
            extended=count,
            complete=not stop.is_set(),
            not_recorded=str(error) if error else None,
        )


def extend_locks(store: Store, row: RetentionRow, until_at: datetime) -> tuple[int, int]:
    """Lock a recording's objects until then; how many there are, and how many got a longer lock."""
    keys = [key for each in row.objects for key in (each.key, *([sidecar_key(each.key)] if each.has_sidecar else []))]
    longer = 0
    for key in keys:
        found = lock_of(store, key).until_at
        if found is None or found < until_at:
            try:
                store.extend_lock(key, until_at)
                longer += 1
            except ObjectNotFound:
                # A verification tells of what is not there.
                continue
    return len(keys), longer
