"""What retention asks of the ledger beyond `base`, with the same promises; in a module of its own since few need it."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Protocol

from archiver.ledger.base import Ledger
from archiver.ledger.values import Run
from archiver.ledger.values_reconciling import CdrFile
from archiver.ledger.values_retention import (
    Expiring,
    Expiry,
    Hold,
    KnownHold,
    RetentionRow,
    StoredTombstone,
    Unfinished,
)


class RetentionLedger(Ledger, Protocol):
    """A ledger that knows holds and lets recordings go. Every method may raise LedgerError."""

    async def known_holds(self) -> Sequence[KnownHold]:
        """All holds in the order of their numbers, released ones included."""
        ...

    async def add_hold(self, hold: Hold) -> bool:
        """Note a hold, durably; False when a hold of this name, whatever its case, is known, which then stays as it is."""
        ...

    async def release_hold(self, name: str, *, by: str, at: datetime, reason: str) -> Hold | None:
        """Note that a hold is released, durably; the released hold, or None when none of this name is active."""
        ...

    def retention_rows(self, account_ids: Sequence[str] = ()) -> AsyncGenerator[Sequence[RetentionRow], None]:
        """Recordings that are settled and not expired, in the order of their keys, in batches, so that memory stays flat.

        Those of all accounts, or the named ones. What is still pending is no matter for retention yet.
        """
        ...

    async def retention_row(self, account_id: str, recording_id: str) -> RetentionRow | None:
        """One recording likewise, a pending one, too; None when it is not known, or expired already."""
        ...

    async def expire(self, run: Run, expiries: Sequence[Expiry], *, holds_through: int) -> Sequence[Expiring]:
        """Make entries EXPIRED, each with its tombstone, in one transaction; what became of each, in their order.

        `holds_through` is the greatest number of a hold that was looked at: while an active one with a greater number
        is there, nothing expires. What is pending can be erased and does not expire. The metadata that were kept for
        them go; of what is erased everything goes that is about the call.
        """
        ...

    async def unfinished_expiries(self, limit: int, *, after: int = 0) -> Sequence[Unfinished]:
        """Up to `limit` expiries whose objects may still lie there, in the order of their entries, those after an entry."""
        ...

    async def removed(self, entry_ids: Sequence[int], *, at: datetime) -> None:
        """Note that nothing but their tombstones lies there any more, in one transaction."""
        ...

    async def expire_cdr_files(self, files: Sequence[CdrFile], *, at: datetime, holds_through: int) -> bool:
        """Note that these files of CDRs are about to be removed, in one transaction; False and nothing noted as `expire`.

        From then on `cdr_files` knows them no more.
        """
        ...

    async def expiring_cdr_files(self) -> Sequence[CdrFile]:
        """Those that are about to be removed."""
        ...

    async def forget_cdr_files(self, files: Sequence[CdrFile]) -> None:
        """Note that these are removed, in one transaction; the ledger has never heard of them then."""
        ...

    async def enter_tombstones(self, stored: Sequence[StoredTombstone]) -> int:
        """Make what these tombstones stand for EXPIRED, in one transaction; how many of them were new to the ledger."""
        ...
