"""Archived CDRs of a day under retention: kept as long as any call of that day may be, and while a hold may need them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta, tzinfo

from archiver.errors import ObjectLocked
from archiver.ledger.base_retention import RetentionLedger
from archiver.ledger.values_reconciling import CdrFile
from archiver.ledger.values_retention import Hold
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import Details, Draft, What
from archiver.proof.evidence.recorder import Recorder
from archiver.proof.retention.decide import Decision, Policy, Reason, Verdict
from archiver.proof.retention.subjects import Locked, Subject
from archiver.proof.retention.surveying import lock_of
from archiver.stores.base import Store

_CDRS = "cdrs"


def decide_cdrs(file: CdrFile, policy: Policy, now: datetime, lock: Locked | None = None) -> Decision:
    """What becomes of a day's file: counted from the day's end, under every rule that may be for one of its calls.

    Any active hold of the account that touches the day covers it, whatever else it asks for: one of its CDRs may be meant.
    """
    start_at, end_at = _day(file, policy.timezone)
    holding = tuple(hold.name for hold in policy.holds if _touches(hold, file.account_id, start_at, end_at))
    decision = replace(policy, holds=()).decide(Subject(file.account_id, "", end_at, lock=lock), now)
    if holding:
        return Decision(Verdict.KEEP, Reason.HELD, decision.rule, decision.until_at, holding)
    return decision


@dataclass(frozen=True, slots=True)
class CdrHands:
    """Removes files of CDRs: ledger, audit trail, then the object; killed between, the next time finishes."""

    ledger: RetentionLedger
    store: Store
    threads: Threads
    recorder: Recorder

    async def expire(
        self, policy: Policy, now: datetime, *, holds_through: int, account_ids: Sequence[str], has_locks: bool
    ) -> bool:
        """Note which files' time is over; False when a hold came in between, and nothing was noted.

        Raises:
            LedgerError, StoreError.
        """
        going: list[tuple[CdrFile, Decision]] = []
        for file in await self.ledger.cdr_files():
            if account_ids and file.account_id not in account_ids:
                continue
            decision = decide_cdrs(file, policy, now)
            if decision.verdict is Verdict.EXPIRE and has_locks:
                lock = await self.threads.run(_lock, self.store, file.key)
                decision = decide_cdrs(file, policy, now, lock)
            if decision.verdict is Verdict.EXPIRE:
                going.append((file, decision))
        if not going:
            return True
        return await self.ledger.expire_cdr_files([file for file, _ in going], at=now, holds_through=holds_through)

    async def finish(self, *, stopped: Callable[[], bool]) -> int:
        """Remove what was noted; how many files. What is locked after all stays for the next time.

        Raises:
            LedgerError, StoreError.
        """
        files = await self.ledger.expiring_cdr_files()
        if not files:
            return 0
        # Told again after a kill, rather than not at all.
        await self.recorder.add([_draft(file) for file in files])
        removed: list[CdrFile] = []
        for file in files:
            if stopped():
                break
            try:
                await self.threads.run(self.store.delete, file.key)
            except ObjectLocked:
                continue
            removed.append(file)
        await self.ledger.forget_cdr_files(removed)
        return len(removed)


def _draft(file: CdrFile) -> Draft:
    details = Details(kind=_CDRS, sha256=file.fixity.sha256.hex(), size_bytes=file.fixity.size_bytes, lines=file.rows)
    return Draft(What.EXPIRED, file.key, "removed", details)


def _day(file: CdrFile, timezone: tzinfo) -> tuple[datetime, datetime]:
    start = datetime.combine(file.day, time(), timezone)
    end = datetime.combine(file.day + timedelta(days=1), time(), timezone)
    return start.astimezone(UTC), end.astimezone(UTC)


def _touches(hold: Hold, account_id: str, start_at: datetime, end_at: datetime) -> bool:
    if not hold.is_active or hold.account_id not in {"", account_id}:
        return False
    begins = hold.since_at is None or hold.since_at < end_at
    return begins and (hold.until_at is None or hold.until_at > start_at)


def _lock(store: Store, key: str) -> Locked | None:
    found = lock_of(store, key)
    if found.legal_hold:
        return Locked(None)
    return None if found.until_at is None else Locked(found.until_at)
