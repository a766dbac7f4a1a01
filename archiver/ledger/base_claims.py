"""What a ledger promises to work that is done far from whoever leads the run; the same rules as in `base`.

A worker that was paused, or cut off, may wake when its partition is somebody else's. So each attempt at a partition has
a claim, every write under it looks whether the claim still holds, in the same transaction, and a later attempt ends it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from archiver.ledger.base import Ledger
from archiver.ledger.values import Run
from archiver.ledger.values_claims import Claim, ClaimRow, ClaimState, DoneBefore


class ClaimLedger(Ledger, Protocol):
    """A ledger that several workers may write."""

    async def begin_claim(
        self, run: Run, account_id: str, partition: str, *, holder: str, at: datetime
    ) -> Claim | DoneBefore:
        """Begin an attempt at a partition of a run that holds the account; an earlier attempt that goes on is lost.

        Raises:
            ClaimLost: another run holds the account by now.
        """
        ...

    def work_beside(self, run: Run) -> None:
        """From now on whatever this object writes is for a run that another process leads, as if it had begun here."""
        ...

    def work_under(self, claim: Claim) -> None:
        """From now on whatever this object writes for a run is written under a claim, or raises ClaimLost."""
        ...

    async def end_claim(self, claim: Claim, state: ClaimState, *, at: datetime, report: bytes) -> None:
        """End an attempt; of one that is DONE the report is kept for whoever asks for the partition again.

        Raises:
            ClaimLost: the partition is somebody else's.
        """
        ...

    async def claims(self, run: Run) -> Sequence[ClaimRow]:
        """All attempts of a run, in the order of their numbers."""
        ...
