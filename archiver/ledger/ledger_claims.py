"""The part of the ledger that lets many machines work on one run: claims."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from archiver.errors import AccountTaken
from archiver.ledger import fencing
from archiver.ledger.columns import milliseconds
from archiver.ledger.core import LedgerCore
from archiver.ledger.values import Run
from archiver.ledger.values_claims import Claim, ClaimRow, ClaimState, DoneBefore, Recovered


class ClaimingLedger(LedgerCore):
    """Keeps the promise of `base_claims`."""

    async def begin_claim(
        self, run: Run, account_id: str, partition: str, *, holder: str, at: datetime
    ) -> Claim | DoneBefore:
        """See the promise."""
        found = await self._writer.write(
            partial(
                fencing.begin_claim,
                run_no=run.run_no,
                account_id=account_id,
                partition=partition,
                holder=holder,
                at_ms=milliseconds(at),
            )
        )
        if found is None:
            raise AccountTaken(f"account {account_id[:64]!a}: another run works on it by now")
        return found

    def work_under(self, claim: Claim) -> None:
        """See the promise."""
        self._claim = claim

    async def end_claim(self, claim: Claim, state: ClaimState, *, at: datetime, report: bytes) -> None:
        """See the promise; outcomes that were handed over before are written first."""
        await self._writer.write(
            partial(fencing.end_claim, claim=claim, state=state, at_ms=milliseconds(at), report=report)
        )

    async def recover(self, run: Run, account_id: str) -> Recovered:
        """See the promise."""
        claim = self._claim
        if claim is None or not claim.lost:
            return Recovered()
        return await self._writer.write(partial(fencing.recover, run_no=run.run_no, account_id=account_id, claim=claim))

    async def claims(self, run: Run) -> Sequence[ClaimRow]:
        """See the promise."""
        return await self._writer.read(partial(fencing.read_claims, run_no=run.run_no))
