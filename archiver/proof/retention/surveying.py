"""Decides about rows of the ledger: reads metadata and locks from the store, only where they can change something."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from archiver.errors import ObjectNotFound, StoreRefused
from archiver.keys import sidecar_key
from archiver.ledger.base_retention import RetentionLedger
from archiver.ledger.values_retention import RetentionRow
from archiver.pipeline.threads import Threads
from archiver.proof.retention.decide import Decision, Policy, Verdict
from archiver.proof.retention.plan import Planned
from archiver.proof.retention.subjects import (
    NOTHING_KNOWN,
    Facts,
    Locked,
    Subject,
    facts_of,
    facts_of_sidecar,
    subject_of,
)
from archiver.stores.base import ObjectLock, Store

_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Decided:
    """A row with what becomes of it."""

    row: RetentionRow
    subject: Subject
    decision: Decision
    is_known: bool = True

    @property
    def planned(self) -> Planned:
        """As a plan counts it."""
        key = self.row.objects[-1].key if self.row.objects else ""
        return Planned(self.subject, key, self.row.size_bytes, self.decision, self.is_known)


@dataclass(frozen=True, slots=True)
class Survey:
    """Reads what decisions need; `has_locks` where objects of the store can be locked."""

    store: Store
    threads: Threads
    has_locks: bool

    async def rows(
        self, ledger: RetentionLedger, policy: Policy, now: datetime, account_ids: Sequence[str] = ()
    ) -> AsyncGenerator[list[Decided], None]:
        """All settled recordings with what becomes of each, in batches, in the order of their keys.

        Raises:
            LedgerError, StoreError: it can't be told.
        """
        async with aclosing(ledger.retention_rows(account_ids)) as batches:
            async for batch in batches:
                yield await self.decided(batch, policy, now)

    async def decided(self, rows: Sequence[RetentionRow], policy: Policy, now: datetime) -> list[Decided]:
        """What becomes of these.

        Raises:
            StoreError: the store does not give what the decision needs; what is certainly absent is no error.
        """
        found = [_bare(row, policy, now) for row in rows]
        asked = [place for place, each in enumerate(found) if not each.is_known]
        for start in range(0, len(asked), _TOGETHER):
            some = asked[start : start + _TOGETHER]
            facts = await self.threads.run(_facts_of_all, self.store, [rows[place] for place in some])
            for place, each in zip(some, facts, strict=True):
                subject = subject_of(rows[place], each)
                decision = policy.decide(subject, now)
                found[place] = Decided(rows[place], subject, decision, is_known=each != NOTHING_KNOWN)
        if self.has_locks:
            going = [place for place, each in enumerate(found) if each.decision.verdict is Verdict.EXPIRE]
            for start in range(0, len(going), _TOGETHER):
                some = going[start : start + _TOGETHER]
                locks = await self.threads.run(_locks_of_all, self.store, [rows[place] for place in some])
                for place, lock in zip(some, locks, strict=True):
                    subject = replace(found[place].subject, lock=lock)
                    found[place] = replace(found[place], subject=subject, decision=policy.decide(subject, now))
        return found


def facts_in_store(store: Store, row: RetentionRow) -> Facts:
    """What the newest sidecar that can be read says, else the metadata that the ledger still has.

    Raises:
        StoreUnavailable, StoreDenied: the store can't tell.
    """
    for each in reversed(row.objects):
        try:
            facts = facts_of_sidecar(b"".join(store.open(sidecar_key(each.key))))
        except (ObjectNotFound, StoreRefused):
            continue
        if facts != NOTHING_KNOWN:
            return facts
    return facts_of(row.metadata)


def lock_of(store: Store, key: str) -> ObjectLock:
    """The lock of an object; none where there is no object, which a verification tells of.

    Raises:
        StoreUnavailable, StoreDenied: the store can't tell.
    """
    try:
        return store.locked_until(key)
    except ObjectNotFound:
        return ObjectLock()


def lock_in_store(store: Store, row: RetentionRow) -> Locked | None:
    """The lock of a recording's media that lasts longest; None where none is locked.

    Raises:
        StoreUnavailable, StoreDenied: the store can't tell.
    """
    longest: datetime | None = None
    for each in row.objects:
        for key in (each.key, *([sidecar_key(each.key)] if each.has_sidecar else [])):
            lock = lock_of(store, key)
            if lock.legal_hold:
                return Locked(None)
            if lock.until_at is not None:
                longest = lock.until_at if longest is None else max(longest, lock.until_at)
    return None if longest is None else Locked(longest)


def _bare(row: RetentionRow, policy: Policy, now: datetime) -> Decided:
    """A decision without metadata, which stands unless `is_known` says that they are needed."""
    subject = subject_of(row)
    return Decided(row, subject, policy.decide(subject, now), is_known=not policy.needs_facts(subject))


def _facts_of_all(store: Store, rows: Sequence[RetentionRow]) -> list[Facts]:
    return [facts_in_store(store, row) for row in rows]


def _locks_of_all(store: Store, rows: Sequence[RetentionRow]) -> list[Locked | None]:
    return [lock_in_store(store, row) for row in rows]
